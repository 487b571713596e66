//! What all services of one master share, and the few ways in which they touch state, log and stores.

use crate::admission::Admission;
use crate::backups::Backups;
use crate::data_dir::Keys;
use crate::error::{Refused, Result, log_error, path_error, state_error};
use crate::follower::WANTED_MAX;
use crate::freshness::Freshness;
use crate::freshness::journal::Event;
use crate::inflight::InFlight;
use crate::log_clock::{LogClock, STAMP};
use crate::metrics::names;
use crate::mounts::{MountTable, Mounted};
use crate::path_locks::PathLocks;
use crate::registry::Registry;
use crate::seat::Lasting;
use crate::secrets::Sealer;
use crate::settings::Settings;
use crate::state::State;
use crate::sync::Syncs;
use bytes::Bytes;
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_consensus::{AppliedAt, Consensus, ConsensusError, Lead};
use forebay_metastore::Snapshot;
use forebay_namespace::command::AdvanceTime;
use forebay_namespace::{Action, Command, Payload, Request, query, reply, versions};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What all services of a master share while it leads. It ends with the lead: a new one begins with what the state has.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) address: String,
    pub(crate) started_ms: u64,
    pub(crate) admission: Admission,
    pub(crate) inflight: InFlight,
    pub(crate) registry: Registry,
    pub(crate) locks: PathLocks,
    pub(crate) freshness: Freshness,
    pub(crate) mounts: MountTable,
    /// A change of the mounts was proposed, and nobody waits for its end any more.
    mounts_unsure: AtomicBool,
    pub(crate) syncs: Syncs,
    pub(crate) work: Work,
    pub(crate) backups: Backups,
    clock: LogClock,
    state: State,
    consensus: Arc<Consensus>,
    lead: Lead,
    /// The lead is over, or may be.
    retired: CancellationToken,
}

/// Unless its end was seen, the mounts may change later.
struct Unsure<'a> {
    core: &'a Core,
    sure: bool,
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if !self.sure {
            self.core.mounts_unsure.store(true, Ordering::Release);
        }
    }
}

