//! The door: one member of the group.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_base::FileLock;
use futures::stream::BoxStream;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{LinearizerOption, RaftMetrics};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use crate::applier::{Applier, Flusher};
use crate::apply_thread::ApplyThread;
use crate::error::{ConsensusError, OpenError};
use crate::finishing::Finisher;
use crate::forming::{Founder, Waiting, founder};
use crate::leadership::Lead;
use crate::listener::Listener;
use crate::log::{Disk, Log, LogSettings, OsDisk};
use crate::log_store::LogStore;
use crate::missing;
use crate::network::Peers;
use crate::raft_types::{Command, LeaderTerm, Proposer, Types};
use crate::runtime::{Instant, JoinHandle, sleep_until, spawn, spawn_blocking, timeout};
use crate::settings::{Formation, Member, MemberId, Settings};
use crate::snapshot_receive::Receiver;
use crate::start::{self, Engine};
use crate::state_machine::StateMachine;
use crate::transport::Transport;

/// One running member. Share it by `Arc`. Call [`Consensus::shutdown`] before dropping it; without, it is as after a crash.
pub struct Consensus {
    pub(crate) settings: Settings,
    pub(crate) raft: Engine,
    pub(crate) log: Arc<Log>,
    pub(crate) peers: Peers,
    pub(crate) flusher: Flusher,
    /// Held while the members change.
    pub(crate) changes: Arc<tokio::sync::Mutex<()>>,
    /// What a new member waits for.
    pub(crate) waiting: Waiting,
    pub(crate) listener: Arc<Listener>,
    pub(crate) thread: Arc<ApplyThread>,
    /// Bytes of commands that may still be proposed.
    room: Arc<Semaphore>,
    /// This member is the only one, and leads: nobody else can, until the membership changes. Whoever adds a
    /// member must clear this first.
    pub(crate) sole: AtomicBool,
    /// The last term in which this member gave its lead away, or began to.
    pub(crate) given_away: watch::Sender<u64>,
    health: Arc<Health>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<FileLock>>,
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
    /// As [`Consensus::open_in_group`], for a group of one.
    pub async fn open(settings: Settings, dir: &Path, machine: Box<dyn StateMachine>) -> Result<Consensus, OpenError> {
        Consensus::start(settings, dir, machine, None, Where::Machine).await
    }

    /// Opens the log in `dir` (made when missing). The only member of a group brings `machine` up to the log and takes the lead
    /// before this returns. One of several returns at once: until there is a leader, it can be reached and serves nothing.
    pub async fn open_in_group(
        settings: Settings,
        dir: &Path,
        machine: Box<dyn StateMachine>,
        transport: Arc<dyn Transport>,
    ) -> Result<Consensus, OpenError> {
        Consensus::start(settings, dir, machine, Some(transport), Where::Machine).await
    }

    pub(crate) async fn start(
        settings: Settings,
        dir: &Path,
        machine: Box<dyn StateMachine>,
        transport: Option<Arc<dyn Transport>>,
        lies: Where,
    ) -> Result<Consensus, OpenError> {
        crate::metrics::register();
        settings.check()?;
        let health = Arc::new(Health::new());
        let (lock, log) = open_log(&settings, dir, lies, &health).await?;
        // Who has confirmed nothing yet has granted no lease either.
        let is_new = log.bounds().1.is_none() && log.vote().is_none();
        let given = settings.lease().max(Duration::from_millis(log.identity().lease_ms));
        let votes_from = Instant::now() + if is_new { Duration::ZERO } else { given };
        let applier = Applier::new(machine, dir.join("snapshots"))?;
        missing::check(&log, dir, applier.position())?;
        let (thread, flusher) = (applier.thread(), applier.flusher());
        let peers = Peers::new(transport, log.clone(), settings.clone(), thread.cluster_version());
        let raft = start::start(&settings, peers.clone(), LogStore::new(log.clone()), applier).await?;
        let listener = Listener {
            raft: raft.clone(),
            log: log.clone(),
            settings: settings.clone(),
            votes_from,
            receiver: Receiver::new(dir.join("snapshots")),
            told_too_old: AtomicBool::new(false),
            heard: Mutex::default(),
        };
        let consensus = Consensus {
            room: Arc::new(Semaphore::new(settings.in_flight_bytes.bytes() as usize)),
            settings,
            raft,
            log,
            peers,
            changes: Arc::default(),
            waiting: Waiting::default(),
            listener: Arc::new(listener),
            thread,
            flusher,
            sole: AtomicBool::new(false),
            given_away: watch::Sender::new(0),
            health,
            tasks: Mutex::default(),
            lock: Mutex::new(lock),
        };
        consensus.begin(votes_from).await?;
        Ok(consensus)
    }

