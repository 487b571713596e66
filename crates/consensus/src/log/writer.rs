//! The flusher thread: the only one that writes to the log's directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::disk::Disk;
use super::record::Record;
use super::segment::{Mark, Position, Segment, SegmentHeader};
use super::state::{failure, position};
use super::vote::{self, StoredVote};
use super::{Done, Shared};

/// One sync takes at most this many bytes of records along (and always one append), so that the first of them does not wait long.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes handed to the kernel at once.
const WRITE_BYTES: usize = 1 << 20;

/// Something to write, in order.
pub(crate) enum Job {
    Append { records: Vec<Record>, done: Done },
    Vote { vote: StoredVote, done: Done },
    Truncate { keep: Option<Position>, done: Done },
    StartOver { at: Position, done: Done },
}

impl Job {
    /// Whom to tell.
    pub(crate) fn done(self) -> Done {
        match self {
            Job::Append { done, .. } | Job::Vote { done, .. } => done,
            Job::Truncate { done, .. } | Job::StartOver { done, .. } => done,
        }
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    removals: Sender<PathBuf>,
    /// The segment that is written; `None` before the first record of all.
    active: Option<Active>,
    last: Option<Position>,
    /// Encoded and not yet written.
    buffer: Vec<u8>,
}

/// The segment at the end of the log.
struct Active {
    segment: Segment,
    /// Bytes in the file, durable or not; the buffer comes after.
    written: u32,
    /// Bytes that are durable.
    synced: u32,
    /// Places of records since the last publication.
    marks: Vec<Mark>,
    /// The index after the last record, buffer included.
    next_index: u64,
}

impl Active {
    fn of(segment: Segment) -> Active {
        Active { written: segment.end, synced: segment.end, next_index: segment.next_index, marks: Vec::new(), segment }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, removals: Sender<PathBuf>) -> Writer {
        let (active, last) = {
            let state = shared.state.lock();
            (state.segments.back().cloned().map(Active::of), state.last)
        };
        Writer { shared, removals, active, last, buffer: Vec::new() }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| queue.recv().ok()) {
            match job {
                Job::Append { records, done } => held = self.append(records, done, queue),
                Job::Vote { vote, done } => self.finish(done, |writer| writer.save_vote(vote)),
                Job::Truncate { keep, done } => self.finish(done, |writer| writer.truncate(keep)),
                Job::StartOver { at, done } => self.finish(done, |writer| writer.start_over(at)),
            }
        }
    }