/// Bells for the background tasks.
#[derive(Default)]
pub(crate) struct Work {
    /// Something lies in the trash.
    pub(crate) trash: Notify,
    /// A write was given up.
    pub(crate) uploads: Notify,
    /// Some trash is gone, or a rename has ended: who waits for a path looks again.
    pub(crate) unblocked: Notify,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        keys: Keys,
        address: String,
        state: State,
        consensus: Arc<Consensus>,
        lead: Lead,
        lasting: &Lasting,
    ) -> Result<Core> {
        let position = state.position();
        let log_time_ms = query::summary(&*state.snapshot()).map_err(state_error)?.log_time_ms;
        let core = Core {
            admission: Admission::new(settings.limits),
            inflight: InFlight::default(),
            registry: Registry::new(settings.worker_timeout, position, Instant::now()),
            locks: PathLocks::default(),
            freshness: Freshness::new(settings.freshness_entries),
            mounts: MountTable::new(Sealer::new(&keys.secret_key)),
            mounts_unsure: AtomicBool::new(false),
            syncs: Syncs::new(settings.listings_max),
            work: Work::default(),
            backups: Backups::new(lasting.backup_turns.clone()),
            started_ms: settings.clock.now().0,
            clock: lasting.witness.clock(log_time_ms),
            settings,
            keys,
            address,
            state,
            consensus,
            lead,
            retired: CancellationToken::new(),
        };
        core.mounts.refresh(|| core.state.snapshot())?;
        Ok(core)
    }

    /// The time that a command would carry now: what leases end by.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Lets log time go on while nobody changes anything: the other masters see it pass, to go on with it when they lead.
    pub(crate) async fn stamp(&self) -> Result<()> {
        let log_time_ms = query::summary(&*self.read().await?).map_err(state_error)?.log_time_ms;
        let since_ms = self.now_ms().saturating_sub(log_time_ms);
        if self.consensus.status().peers.len() > 1 && u128::from(since_ms) >= STAMP.as_millis() {
            self.propose(AdvanceTime {}).await?;
        }
        Ok(())
    }

    /// The version of the cluster's behaviour: what commands may be proposed, see [`forebay_namespace::versions`].
    pub(crate) fn cluster_version(&self) -> u32 {
        self.consensus.cluster_version()
    }

    /// Waits until all that this master has proposed before is decided, and the state has it. Needed where it leads again in a term in which it has
    /// led before: a change that was under way when it lost its majority is in its log, and may be acknowledged by an attempt of now. Until the state
    /// has it, the next attempt at it would take its own doing for that of others.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.propose(AdvanceTime {}).await?;
        Ok(())
    }

    /// Copies the state, as of one entry of the log, into a directory that is not there yet. That goes on when nobody waits for it any more; `place`, which
    /// keeps the directory from others, is held until it is done.
    pub(crate) async fn checkpoint(
        &self,
        directory: PathBuf,
        place: impl Send + 'static,
    ) -> std::result::Result<AppliedAt, ConsensusError> {
        let consensus = Arc::clone(&self.consensus);
        let copying = tokio::spawn(async move {
            let at = consensus.checkpoint(&directory).await;
            drop(place);
            at
        });
        copying.await.unwrap_or_else(|error| Err(ConsensusError::Failed { reason: error.to_string() }))
    }

    /// The applied position of the log.
    pub(crate) fn position(&self) -> u64 {
        self.state.position()
    }

    /// No answer made before the call knows of an entry of the log after this one.
    pub(crate) fn seen_index(&self) -> u64 {
        self.state.seen_index()
    }

    /// Tells another master how far everything is that was acknowledged before the call, and what was compared with stores.
    pub(crate) async fn confirm(&self, request: v1::ConfirmRequest) -> Result<v1::ConfirmReply> {
        if request.cluster_id != self.keys.cluster_id {
            return Err(WireError::new(ErrorKind::Conflict, "this master belongs to another cluster"));
        }
        // It makes sure that this one leads, after the question has come. The position comes last: what was compared is in the state there.
        drop(self.read().await?);
        let told = self.freshness.journal.since(request.lead, request.notes_next);
        // After the events: what makes it forgotten comes with the next ones.
        let known = request.wanted.iter().take(WANTED_MAX).flat_map(|wanted| self.known(wanted));
        let events: Vec<Event> = told.events.into_iter().chain(known).collect();
        let view = self.registry.view();
        let is_told = request.lead == told.lead && request.workers_epoch == view.epoch;
        let now = Instant::now();
        Ok(v1::ConfirmReply {
            index: self.position(),
            lead: told.lead,
            notes_next: told.next,
            anew: told.anew,
            notes: events.into_iter().map(|event| event.into_wire(now)).collect(),
            workers: (!is_told).then(|| view.into()),
        })
    }

    fn known(&self, wanted: &v1::SyncPath) -> Vec<Event> {
        NsPath::parse(&wanted.path).map_or(Vec::new(), |path| self.freshness.known(MountId(wanted.mount), &path))
    }

    /// The lead is over: nothing is read or changed through this one any more, and what is under way ends where it is, as by a crash.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
    }

    /// Serves a request as long as this master leads.
    pub(crate) async fn while_leading<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            // Most requests never wait, so they never look whether the lead is over.
            biased;
            outcome = work => outcome,
            () = self.retired.cancelled() => Err(leads_no_more()),
        }
    }

    fn serves(&self) -> Result<()> {
        match self.retired.is_cancelled() {
            false => Ok(()),
            true => Err(leads_no_more()),
        }
    }

    /// The state with everything that was acknowledged before the call.
    pub(crate) async fn read(&self) -> Result<Snapshot> {
        self.serves()?;
        self.consensus.read_barrier().await.map_err(log_error)?;
        Ok(self.state.snapshot())
    }

    /// Fails unless this master still leads, as it has since this core was made: asked before a store is changed, which nothing checks again.
    pub(crate) async fn still_leads(&self) -> Result<()> {
        self.serves()?;
        self.consensus.holds(self.lead).await.map_err(log_error)
    }

    /// The state without asking whether this master still leads: for what a command checks again.
    pub(crate) fn glance(&self) -> Snapshot {
        self.state.snapshot()
    }

    /// Carries out a command of the master's own.
    pub(crate) async fn propose(&self, action: impl Into<Action>) -> std::result::Result<Payload, Refused> {
        let command = Command::internal(self.now_ms(), action);
        self.send(command).await
    }

    /// Carries out a command that answers a client's request.
    pub(crate) async fn propose_for(
        &self,
        request: Request,
        action: impl Into<Action>,
    ) -> std::result::Result<Payload, Refused> {
        let command = Command::requested(request, self.now_ms(), action);
        self.send(command).await
    }

    async fn send(&self, command: Command) -> std::result::Result<Payload, Refused> {
        self.serves()?;
        // Masters that do not know the command could not go on.
        let (since, version) = (command.action.as_ref().map_or(0, Action::since), self.cluster_version());
        if since > version {
            return Err(versions::too_early(since, version).into());
        }
        metrics::counter!(names::COMMANDS).increment(1);
        let bytes = self.consensus.propose_in(self.lead, command.to_bytes()).await.map_err(log_error)?;
        Ok(reply::decode(&bytes)?)
    }

    /// The reply that a request got before, if it did.
    pub(crate) async fn replied(&self, request: &Request) -> Result<Option<std::result::Result<Payload, Refused>>> {
        let snapshot = self.read().await?;
        let reply = query::reply_of(&*snapshot, request).map_err(state_error)?;
        Ok(reply.map(|bytes| reply::decode(&bytes).map_err(Refused::from)))
    }

    /// Whether a request had begun to change a store when a crash came.
    pub(crate) async fn has_begun(&self, request: &Request) -> Result<bool> {
        query::has_begun(&*self.read().await?, request).map_err(state_error)
    }

    /// The mount of a path, with its key there.
    pub(crate) fn mount_of(&self, path: &NsPath) -> Option<(Arc<Mounted>, Bytes)> {
        let mount = self.mounts.of(path)?;
        let key = mount.key(path);
        Some((mount, key))
    }

    /// The mounts have changed: takes the new ones into use and tells workers.
    pub(crate) fn mounts_changed(&self) -> Result<()> {
        self.mounts.refresh(|| self.glance())?;
        self.registry.mounts_changed(self.position());
        Ok(())
    }

    /// Carries out a command that answers a client's request and changes the mounts. Where its end is not known, or not waited for, it may still
    /// come: [`Core::be_sure_of_mounts`] sees it then.
    pub(crate) async fn change_mounts(&self, request: Request, action: impl Into<Action>) -> Result<Payload> {
        let mut unsure = Unsure { core: self, sure: false };
        let payload = self.propose_for(request, action).await?;
        self.mounts_changed()?;
        unsure.sure = true;
        Ok(payload)
    }

    /// Takes the mounts into use as they are after all that was proposed before, if a change of them may have come unseen.
    pub(crate) async fn be_sure_of_mounts(&self) -> Result<()> {
        if !self.mounts_unsure.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut unsure = Unsure { core: self, sure: false };
        self.settle().await?;
        self.mounts_changed()?;
        unsure.sure = true;
        Ok(())
    }

    /// What a worker must know to serve alone.
    pub(crate) fn cluster_view(&self) -> v1::ClusterView {
        let view = self.registry.view();
        let mounts = self.mounts.all();
        v1::ClusterView {
            epoch: view.epoch,
            workers: view.workers,
            mounts: mounts.iter().map(|mount| mount.for_worker()).collect(),
            ticket_keys: vec![self.keys.ticket_key.to_vec().into()],
            heartbeat_ms: self.settings.heartbeat.as_millis() as u64,
            settling: view.settling,
        }
    }

    /// The cluster on one screen.
    pub(crate) async fn status(&self) -> Result<v1::StatusReply> {
        let snapshot = self.read().await?;
        let summary = query::summary(&*snapshot).map_err(state_error)?;
        let status = self.consensus.status();
        let mounts = self.mounts.all();
        Ok(v1::StatusReply {
            cluster_id: self.keys.cluster_id.clone(),
            masters: masters_of(&status, &self.address, self.started_ms),
            workers: self.registry.statuses(),
            mounts: mounts.iter().map(|mount| mount.entry()).collect(),
            inodes: summary.inodes,
            pending_deletes: summary.trash_entries,
            now_ms: self.settings.clock.now().0,
            backup: self.backups.told().to_wire(self.settings.backup.as_ref()),
        })
    }
}

