//! The log of a member on disk: segments of records, the vote, and one thread that writes and syncs.
//!
//! Appending puts records into memory, where they can be read at once, and hands them to the flusher thread. That thread takes all
//! that is waiting, writes it, syncs once, and tells everybody (group commit). Readers find the newest records in
//! memory and older ones in the segments. This module knows nothing of openraft.
//!
//! Invariants:
//! - Writes happen in the order asked for: appends, votes, truncations.
//! - A record is told durable after a sync that succeeded; after one that failed, nothing is told durable again.
//! - The indexes on disk have no gap at any moment: segments go oldest first, truncation newest first.
//! - Memory holds what is not on disk yet, and of the rest no more than the cache's bound.

mod directory;
mod disk;
mod record;
mod recovery;
mod segment;
mod state;
mod vote;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod simulated_disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use parking_lot::Mutex;

pub(crate) use directory::{DirectoryLock, lock};
pub(crate) use disk::{Disk, OsDisk};
pub(crate) use record::{Record, RecordKind};
pub(crate) use segment::Position;
pub(crate) use vote::StoredVote;

use crate::error::OpenError;
use crate::settings::MemberId;
use state::{Place, State};
use writer::{Job, Writer};

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
    jobs: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    removals: Mutex<Option<Sender<PathBuf>>>,
}

/// What the flusher thread and everybody else share.
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settings: LogSettings,
    state: Mutex<State>,
    on_failure: OnFailure,
    /// Told after each sync, with the bytes appended since the log was opened.
    on_growth: Box<dyn Fn(u64) + Send + Sync>,
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
        directory::identify(disk.as_ref(), dir, member)?;
        directory::remove_temporaries(disk.as_ref(), dir)?;
        let vote = vote::load(disk.as_ref(), dir)?;
        let recovered = recovery::recover(disk.as_ref(), dir)?;
        if recovered.cut_bytes > 0 {
            tracing::warn!(dir = %dir.display(), bytes = recovered.cut_bytes, "cut a torn tail from the log: a crash came before it was synced");
        }
        let shared = Arc::new(Shared {
            disk: disk.clone(),
            dir: dir.to_owned(),
            settings,
            state: Mutex::new(State::new(recovered, vote)),
            on_failure,
            on_growth,
        });
        let (jobs, job_queue) = std::sync::mpsc::channel();
        let (removals, removal_queue) = std::sync::mpsc::channel();
        let writer = Writer::new(shared.clone(), removals.clone());
        let dir = dir.to_owned();
        let threads = vec![
            spawn("raft-log-sync", move || writer.run(&job_queue))?,
            spawn("raft-log-purge", move || writer::remove_all(disk.as_ref(), &dir, &removal_queue))?,
        ];
        Ok(Log {
            shared,
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(threads),
            removals: Mutex::new(Some(removals)),
        })
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
        if let Some(removals) = self.removals.lock().as_ref() {
            for path in removable {
                // The thread ends only with the sender.
                let _ = removals.send(path);
            }
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
        self.jobs.lock().take();
        self.removals.lock().take();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }

    fn send(&self, job: Job) {
        let refused = match self.jobs.lock().as_ref() {
            Some(jobs) => jobs.send(job).err().map(|e| e.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            job.done()(Err(io::Error::other("the log is closed")));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(|e| OpenError::Start { reason: format!("cannot start a thread: {e}") })
}