    /// Writes this append and those that wait behind it, with one sync; returns the first other job.
    fn append(&mut self, records: Vec<Record>, done: Done, queue: &Receiver<Job>) -> Option<Job> {
        let mut waiting = vec![done];
        let mut entries = 0;
        let mut bytes = 0;
        let mut held = None;
        let mut result = self.check();
        let mut records = records;
        loop {
            entries += records.len();
            bytes += records.iter().map(Record::stored_len).sum::<usize>();
            result = result.and_then(|()| self.write_records(&records));
            if bytes >= BATCH_BYTES {
                break;
            }
            match queue.try_recv() {
                Ok(Job::Append { records: more, done }) => {
                    waiting.push(done);
                    records = more;
                }
                Ok(other) => {
                    held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let result = result.and_then(|()| self.sync());
        metrics::histogram!("forebay_raft_log_entries_per_sync").record(entries as f64);
        self.tell(waiting, result);
        held
    }

    fn finish(&mut self, done: Done, work: impl FnOnce(&mut Self) -> io::Result<()>) {
        let result = self.check().and_then(|()| work(self));
        self.tell(vec![done], result);
    }

    /// Tells everybody; a first failure is the last one.
    fn tell(&mut self, waiting: Vec<Done>, result: io::Result<()>) {
        let Err(e) = result else {
            return waiting.into_iter().for_each(|done| done(Ok(())));
        };
        let reason = e.to_string();
        let first = self.shared.state.lock().failed.replace(reason.clone()).is_none();
        if first {
            let dir = self.shared.dir.display();
            tracing::error!(%dir, %reason, "the log cannot be written; this member acknowledges nothing more");
            (self.shared.on_failure)(&format!("cannot write the log in {dir}: {reason}"));
        }
        for done in waiting {
            done(Err(io::Error::new(e.kind(), reason.clone())));
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.shared.state.lock().failed {
            Some(reason) => Err(failure(reason)),
            None => Ok(()),
        }
    }

    fn write_records(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            self.make_room(record.index)?;
            let active = self.active.as_mut().expect("there is a segment now");
            let offset = active.written + self.buffer.len() as u32;
            let index = record.index;
            active.marks.push(Mark { index, offset });
            active.next_index = index + 1;
            record.encode(active.segment.header.salt, active.synced, &mut self.buffer);
            self.last = Some(position(record));
            if self.buffer.len() >= WRITE_BYTES {
                self.write_buffer()?;
            }
        }
        Ok(())
    }

    /// Goes on to a new segment when the current one is full.
    fn make_room(&mut self, first_index: u64) -> io::Result<()> {
        let full = |active: &Active| {
            active.written as usize + self.buffer.len() >= self.shared.settings.segment_bytes as usize
        };
        if self.active.as_ref().is_some_and(|active| !full(active)) {
            return Ok(());
        }
        self.sync()?;
        let header = SegmentHeader::new(first_index, self.last, false);
        let segment = Segment::create(self.shared.disk.as_ref(), &self.shared.dir, header)?;
        self.shared.state.lock().segments.push_back(segment.clone());
        self.active = Some(Active::of(segment));
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if let Some(active) = self.active.as_mut()
            && !self.buffer.is_empty()
        {
            active.segment.file.write_at(&self.buffer, u64::from(active.written))?;
            active.written += self.buffer.len() as u32;
            self.buffer.clear();
            self.buffer.shrink_to(2 * WRITE_BYTES);
        }
        Ok(())
    }

    /// Makes everything so far durable and lets readers find it in the segment.
    fn sync(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        let Some(active) = self.active.as_mut().filter(|active| active.synced < active.written) else {
            return Ok(());
        };
        let start = Instant::now();
        active.segment.file.sync()?;
        metrics::histogram!("forebay_raft_log_sync_seconds").record(start.elapsed());
        metrics::counter!("forebay_raft_log_bytes_total").increment(u64::from(active.written - active.synced));
        active.synced = active.written;
        let bytes = {
            let mut state = self.shared.state.lock();
            state.written(active.next_index, active.written, &active.marks, self.shared.settings.cache_bytes);
            state.appended_bytes
        };
        active.marks.clear();
        (self.shared.on_growth)(bytes);
        Ok(())
    }

    fn save_vote(&mut self, vote: StoredVote) -> io::Result<()> {
        vote::save(self.shared.disk.as_ref(), &self.shared.dir, vote)?;
        self.shared.state.lock().vote = Some(vote);
        Ok(())
    }

    /// Removes the records after `keep`, newest first, so that a crash leaves no gap.
    fn truncate(&mut self, keep: Option<Position>) -> io::Result<()> {
        let next = {
            let mut state = self.shared.state.lock();
            state.truncate(keep);
            self.last = state.last;
            super::state::next_index(state.last)
        };
        while let Some(segment) = self.removable_from(next) {
            self.shared.disk.remove(&segment.path)?;
            self.shared.disk.sync_dir(&self.shared.dir)?;
            self.shared.state.lock().segments.pop_back();
        }
        let newest = self.shared.state.lock().segments.back().cloned();
        self.active = match newest {
            Some(segment) => Some(Active::of(self.shorten(segment, next)?)),
            None => None,
        };
        Ok(())
    }

    /// The newest segment, if it holds nothing before `next`. The only one stays, as it says what came before it, unless nothing did.
    fn removable_from(&self, next: u64) -> Option<Segment> {
        let state = self.shared.state.lock();
        let dispensable = state.segments.len() > 1 || state.last.is_none();
        let newest = state.segments.back().filter(|_| dispensable);
        newest.filter(|segment| segment.header.first_index >= next).cloned()
    }

    fn shorten(&self, mut segment: Segment, next: u64) -> io::Result<Segment> {
        if next >= segment.next_index {
            return Ok(segment);
        }
        let end = segment.offset_of(next.max(segment.header.first_index))?;
        segment.file.set_len(u64::from(end))?;
        segment.file.sync()?;
        segment.end = end;
        segment.next_index = next;
        segment.marks.retain(|mark| mark.offset < end);
        let mut state = self.shared.state.lock();
        *state.segments.back_mut().expect("it was just there") = segment.clone();
        Ok(segment)
    }

    fn start_over(&mut self, at: Position) -> io::Result<()> {
        let header = SegmentHeader::new(at.index + 1, Some(at), true);
        let segment = Segment::create(self.shared.disk.as_ref(), &self.shared.dir, header)?;
        let removable = self.shared.state.lock().start_over(at, segment.clone());
        self.active = Some(Active::of(segment));
        self.last = Some(at);
        for path in removable {
            // The thread ends only after this one.
            let _ = self.removals.send(path);
        }
        Ok(())
    }
}

/// Removes segments in the order told, each durably before the next, so that a crash leaves no gap. Unlinking a long file takes
/// milliseconds, which no append should wait for.
pub(crate) fn remove_all(disk: &dyn Disk, dir: &Path, queue: &Receiver<PathBuf>) {
    let mut broken = false;
    for path in queue {
        if broken {
            continue;
        }
        if let Err(e) = disk.remove(&path).and_then(|()| disk.sync_dir(dir)) {
            // They stay until the next start, which finds them as old segments without a gap.
            tracing::error!(path = %path.display(), error = %e, "cannot remove a segment of the log; no more are removed until a restart");
            broken = true;
        }
    }
}