fn leads_no_more() -> WireError {
    log_error(ConsensusError::NotLeader { leader: None })
}

/// All masters as the one that leads sees them. Of the others it does not know the version, nor since when they run.
fn masters_of(status: &forebay_consensus::Status, own: &str, started_ms: u64) -> Vec<v1::MasterStatus> {
    let master = |peer: &forebay_consensus::PeerStatus| match peer.member.id == status.member.id {
        true => v1::MasterStatus {
            id: peer.member.id.0,
            address: own.to_owned(),
            leader: true,
            applied_index: status.applied_index.unwrap_or(0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms,
        },
        false => v1::MasterStatus {
            id: peer.member.id.0,
            address: peer.member.address.clone(),
            leader: false,
            applied_index: peer.matched_index.unwrap_or(0),
            ..v1::MasterStatus::default()
        },
    };
    status.peers.iter().map(master).collect()
}

/// Reads a path of a request.
pub(crate) fn parse_path(bytes: &[u8]) -> Result<NsPath> {
    NsPath::parse(bytes).map_err(path_error)
}

/// Reads the id of a request that changes something.
pub(crate) fn parse_meta(meta: Option<v1::RequestMeta>) -> Result<Request> {
    match meta {
        Some(meta) if meta.client != 0 && meta.sequence != 0 => {
            Ok(Request { client: meta.client, sequence: meta.sequence, acked_below: meta.acked_below })
        }
        _ => Err(WireError::new(
            ErrorKind::InvalidArgument,
            "a request that changes something needs a client id and a sequence number from 1",
        )),
    }
}
