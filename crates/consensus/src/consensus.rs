//! The door: one member of the group.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{RaftMetrics, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::applier::{Applier, Flusher};
use crate::apply_thread::ApplyThread;
use crate::error::{ConsensusError, OpenError};
use crate::log::{DirectoryLock, Log, LogSettings, OsDisk};
use crate::log_store::LogStore;
use crate::raft_types::{Command, Types};
use crate::settings::{Member, MemberId, Settings};
use crate::start::{self, Engine};
use crate::state_machine::StateMachine;

/// One running member. Share it by `Arc`. Call [`Consensus::shutdown`] before dropping it; without, it is as after a crash.
pub struct Consensus {
    settings: Settings,
    raft: Engine,
    log: Arc<Log>,
    thread: Arc<ApplyThread>,
    flusher: Flusher,
    /// Bytes of commands that may still be proposed.
    room: Semaphore,
    /// This member is the only one, and leads: nobody else can, until the membership changes. Whoever adds a
    /// member must clear this first.
    sole: AtomicBool,
    health: Arc<Health>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<DirectoryLock>>,
}

/// What a member knows about itself and the group.
#[derive(Clone, Debug)]
pub struct Status {
    /// This member.
    pub member: Member,
    /// The current leader, when known.
    pub leader: Option<Member>,
    /// All members, this one included.
    pub members: Vec<Member>,
    /// The current term.
    pub term: u64,
    /// Index of the last entry in this member's log.
    pub last_index: Option<u64>,
    /// Index of the last entry applied here.
    pub applied_index: Option<u64>,
    /// Index up to which the state machine is known to be durable, so that the log may forget; `None` before the first flush of this run.
    pub flushed_index: Option<u64>,
    /// Syncs of the log since the start; one makes many entries durable (group commit).
    pub log_syncs: u64,
}

/// Whether the member can go on; shared with its threads.
pub(crate) struct Health {
    failure: watch::Sender<Option<String>>,
    /// The end was asked for.
    closing: AtomicBool,
    /// Bytes of the log when the state machine was last flushed.
    flushed_bytes: AtomicU64,
    /// The log has grown enough for a flush.
    grown: Notify,
}

impl Health {
    fn new() -> Health {
        Health {
            failure: watch::Sender::new(None),
            closing: AtomicBool::new(false),
            flushed_bytes: AtomicU64::new(0),
            grown: Notify::new(),
        }
    }

    /// Records the first failure.
    pub(crate) fn fail(&self, reason: &str) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Why the member takes nothing any more.
    fn stopped(&self) -> Option<ConsensusError> {
        if self.closing.load(Ordering::Acquire) {
            let reason = "it was shut down".to_owned();
            return Some(ConsensusError::Stopped { reason });
        }
        let reason = self.failure.borrow().clone()?;
        Some(ConsensusError::Stopped { reason })
    }

    /// The first failure, if there was one.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }
}

impl Consensus {
    /// Opens the log in `dir` (made when missing), brings `machine` up to the log and, as the only member, takes the lead
    /// before it returns. A new directory starts a group of one.
    pub async fn open(settings: Settings, dir: &Path, machine: Box<dyn StateMachine>) -> Result<Consensus, OpenError> {
        settings.check()?;
        let health = Arc::new(Health::new());
        let (lock, log) = open_log(&settings, dir, &health).await?;
        let applier = Applier::new(machine, dir.join("snapshots"))?;
        let (thread, flusher) = (applier.thread(), applier.flusher());
        let raft = start::start(&settings, LogStore::new(log.clone()), applier).await?;
        let keeper = start::Keeper {
            raft: raft.clone(),
            log: log.clone(),
            health: health.clone(),
            interval: settings.flush_interval,
        };
        let consensus = Consensus {
            room: Semaphore::new(settings.in_flight_bytes.bytes() as usize),
            settings,
            raft,
            log,
            thread,
            flusher,
            sole: AtomicBool::new(false),
            health,
            keeper: Mutex::new(Some(tokio::spawn(keeper.run()))),
            lock: Mutex::new(Some(lock)),
        };
        let sole = start::lead_if_alone(&consensus.raft, &consensus.settings.member, &consensus.health).await?;
        consensus.sole.store(sole, Ordering::Release);
        Ok(consensus)
    }

    /// Proposes a command and returns the state machine's reply. Acknowledged means: on disk on a quorum, and applied here.
    ///
    /// Waits while too many bytes are under way. Dropping the future does not withdraw the command.
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, ConsensusError> {
        let (length, limit) = (command.len(), self.settings.command_bytes_max.bytes() as usize);
        if length > limit {
            return Err(ConsensusError::TooLarge { length, limit });
        }
        let room = self.room.acquire_many(length.max(1) as u32).await;
        let _room = room.expect("the semaphore is never closed");
        if let Some(stopped) = self.health.stopped() {
            return Err(stopped);
        }
        let response = self.raft.client_write(Command(command)).await;
        response.map(|response| response.data.0).map_err(|e| self.write_error(e))
    }

