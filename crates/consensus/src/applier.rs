//! The state machine as openraft sees it: collects committed entries into batches for the applying thread, flushes, and makes snapshots.
//!
//! To openraft a snapshot is what allows the log to forget. Here that is a flush: the state machine keeps itself, so all that is
//! recorded is how far it is durable. Files (a checkpoint) are made only when another member asks for them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;

use crate::apply_thread::{ApplyThread, Task};
use crate::error::OpenError;
use crate::log::Position;
use crate::members::Applied;
use crate::raft_types::{LogId, RaftEntry, Reply, SnapshotMeta, StoredMembers, Types, invalid, position};
use crate::runtime::spawn_blocking;
use crate::state_machine::{Entry, Flush, StateMachine, StateMachineError};

/// Most entries of one batch, and most bytes of commands, so that its atomic write stays small and replies do not wait long.
const BATCH_ENTRIES: usize = 2048;
const BATCH_BYTES: usize = 4 << 20;

type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotDir>;

/// Feeds the state machine.
pub(crate) struct Applier {
    thread: Arc<ApplyThread>,
    flusher: Flusher,
    last: Option<LogId>,
    members: StoredMembers,
    snapshots: PathBuf,
    made: AtomicU64,
}

impl Applier {
    /// Takes the state machine; checkpoints will be made in `snapshots`, which is emptied.
    pub(crate) fn new(machine: Box<dyn StateMachine>, snapshots: PathBuf) -> Result<Applier, OpenError> {
        let start = |reason: String| OpenError::Start { reason };
        let blob = machine.applied().map_err(|e| start(e.to_string()))?;
        let (last, members) = position_of(blob).map_err(|e| start(e.to_string()))?;
        remove_dir(&snapshots).map_err(|source| OpenError::Io { what: "remove", path: snapshots.clone(), source })?;
        let flusher = Flusher { inner: Arc::new(Mutex::new(Some(machine.flusher()))), flushed: Arc::default() };
        Ok(Applier {
            thread: Arc::new(ApplyThread::spawn(machine)?),
            flusher,
            last,
            members,
            snapshots,
            made: AtomicU64::new(0),
        })
    }

    /// The last entry that the state machine has; none when it is new.
    pub(crate) fn position(&self) -> Option<Position> {
        self.last.map(position)
    }

    /// The thread behind it, to be ended by whoever ends the member.
    pub(crate) fn thread(&self) -> Arc<ApplyThread> {
        self.thread.clone()
    }

    pub(crate) fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// Applies one batch and answers those who wait.
    async fn apply_batch(&mut self, batch: Collected) -> io::Result<()> {
        let Some(last) = batch.last else {
            return Ok(());
        };
        if let Some(members) = batch.members {
            self.members = members;
        }
        let applied = Applied::of(last, &self.members).encode();
        let entries = batch.entries;
        let replies = self.thread.ask(|done| Task::Apply { entries, applied, done }).await;
        let replies = replies.map_err(io::Error::other)?;
        self.last = Some(last);
        for (responder, reply) in batch.responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(Reply(reply));
            }
        }
        for responder in batch.others {
            responder.send(Reply(Bytes::new()));
        }
        Ok(())
    }
}

/// Entries that will be applied together.
#[derive(Default)]
struct Collected {
    entries: Vec<Entry>,
    /// Of the commands, in order; those of other entries are in `others`.
    responders: Vec<Option<ApplyResponder<Types>>>,
    others: Vec<ApplyResponder<Types>>,
    bytes: usize,
    last: Option<LogId>,
    members: Option<StoredMembers>,
}

