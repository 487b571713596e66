//! What of the log is where: which records are in memory, which in which segment.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use super::record::Record;
use super::recovery::Recovered;
use super::segment::{Mark, Position, Segment, remember};
use super::vote::StoredVote;

/// The log's books, under one lock that is never held over I/O.
pub(crate) struct State {
    /// Oldest first; the last one is being written.
    pub(crate) segments: VecDeque<Segment>,
    /// The newest records, without gaps up to the last one.
    tail: VecDeque<Record>,
    tail_bytes: usize,
    /// The index of the first record that is not durable in a segment.
    written: u64,
    /// The last forgotten entry; records up to it are not shown even while their segment is there.
    pub(crate) purged: Option<Position>,
    /// The last entry, or the last forgotten one when there is none.
    pub(crate) last: Option<Position>,
    /// Grows when records are taken back.
    pub(crate) generation: u64,
    /// Why nothing can be written any more.
    pub(crate) failed: Option<String>,
    pub(crate) vote: Option<StoredVote>,
    pub(crate) appended_bytes: u64,
    pub(crate) syncs: u64,
}

/// Where records are.
pub(crate) enum Place {
    /// Here they are; none when the log has none of them.
    Memory(Vec<Record>),
    /// In this segment are those from `from` on, before `to`.
    Disk { segment: Segment, from: u64, to: u64 },
}

impl State {
    pub(crate) fn new(recovered: Recovered, vote: Option<StoredVote>) -> State {
        let segments: VecDeque<Segment> = recovered.segments.into();
        State {
            written: next_index(recovered.last),
            purged: segments.front().and_then(|segment| segment.header.previous),
            last: recovered.last,
            segments,
            tail: VecDeque::new(),
            tail_bytes: 0,
            generation: 0,
            failed: None,
            vote,
            appended_bytes: 0,
            syncs: 0,
        }
    }

    /// Takes records into memory.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if let Some(reason) = &self.failed {
            return Err(failure(reason));
        }
        for record in records {
            // A log that has never had an entry may start anywhere.
            if self.last.is_some_and(|last| record.index != last.index + 1 || record.term < last.term) {
                let Record { index, term, .. } = record;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("entry {index} of term {term} does not follow {:?}", self.last),
                ));
            }
            self.last = Some(position(record));
            self.tail_bytes += record.stored_len();
            self.tail.push_back(record.clone());
        }
        Ok(())
    }

    /// Finds the records from `from` on, before `to`.
    pub(crate) fn find(&self, from: u64, to: u64, bytes_max: usize) -> Place {
        let from = from.max(next_index(self.purged)).max(self.first_index());
        let to = to.min(next_index(self.last));
        if from >= to {
            return Place::Memory(Vec::new());
        }
        let tail_first = self.tail_first();
        if from >= tail_first {
            let mut taken = 0;
            let skip = (from - tail_first) as usize;
            let wanted = self.tail.iter().skip(skip).take((to - from) as usize);
            let records = wanted.take_while(|record| {
                let first = taken == 0;
                taken += record.stored_len();
                first || taken <= bytes_max
            });
            return Place::Memory(records.cloned().collect());
        }
        let at = self.segments.partition_point(|segment| segment.header.first_index <= from);
        let segment = self.segments[at - 1].clone();
        let to = to.min(segment.next_index).min(tail_first);
        Place::Disk { segment, from, to }
    }

    pub(crate) fn in_memory(&self, from: u64) -> bool {
        from >= self.tail_first()
    }

    /// The segment that is written now has these records, too, up to byte `end`, durably.
    pub(crate) fn written(&mut self, next_index: u64, end: u32, marks: &[Mark], cache_bytes: usize) {
        let segment = self.segments.back_mut().expect("a segment is made before records are written to it");
        self.syncs += 1;
        self.appended_bytes += u64::from(end - segment.end);
        segment.next_index = next_index;
        segment.end = end;
        for mark in marks {
            remember(&mut segment.marks, *mark);
        }
        self.written = next_index;
        while self.tail_bytes > cache_bytes && self.tail_first() < self.written {
            self.drop_oldest();
        }
    }

    /// Forgets up to `upto`, an entry of the log, and returns the segments that hold nothing else, oldest first.
    pub(crate) fn purge(&mut self, upto: Position) -> Vec<PathBuf> {
        self.purged = self.purged.max(Some(upto));
        while self.tail_first() <= upto.index.min(self.written.saturating_sub(1)) && !self.tail.is_empty() {
            self.drop_oldest();
        }
        let mut removable = Vec::new();
        while self.segments.len() > 1 && self.segments[0].next_index <= upto.index + 1 {
            removable.extend(self.segments.pop_front().map(|segment| segment.path));
        }
        removable
    }

    /// The last entry of the newest segment that only older bytes than the newest `bytes` are in.
    pub(crate) fn beyond(&self, bytes: u64) -> Option<u64> {
        let mut newer = 0;
        for segment in self.segments.iter().rev() {
            if newer >= bytes {
                return segment.next_index.checked_sub(1);
            }
            newer += u64::from(segment.end);
        }
        None
    }

    /// Forgets the records after `keep`.
    pub(crate) fn truncate(&mut self, keep: Option<Position>) {
        self.generation += 1;
        let keep = keep.max(self.purged);
        if next_index(keep) >= next_index(self.last) {
            return;
        }
        self.last = keep;
        let next = next_index(self.last);
        while self.tail.back().is_some_and(|record| record.index >= next) {
            let record = self.tail.pop_back().expect("it was just there");
            self.tail_bytes -= record.stored_len();
        }
        self.written = self.written.min(next);
    }

    /// Forgets everything: the log goes on after `at`, in `segment`. Returns the segments to remove, oldest first.
    pub(crate) fn start_over(&mut self, at: Position, segment: Segment) -> Vec<PathBuf> {
        self.generation += 1;
        self.tail.clear();
        self.tail_bytes = 0;
        self.purged = Some(at);
        self.last = Some(at);
        self.written = at.index + 1;
        let old = std::mem::take(&mut self.segments);
        self.segments.push_back(segment);
        old.into_iter().map(|segment| segment.path).collect()
    }

    /// The index of the first record in memory; of the next one when there is none.
    fn tail_first(&self) -> u64 {
        next_index(self.last) - self.tail.len() as u64
    }

    /// The index of the first record that is there.
    fn first_index(&self) -> u64 {
        let segment = self.segments.front();
        segment.map_or(self.tail_first(), |segment| segment.header.first_index)
    }

    fn drop_oldest(&mut self) {
        if let Some(record) = self.tail.pop_front() {
            self.tail_bytes -= record.stored_len();
        }
    }
}

/// The index after `position`.
pub(crate) fn next_index(position: Option<Position>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

/// Where a record is in the log.
pub(crate) fn position(record: &Record) -> Position {
    Position { term: record.term, index: record.index }
}

/// The error of everything that is asked for after a failure.
pub(crate) fn failure(reason: &str) -> io::Error {
    io::Error::other(format!("the log has failed and takes nothing more: {reason}"))
}