    /// When this returns, a read of the state machine's local state sees everything that was acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), ConsensusError> {
        if let Some(stopped) = self.health.stopped() {
            return Err(stopped);
        }
        // A sole member applied all earlier terms' entries before it opened, and acknowledges nothing that it has not applied.
        if self.sole.load(Ordering::Acquire) {
            return Ok(());
        }
        let read = self.raft.ensure_linearizable(ReadPolicy::LeaseRead).await;
        read.map(drop).map_err(|e| self.read_error(e))
    }

    /// Whether this member leads, as far as it knows. Use [`Consensus::read_barrier`] before relying on it.
    pub fn is_leader(&self) -> bool {
        self.health.stopped().is_none() && self.raft.is_leader()
    }

    /// The leader, when known.
    pub fn leader(&self) -> Option<Member> {
        leader_in(&start::metrics_of(&self.raft))
    }

    /// Resolves when this member can serve no more, with the reason: the process must end. A disk that failed to write or sync
    /// is the usual one. Pending until then, also after a shutdown.
    pub async fn failed(&self) -> String {
        let mut failure = self.health.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// What this member knows now.
    pub fn status(&self) -> Status {
        let metrics = start::metrics_of(&self.raft);
        let nodes = metrics.membership_config.nodes();
        Status {
            member: self.settings.member.clone(),
            leader: leader_in(&metrics),
            members: nodes.map(|(id, node)| member(*id, &node.addr)).collect(),
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|id| id.index),
            flushed_index: self.flusher.flushed_index(),
            log_syncs: self.log.syncs(),
        }
    }

    /// Takes no more proposals, lets those under way finish or fail, flushes the state machine, closes the log, and lets
    /// the directory go. A second call does nothing.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        if self.health.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if let Some(keeper) = self.keeper.lock().take() {
            keeper.abort();
        }
        // It only waits for the task, whose end was asked for.
        let _ = self.raft.shutdown().await;
        self.thread.stop();
        let (thread, flusher, log) = (self.thread.clone(), self.flusher.clone(), self.log.clone());
        let failed = self.health.failure().is_some();
        let end = tokio::task::spawn_blocking(move || {
            thread.join();
            // After a failed write nothing is known; the log will tell at the next start.
            let flushed = if failed { Ok(()) } else { flusher.flush().map(drop) };
            flusher.close();
            log.close();
            flushed
        });
        let flushed = end.await;
        self.lock.lock().take();
        let stopped = |reason: String| ConsensusError::Stopped { reason };
        let flushed = flushed.map_err(|e| stopped(e.to_string()))?;
        flushed.map_err(|e| stopped(e.to_string()))
    }

    fn write_error(&self, error: RaftError<Types, ClientWriteError<Types>>) -> ConsensusError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => not_leader(to),
            RaftError::APIError(other) => ConsensusError::Unknown { reason: other.to_string() },
            RaftError::Fatal(fatal) => self.fatal(&fatal.to_string()),
        }
    }

    fn read_error(&self, error: RaftError<Types, LinearizableReadError<Types>>) -> ConsensusError {
        match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => not_leader(to),
            RaftError::APIError(_) => ConsensusError::NotLeader { leader: None },
            RaftError::Fatal(fatal) => self.fatal(&fatal.to_string()),
        }
    }

    fn fatal(&self, reason: &str) -> ConsensusError {
        self.health.fail(reason);
        self.health.stopped().unwrap_or_else(|| ConsensusError::Stopped { reason: reason.to_owned() })
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        if self.health.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(keeper) = self.keeper.lock().take() {
            keeper.abort();
        }
        self.thread.stop();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let raft = self.raft.clone();
            runtime.spawn(async move { raft.shutdown().await });
        }
    }
}

/// Locks the directory and reads the log, away from the runtime's threads.
async fn open_log(
    settings: &Settings,
    dir: &Path,
    health: &Arc<Health>,
) -> Result<(DirectoryLock, Arc<Log>), OpenError> {
    let log_settings = LogSettings {
        segment_bytes: settings.segment_bytes.bytes() as u32,
        cache_bytes: settings.cache_bytes.bytes() as usize,
    };
    let (member, flush_bytes) = (settings.member.id, settings.flush_bytes.bytes());
    let (on_failure, on_growth) = (health.clone(), health.clone());
    let dir = dir.to_owned();
    let open = tokio::task::spawn_blocking(move || {
        let lock = crate::log::lock(&dir)?;
        let log = Log::open(
            Arc::new(OsDisk),
            &dir,
            member,
            log_settings,
            Box::new(move |reason| on_failure.fail(reason)),
            Box::new(move |bytes| on_growth.note_growth(bytes, flush_bytes)),
        )?;
        Ok((lock, Arc::new(log)))
    });
    open.await.map_err(|e| OpenError::Start { reason: e.to_string() })?
}

impl Health {
    fn note_growth(&self, bytes: u64, flush_bytes: u64) {
        if bytes.saturating_sub(self.flushed_bytes.load(Ordering::Relaxed)) >= flush_bytes {
            self.grown.notify_one();
        }
    }

    /// Waits until the log has grown enough for a flush.
    pub(crate) async fn grown(&self) {
        self.grown.notified().await;
    }

    /// A flush begins when the log has `bytes`.
    pub(crate) fn flush_begins(&self, bytes: u64) {
        self.flushed_bytes.store(bytes, Ordering::Relaxed);
    }
}

fn not_leader(to: ForwardToLeader<Types>) -> ConsensusError {
    let leader = to.leader_id.zip(to.leader_node);
    ConsensusError::NotLeader { leader: leader.map(|(id, node)| member(id, &node.addr)) }
}

fn leader_in(metrics: &RaftMetrics<Types>) -> Option<Member> {
    let id = metrics.current_leader?;
    let node = metrics.membership_config.get_node(&id)?;
    Some(member(id, &node.addr))
}

fn member(id: u64, address: &str) -> Member {
    Member { id: MemberId(id), address: address.to_owned() }
}

const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Consensus>();
};