    /// Starts what goes on beside the engine, and takes the lead of a group of one.
    async fn begin(&self, votes_from: Instant) -> Result<(), OpenError> {
        let keeper = start::Keeper {
            raft: self.raft.clone(),
            log: self.log.clone(),
            health: self.health.clone(),
            interval: self.settings.flush_interval,
            retained_bytes: self.settings.retained_bytes.bytes(),
        };
        self.tasks.lock().push(spawn(keeper.run()));
        let finisher = Finisher {
            raft: self.raft.clone(),
            changes: self.changes.clone(),
            pause: self.settings.heartbeat_interval,
            patience: self.settings.propose_timeout,
        };
        self.tasks.lock().push(spawn(finisher.run()));
        let begun = self.raft.is_initialized().await.map_err(start::refused)?;
        let may_be_alone = match &self.settings.formation {
            Formation::Alone => true,
            Formation::Group(members) => begun || members.len() == 1,
            Formation::Join => begun,
        };
        if may_be_alone {
            let sole = start::lead_if_alone(&self.raft, &self.log, &self.settings, &self.health).await?;
            self.sole.store(sole, Ordering::Release);
        } else {
            self.wait_for_group();
        }
        let (raft, log, lease_ms) = (self.raft.clone(), self.log.clone(), self.settings.lease_ms());
        self.tasks.lock().push(spawn(async move {
            sleep_until(votes_from).await;
            raft.runtime_config().elect(true);
            // Longer ones have run out by now. What is not noted costs a longer wait at the next start.
            let noted = spawn_blocking(move || log.give_leases_of(lease_ms)).await;
            if let Ok(Err(error)) = noted {
                tracing::warn!(%error, "cannot note the lease that this member gives");
            }
        }));
        Ok(())
    }

    /// A new member of several: founds the group or says what it waits for.
    fn wait_for_group(&self) {
        let id = self.settings.member.id;
        match &self.settings.formation {
            Formation::Group(members) if founder(members) == Some(id) => {
                let founder = Founder {
                    raft: self.raft.clone(),
                    log: self.log.clone(),
                    peers: self.peers.clone(),
                    members: members.clone(),
                    waiting: self.waiting.clone(),
                    lease_ms: self.settings.lease_ms(),
                };
                self.tasks.lock().push(spawn(founder.run()));
            }
            Formation::Group(members) => {
                let first = members.iter().find(|member| founder(members) == Some(member.id));
                let first = first.map_or("the first one", |member| &member.address);
                let own = &self.settings.member.address;
                *self.waiting.lock() = Some(format!(
                    "{first} has not formed the group of masters yet, or has one that knows another directory at {own} or none; have that one take \
                     this master in: forebay masters add {own} (--replace {own} if it was one of them)"
                ));
            }
            Formation::Alone | Formation::Join => {
                *self.waiting.lock() = Some("no group of masters has taken this one in yet; add it".to_owned());
            }
        }
    }

    /// Answers a message that another member sent by [`Transport::call`].
    pub async fn handle(&self, message: Bytes) -> Bytes {
        self.listener.handle(message).await
    }

