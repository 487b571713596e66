//! The log of a member on disk: segments of records, the vote, and one thread (a [`Worker`]) that writes and syncs.
//!
//! Appending puts records into memory, where they can be read at once, and hands them to the flusher thread. That thread takes all
//! that is waiting, writes it, syncs once, and tells everybody (group commit). Readers find the newest records in
//! memory and older ones in the segments. This module knows nothing of openraft.
//!
//! Invariants:
//! - Writes happen in the order asked for: appends, votes, truncations.
//! - A record is told durable after a sync that succeeded; after one that failed, nothing is told durable again.
//! - The indexes on disk have no gap at any moment: segments go oldest first, truncation newest first.
//! - No mark of what was confirmed says more than is durable.
//! - Memory holds what is not on disk yet, and of the rest no more than the cache's bound.

mod confirmed;
mod directory;
mod disk;
mod inspect;
mod record;
mod recovery;
mod segment;
mod state;
mod vote;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod format_tests;
#[cfg(any(test, feature = "simulation"))]
mod simulated_disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use directory::{Identity, identify, lock, new_number, no_log_in, owner};
pub(crate) use disk::{Disk, OsDisk};
pub use inspect::{LogEntry, LogEntryKind, LogFile, inspect_log};
pub(crate) use record::{Record, RecordKind};
pub(crate) use segment::Position;
#[cfg(feature = "simulation")]
pub use simulated_disk::SimulatedDisk;
pub(crate) use vote::StoredVote;

use crate::error::OpenError;
use crate::settings::MemberId;
use crate::worker::Worker;
use confirmed::Confirmed;
use state::{Place, State};
use writer::{Job, Remover, Writer};

/// Told once the job is durable, or has failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What the log is to keep in memory and on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSettings {
    /// A segment is closed when it has this many bytes.
    pub(crate) segment_bytes: u32,
    /// Bytes of records kept in memory although they are on disk.
    pub(crate) cache_bytes: usize,
}

/// Called with the reason when the log cannot write any more.
pub(crate) type OnFailure = Box<dyn Fn(&str) + Send + Sync>;

/// The log of one member.
pub(crate) struct Log {
    shared: Arc<Shared>,
    writer: Worker<Job>,
    remover: Arc<Worker<PathBuf>>,
}

/// What the flusher thread and everybody else share.
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settings: LogSettings,
    identity: Mutex<Identity>,
    state: Mutex<State>,
    on_failure: OnFailure,
    /// Told after each sync, with the bytes appended since the log was opened.
    on_growth: Box<dyn Fn(u64) + Send + Sync>,
}

impl Shared {
    /// Changes whose log this is, durably: the old or the new one is there after a crash. Returns what holds then.
    fn note(&self, change: impl FnOnce(&mut Identity)) -> io::Result<Identity> {
        let mut identity = self.identity.lock();
        let mut noted = *identity;
        change(&mut noted);
        if noted != *identity {
            noted.store(self.disk.as_ref(), &self.dir)?;
            *identity = noted;
        }
        Ok(noted)
    }
}

impl Log {
    /// Opens the log of `member` in `dir`, repairing what a crash has torn.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        member: MemberId,
        settings: LogSettings,
        on_failure: OnFailure,
        on_growth: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Log, OpenError> {
        disk.create_dir(dir).map_err(directory::io_error("create", dir))?;
        // What a killed process renamed may be seen now and still be lost in a power failure: nobody relies on it before this.
        disk.sync_dir(dir).map_err(directory::io_error("sync", dir))?;
        let identity = directory::identify(disk.as_ref(), dir, member)?;
        directory::remove_temporaries(disk.as_ref(), dir)?;
        let vote = vote::load(disk.as_ref(), dir)?;
        let recovered = recovery::recover(disk.as_ref(), dir, confirmed::load(disk.as_ref(), dir)?)?;
        let confirmed = Confirmed::open(disk.as_ref(), dir, recovered.last)?;
        if recovered.cut_bytes > 0 {
            tracing::warn!(dir = %dir.display(), bytes = recovered.cut_bytes, "cut a torn tail from the log: a crash came before it was synced");
        }
        let shared = Arc::new(Shared {
            disk: disk.clone(),
            dir: dir.to_owned(),
            settings,
            identity: Mutex::new(identity),
            state: Mutex::new(State::new(recovered, vote)),
            on_failure,
            on_growth,
        });
        let remover = Arc::new(Worker::start("raft-log-purge", Remover::new(disk, dir))?);
        let writer = Worker::start("raft-log-sync", Writer::new(shared.clone(), remover.clone(), confirmed))?;
        Ok(Log { shared, writer, remover })
    }