impl Collected {
    fn push(&mut self, entry: RaftEntry, responder: Option<ApplyResponder<Types>>) {
        let id = entry.log_id;
        self.last = Some(id);
        match entry.payload {
            EntryPayload::Normal(command) => {
                self.bytes += command.0.len();
                self.entries.push(Entry { index: id.index, command: command.0 });
                return self.responders.push(responder);
            }
            EntryPayload::Membership(members) => self.members = Some(StoredMembers::new(Some(id), members)),
            EntryPayload::Blank => {}
        }
        self.others.extend(responder);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES
    }
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = Flusher;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembers)> {
        Ok((self.last, self.members.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut batch = Collected::default();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            batch.push(entry, responder);
            if batch.is_full() {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
        self.apply_batch(batch).await
    }

    async fn get_snapshot_builder(&mut self) -> Flusher {
        self.flusher.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotDir) -> io::Result<()> {
        let source = snapshot.path().ok_or_else(|| invalid("this snapshot has no files".to_owned()))?;
        let source = source.to_owned();
        let blob = self.thread.ask(|done| Task::Install { source, done }).await;
        let (last, members) = position_of(blob.map_err(io::Error::other)?)?;
        if last != meta.last_log_id {
            let wanted = meta.last_log_id;
            return Err(invalid(format!("the snapshot's files are at {last:?}, not at {wanted:?}")));
        }
        (self.last, self.members) = (last, members);
        *self.flusher.flushed.lock() = Some(meta.clone());
        Ok(())
    }

    /// Makes a checkpoint at the position applied now, which is at or after what the log has forgotten.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if self.flusher.flushed.lock().is_none() {
            return Ok(None);
        }
        forebay_base::data_dir::create_private(&self.snapshots)?;
        let target = self.snapshots.join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        let snapshot = SnapshotDir::Files(target.clone());
        let blob = self.thread.ask(|done| Task::Checkpoint { target, done }).await;
        let (last_log_id, last_membership) = position_of(blob.map_err(io::Error::other)?)?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

/// Flushes the state machine, one flush at a time, and remembers how far.
#[derive(Clone)]
pub(crate) struct Flusher {
    /// `None` once the member has ended.
    inner: Arc<Mutex<Option<Arc<dyn Flush>>>>,
    /// What is known to be durable since the start.
    flushed: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl Flusher {
    /// Flushes now; blocks the thread.
    pub(crate) fn flush(&self) -> Result<SnapshotMeta, StateMachineError> {
        let inner = self.inner.lock();
        let flush = inner.as_ref().ok_or_else(|| StateMachineError::new("this member has ended"))?;
        let start = std::time::Instant::now();
        let (last_log_id, last_membership) = position_of(flush.flush()?).map_err(StateMachineError::new)?;
        ::metrics::histogram!(crate::metrics::FLUSH_SECONDS).record(start.elapsed());
        let meta = SnapshotMeta { last_log_id, last_membership };
        *self.flushed.lock() = Some(meta.clone());
        Ok(meta)
    }

    /// The index up to which the state machine is known to be durable.
    pub(crate) fn flushed_index(&self) -> Option<u64> {
        self.flushed.lock().as_ref().and_then(|meta| meta.last_log_id).map(|id| id.index)
    }

    /// Lets go of the state machine: there are no flushes from here on.
    pub(crate) fn close(&self) {
        self.inner.lock().take();
    }
}

impl RaftSnapshotBuilder<Types> for Flusher {
    type SnapshotData = SnapshotDir;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let flusher = self.clone();
        let flush = spawn_blocking(move || flusher.flush());
        let meta = flush.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Snapshot { meta, snapshot: SnapshotDir::Flushed })
    }
}

/// What a snapshot consists of.
#[derive(Debug)]
pub(crate) enum SnapshotDir {
    /// Nothing but the fact that the state machine is durable so far.
    Flushed,
    /// A checkpoint, removed with this value.
    Files(PathBuf),
}

impl SnapshotDir {
    /// Where the files are.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            SnapshotDir::Flushed => None,
            SnapshotDir::Files(path) => Some(path),
        }
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if let SnapshotDir::Files(path) = self
            && let Err(error) = remove_dir(path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a checkpoint; the next start does");
        }
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What a state machine's blob says.
fn position_of(blob: Option<Bytes>) -> io::Result<(Option<LogId>, StoredMembers)> {
    let Some(blob) = blob else {
        return Ok((None, StoredMembers::default()));
    };
    let applied = Applied::decode(&blob).map_err(invalid)?;
    Ok((Some(applied.last()), applied.membership().map_err(invalid)?))
}