    /// Answers the messages that another member sent by [`Transport::stream`], one by one.
    pub fn handle_stream(&self, messages: BoxStream<'static, Bytes>) -> BoxStream<'static, Bytes> {
        self.listener.clone().handle_stream(messages)
    }

    /// Proposes a command and returns the state machine's reply. Acknowledged means: on disk on a quorum, and applied here.
    ///
    /// Waits while too many bytes are under way. Dropping the future does not withdraw the command.
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, ConsensusError> {
        self.write(command, None).await
    }

    /// As [`Consensus::propose`], but only if this member has led without interruption since `lead` began.
    pub async fn propose_in(&self, lead: Lead, command: Bytes) -> Result<Bytes, ConsensusError> {
        self.write(command, Some(lead)).await
    }

    async fn write(&self, command: Bytes, lead: Option<Lead>) -> Result<Bytes, ConsensusError> {
        let (length, limit) = (command.len(), self.settings.command_bytes_max.bytes() as usize);
        if length > limit {
            return Err(ConsensusError::TooLarge { length, limit });
        }
        let room = self.in_time(Arc::clone(&self.room).acquire_many_owned(length.max(1) as u32)).await?;
        let room = room.expect("the semaphore is never closed");
        if let Some(stopped) = self.health.stopped() {
            return Err(stopped);
        }
        let (reply, answer) = oneshot::channel();
        let mut request = self.raft.write(Command(command)).responder(Proposer { reply, room });
        if let Some(lead) = lead {
            request = request.with_leader(LeaderTerm::new(lead.term));
        }
        request.await.map_err(|fatal| self.fatal(&fatal.to_string()))?;
        match self.in_time(answer).await? {
            Ok(written) => written.map(|written| written.data.0).map_err(|e| self.write_error(e)),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Waits for what a majority must do, for so long; for what this member does alone, as long as it takes.
    async fn in_time<T>(&self, what: impl Future<Output = T>) -> Result<T, ConsensusError> {
        match self.sole.load(Ordering::Acquire) {
            true => Ok(what.await),
            false => timeout(self.settings.propose_timeout, what).await.map_err(|_| self.unconfirmed()),
        }
    }

    pub(crate) fn unconfirmed(&self) -> ConsensusError {
        let reason = format!("no majority of the masters has confirmed it within {:?}", self.settings.propose_timeout);
        ConsensusError::Unknown { reason }
    }

    /// The error of an engine that answers no more; its reason comes with its end.
    pub(crate) async fn ended(&self) -> ConsensusError {
        let ended = |metrics: &RaftMetrics<Types>| metrics.running_state.is_err();
        let metrics = self.raft.wait(Some(Duration::from_secs(1))).metrics(ended, "its end").await;
        let reason = metrics.ok().and_then(|metrics| metrics.running_state.err()).map(|fatal| fatal.to_string());
        self.fatal(reason.as_deref().unwrap_or("the log engine ended"))
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
        // By lease where a majority confirmed something that was sent lately enough; else it is asked now.
        let option =
            LinearizerOption::new(Some(self.settings.read_lease()), true).with_wait_timeout(self.settings.lease());
        let read = self.raft.ensure_linearizable(option).await;
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
        let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Ends this member for good: [`Consensus::failed`] resolves with the reason, and the process must end.
    pub fn give_up(&self, reason: &str) {
        self.health.fail(reason);
    }

    /// Takes no more proposals, lets those under way finish or fail, flushes the state machine, closes the log, and lets
    /// the directory go. A second call does nothing.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        if self.health.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.end_tasks();
        // It only waits for the task, whose end was asked for.
        let _ = self.raft.shutdown().await;
        self.thread.stop();
        let (thread, flusher, log) = (self.thread.clone(), self.flusher.clone(), self.log.clone());
        let failed = self.health.failure().is_some();
        let end = spawn_blocking(move || {
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

    fn end_tasks(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    fn write_error(&self, error: ClientWriteError<Types>) -> ConsensusError {
        match error {
            ClientWriteError::ForwardToLeader(to) => not_leader(to),
            other => ConsensusError::Unknown { reason: other.to_string() },
        }
    }

    fn read_error(&self, error: RaftError<Types, LinearizableReadError<Types>>) -> ConsensusError {
        match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => not_leader(to),
            RaftError::APIError(_) => ConsensusError::NotLeader { leader: None },
            RaftError::Fatal(fatal) => self.fatal(&fatal.to_string()),
        }
    }

    pub(crate) fn fatal(&self, reason: &str) -> ConsensusError {
        self.health.fail(reason);
        self.health.stopped().unwrap_or_else(|| ConsensusError::Stopped { reason: reason.to_owned() })
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        if self.health.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.end_tasks();
        self.thread.stop();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let raft = self.raft.clone();
            runtime.spawn(async move { raft.shutdown().await });
        }
    }
}

/// On what the directory of the log lies.
pub(crate) enum Where {
    /// The file system of the machine, where others may want it, too.
    Machine,
    /// A disk that nobody else has.
    #[cfg(feature = "simulation")]
    Disk(Arc<dyn Disk>),
}

impl Where {
    fn open(self, dir: &Path) -> Result<(Arc<dyn Disk>, Option<FileLock>), OpenError> {
        match self {
            Where::Machine => {
                let lock = crate::log::lock(dir)?;
                Ok((Arc::new(OsDisk), Some(lock)))
            }
            #[cfg(feature = "simulation")]
            Where::Disk(disk) => Ok((disk, None)),
        }
    }
}

/// Locks the directory and reads the log, away from the runtime's threads.
async fn open_log(
    settings: &Settings,
    dir: &Path,
    lies: Where,
    health: &Arc<Health>,
) -> Result<(Option<FileLock>, Arc<Log>), OpenError> {
    let log_settings = LogSettings {
        segment_bytes: settings.segment_bytes.bytes() as u32,
        cache_bytes: settings.cache_bytes.bytes() as usize,
    };
    let (member, flush_bytes) = (settings.member.id, settings.flush_bytes.bytes());
    let lease_ms = settings.lease_ms();
    let (on_failure, on_growth) = (health.clone(), health.clone());
    let dir = dir.to_owned();
    let open = spawn_blocking(move || {
        let (disk, lock) = lies.open(&dir)?;
        let log = Log::open(
            disk,
            &dir,
            member,
            log_settings,
            Box::new(move |reason| on_failure.fail(reason)),
            Box::new(move |bytes| on_growth.note_growth(bytes, flush_bytes)),
        )?;
        // Before anything is confirmed.
        let given_ms = log.identity().lease_ms.max(lease_ms);
        let noted = log.give_leases_of(given_ms).and_then(|()| log.note_begun());
        noted.map_err(|e| OpenError::Io { what: "write to", path: dir, source: e })?;
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
    ConsensusError::NotLeader { leader: leader.map(|(id, peer)| member(id, &peer.address)) }
}

/// The leader, when known.
pub(crate) fn leader_in(metrics: &RaftMetrics<Types>) -> Option<Member> {
    let id = metrics.current_leader?;
    let peer = metrics.membership_config.get_node(&id)?;
    Some(member(id, &peer.address))
}

/// As others know it.
pub(crate) fn member(id: u64, address: &str) -> Member {
    Member { id: MemberId(id), address: address.to_owned() }
}

const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Consensus>();
};
