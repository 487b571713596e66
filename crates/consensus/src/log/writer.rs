//! The flusher thread: the only one that writes to the log's directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::confirmed::Confirmed;
use super::disk::Disk;
use super::record::Record;
use super::segment::{Mark, Position, Segment, SegmentHeader};
use super::state::{failure, position};
use super::vote::{self, StoredVote};
use super::{Done, Shared};
#[cfg(feature = "simulation")]
use crate::simulation::{Fault, is_planted};
use crate::worker::{Work, Worker};

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
    remover: Arc<Worker<PathBuf>>,
    /// The segment that is written; `None` before the first record of all.
    active: Option<Active>,
    last: Option<Position>,
    confirmed: Confirmed,
    /// Encoded and not yet written.
    buffer: Vec<u8>,
    /// The last sync was left out, as a fault that was planted.
    #[cfg(feature = "simulation")]
    left_out: bool,
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

impl Work for Writer {
    type Job = Job;

    fn work(&mut self, job: Job, more: &mut dyn FnMut() -> Option<Job>) -> Option<Job> {
        match job {
            Job::Append { records, done } => return self.append(records, done, more),
            Job::Vote { vote, done } => self.finish(done, |writer| writer.save_vote(vote)),
            Job::Truncate { keep, done } => self.finish(done, |writer| writer.truncate(keep)),
            Job::StartOver { at, done } => self.finish(done, |writer| writer.start_over(at)),
        }
        None
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, remover: Arc<Worker<PathBuf>>, confirmed: Confirmed) -> Writer {
        let (active, last) = {
            let state = shared.state.lock();
            (state.segments.back().cloned().map(Active::of), state.last)
        };
        Writer {
            shared,
            remover,
            active,
            last,
            confirmed,
            buffer: Vec::new(),
            #[cfg(feature = "simulation")]
            left_out: false,
        }
    }

    /// Writes this append and those that wait behind it, with one sync; returns the first other job.
    fn append(&mut self, records: Vec<Record>, done: Done, more: &mut dyn FnMut() -> Option<Job>) -> Option<Job> {
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
            match more() {
                Some(Job::Append { records: next, done }) => {
                    waiting.push(done);
                    records = next;
                }
                other => {
                    held = other;
                    break;
                }
            }
        }
        let result = result.and_then(|()| self.sync());
        ::metrics::histogram!(crate::metrics::LOG_ENTRIES_PER_SYNC).record(entries as f64);
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
        self.note_begun()?;
        self.shared.state.lock().segments.push_back(segment.clone());
        self.active = Some(Active::of(segment));
        Ok(())
    }

    /// A segment was made, the first one perhaps: it is noted before anything in it is confirmed, so that none can be lost unseen.
    fn note_begun(&self) -> io::Result<()> {
        self.shared.note(|identity| identity.begun = true).map(drop)
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
        #[cfg(feature = "simulation")]
        let left_out = is_planted(Fault::AckBeforeSync) && !self.left_out;
        #[cfg(not(feature = "simulation"))]
        let left_out = false;
        if !left_out {
            active.segment.file.sync()?;
        }
        #[cfg(feature = "simulation")]
        {
            self.left_out = left_out;
        }
        ::metrics::histogram!(crate::metrics::LOG_SYNC_SECONDS).record(start.elapsed());
        ::metrics::counter!(crate::metrics::LOG_BYTES).increment(u64::from(active.written - active.synced));
        active.synced = active.written;
        let bytes = {
            let mut state = self.shared.state.lock();
            state.written(active.next_index, active.written, &active.marks, self.shared.settings.cache_bytes);
            state.appended_bytes
        };
        active.marks.clear();
        (self.shared.on_growth)(bytes);
        // All that was written so far.
        let upto = if left_out { None } else { self.last };
        self.confirmed.raise(upto)
    }

    fn save_vote(&mut self, vote: StoredVote) -> io::Result<()> {
        vote::save(self.shared.disk.as_ref(), &self.shared.dir, vote)?;
        self.shared.note(|identity| identity.voted = true)?;
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
        self.confirmed.lower(self.last)?;
        while let Some(segment) = self.removable_from(next) {
            if self.shared.state.lock().segments.len() == 1 {
                self.shared.note(|identity| identity.begun = false)?;
            }
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
        segment.end = end;
        segment.next_index = next;
        segment.marks.retain(|mark| mark.offset < end);
        {
            // Before the file is cut: who reads it as it was finds another generation when it ends too early, and looks again.
            let mut state = self.shared.state.lock();
            state.generation += 1;
            *state.segments.back_mut().expect("it was just there") = segment.clone();
        }
        segment.file.set_len(u64::from(end))?;
        segment.file.sync()?;
        Ok(segment)
    }

    fn start_over(&mut self, at: Position) -> io::Result<()> {
        // An entry of a later term may have been confirmed that no majority had: the log ends before it from here on.
        self.confirmed.lower(Some(at))?;
        let header = SegmentHeader::new(at.index + 1, Some(at), true);
        let segment = Segment::create(self.shared.disk.as_ref(), &self.shared.dir, header)?;
        self.note_begun()?;
        let removable = self.shared.state.lock().start_over(at, segment.clone());
        self.active = Some(Active::of(segment));
        self.last = Some(at);
        for path in removable {
            // It is closed only after this one.
            let _ = self.remover.send(path);
        }
        self.confirmed.raise(self.last)
    }
}

impl Drop for Writer {
    /// So that a log that was closed is known to its end. Without it, the mark says less.
    fn drop(&mut self) {
        if let Err(error) = self.confirmed.sync() {
            tracing::debug!(%error, "cannot sync the mark of what was confirmed");
        }
    }
}

/// Removes segments in the order told, each durably before the next, so that a crash leaves no gap. Unlinking a long file takes
/// milliseconds, which no append should wait for.
pub(crate) struct Remover {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// One could not be removed: they stay until the next start, which finds them as old segments without a gap.
    broken: bool,
}

impl Remover {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Remover {
        Remover { disk, dir: dir.to_owned(), broken: false }
    }
}

impl Work for Remover {
    type Job = PathBuf;

    fn work(&mut self, path: PathBuf, _: &mut dyn FnMut() -> Option<PathBuf>) -> Option<PathBuf> {
        if self.broken {
            return None;
        }
        if let Err(e) = self.disk.remove(&path).and_then(|()| self.disk.sync_dir(&self.dir)) {
            tracing::error!(path = %path.display(), error = %e, "cannot remove a segment of the log; no more are removed until a restart");
            self.broken = true;
        }
        None
    }
}