    /// Whose log this is.
    pub(crate) fn identity(&self) -> Identity {
        *self.shared.identity.lock()
    }

    /// Makes this the log of a member of `group`, durably and for ever. Says to which group it belongs now: another one if it had one.
    pub(crate) fn belong_to(&self, group: u64) -> io::Result<u64> {
        let first = |identity: &mut Identity| {
            if identity.group == 0 {
                identity.group = group;
            }
        };
        self.shared.note(first).map(|identity| identity.group)
    }

    /// Notes, durably, how long the leases are that this member gives from now on.
    pub(crate) fn give_leases_of(&self, lease_ms: u64) -> io::Result<()> {
        self.shared.note(|identity| identity.lease_ms = lease_ms).map(drop)
    }

    /// Notes, durably, that there is a segment, and a vote, if there are any that were found: an older release did not note them, or a crash came
    /// between the two.
    pub(crate) fn note_begun(&self) -> io::Result<()> {
        let (has_segments, has_vote) = (self.has_segments(), self.vote().is_some());
        let found = |identity: &mut Identity| {
            identity.begun |= has_segments;
            identity.voted |= has_vote;
        };
        self.shared.note(found).map(drop)
    }

    /// Whether any entry has ever been written here, or where the log begins.
    pub(crate) fn has_segments(&self) -> bool {
        !self.shared.state.lock().segments.is_empty()
    }

    /// Appends records, whose indexes must follow the last one's. They can be read when this returns, and are durable when `done` is told.
    pub(crate) fn append(&self, records: Vec<Record>, done: Done) {
        let accepted = self.shared.state.lock().append(&records);
        match accepted {
            Ok(()) => self.send(Job::Append { records, done }),
            Err(e) => done(Err(e)),
        }
    }

    /// Stores the vote, after all that was asked for before.
    pub(crate) fn save_vote(&self, vote: StoredVote, done: Done) {
        self.send(Job::Vote { vote, done });
    }

    /// Forgets the records after `keep`; all of them for `None`.
    pub(crate) fn truncate_after(&self, keep: Option<Position>, done: Done) {
        self.send(Job::Truncate { keep, done });
    }

    /// Forgets the records up to `upto`, and if the log ends before it, starts the log over after it.
    pub(crate) fn purge(&self, upto: Position, done: Done) {
        let mut state = self.shared.state.lock();
        if state.last.is_none_or(|last| last.index < upto.index) {
            drop(state);
            return self.send(Job::StartOver { at: upto, done });
        }
        let removable = state.purge(upto);
        drop(state);
        for path in removable {
            // At a closed log they stay for the next start.
            let _ = self.remover.send(path);
        }
        done(Ok(()));
    }

    /// The records from `from` on and before `to` that the log has, until they have about `bytes_max` bytes. May read the disk.
    pub(crate) fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Record>> {
        loop {
            let (place, generation) = {
                let state = self.shared.state.lock();
                (state.find(from, to, bytes_max), state.generation)
            };
            let (segment, from, to) = match place {
                Place::Memory(records) => return Ok(records),
                Place::Disk { segment, from, to } => (segment, from, to),
            };
            match segment.read(from, to, bytes_max) {
                Ok(records) => return Ok(records),
                // The tail was cut and written anew while it was read: look again.
                Err(_) if self.shared.state.lock().generation != generation => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether [`Log::read`] from `from` on is answered from memory.
    pub(crate) fn in_memory(&self, from: u64) -> bool {
        self.shared.state.lock().in_memory(from)
    }

    /// The last purged place and the last one.
    pub(crate) fn bounds(&self) -> (Option<Position>, Option<Position>) {
        let state = self.shared.state.lock();
        (state.purged, state.last)
    }

    /// The vote as stored last.
    pub(crate) fn vote(&self) -> Option<StoredVote> {
        self.shared.state.lock().vote
    }

    /// The last entry of the segments that lie before the newest `bytes`; none if there are no more than those.
    pub(crate) fn beyond(&self, bytes: u64) -> Option<u64> {
        self.shared.state.lock().beyond(bytes)
    }

    /// Bytes appended and synced since the log was opened.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.shared.state.lock().appended_bytes
    }

    /// Syncs of records since the log was opened.
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.state.lock().syncs
    }

    /// Waits for what was asked for, and ends the threads. Later jobs fail.
    pub(crate) fn close(&self) {
        self.writer.close();
        self.writer.join();
        self.remover.close();
        self.remover.join();
    }

    fn send(&self, job: Job) {
        if let Err(job) = self.writer.send(job) {
            job.done()(Err(io::Error::other("the log is closed")));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}
