//! What all services of one master share, and the few ways in which they touch state, log and stores.

use crate::admission::Admission;
use crate::data_dir::DataDir;
use crate::error::{Refused, Result, log_error, path_error, state_error};
use crate::freshness::Freshness;
use crate::inflight::InFlight;
use crate::log_clock::LogClock;
use crate::metrics::names;
use crate::mounts::{MountTable, Mounted};
use crate::path_locks::PathLocks;
use crate::registry::Registry;
use crate::secrets::Sealer;
use crate::settings::Settings;
use crate::state::State;
use crate::sync::Syncs;
use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};
use forebay_consensus::Consensus;
use forebay_metastore::Snapshot;
use forebay_namespace::{Action, Command, Payload, Request, query, reply};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::sync::Arc;
use tokio::sync::Notify;

/// What all services of one master share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) data: DataDir,
    pub(crate) address: String,
    pub(crate) started_ms: u64,
    pub(crate) admission: Admission,
    pub(crate) inflight: InFlight,
    pub(crate) registry: Registry,
    pub(crate) locks: PathLocks,
    pub(crate) freshness: Freshness,
    pub(crate) mounts: MountTable,
    pub(crate) syncs: Syncs,
    pub(crate) work: Work,
    clock: LogClock,
    state: State,
    consensus: Consensus,
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
        data: DataDir,
        address: String,
        state: State,
        consensus: Consensus,
    ) -> Result<Core> {
        let position = consensus.status().applied_index.unwrap_or(0);
        let log_time_ms = query::summary(&*state.snapshot()).map_err(state_error)?.log_time_ms;
        let core = Core {
            admission: Admission::new(settings.limits),
            inflight: InFlight::default(),
            registry: Registry::new(settings.worker_timeout, position),
            locks: PathLocks::default(),
            freshness: Freshness::new(settings.freshness_entries),
            mounts: MountTable::new(Sealer::new(&data.secret_key)),
            syncs: Syncs::new(settings.listings_max),
            work: Work::default(),
            started_ms: settings.clock.now().0,
            clock: LogClock::new(Arc::clone(&settings.clock), log_time_ms),
            settings,
            data,
            address,
            state,
            consensus,
        };
        core.mounts.refresh(&core.state.snapshot())?;
        Ok(core)
    }

    /// The time that a command would carry now: what leases end by.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The applied position of the log.
    pub(crate) fn position(&self) -> u64 {
        self.consensus.status().applied_index.unwrap_or(0)
    }

    pub(crate) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// The state with everything that was acknowledged before the call.
    pub(crate) async fn read(&self) -> Result<Snapshot> {
        self.consensus.read_barrier().await.map_err(log_error)?;
        Ok(self.state.snapshot())
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
        metrics::counter!(names::COMMANDS).increment(1);
        let bytes = self.consensus.propose(command.to_bytes()).await.map_err(log_error)?;
        Ok(reply::decode(&bytes)?)
    }

    /// The reply that a request got before, if it did.
    pub(crate) async fn replied(&self, request: &Request) -> Result<Option<std::result::Result<Payload, Refused>>> {
        let snapshot = self.read().await?;
        let reply = query::reply_of(&*snapshot, request).map_err(state_error)?;
        Ok(reply.map(|bytes| reply::decode(&bytes).map_err(Refused::from)))
    }

    /// The mount of a path, with its key there.
    pub(crate) fn mount_of(&self, path: &NsPath) -> Option<(Arc<Mounted>, Bytes)> {
        let mount = self.mounts.of(path)?;
        let key = mount.key(path);
        Some((mount, key))
    }

    /// The mounts have changed: takes the new ones into use and tells workers.
    pub(crate) fn mounts_changed(&self) -> Result<()> {
        self.mounts.refresh(&self.glance())?;
        self.registry.mounts_changed(self.position());
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
            ticket_keys: vec![self.data.ticket_key.to_vec().into()],
            heartbeat_ms: self.settings.heartbeat.as_millis() as u64,
        }
    }

    /// The cluster on one screen.
    pub(crate) async fn status(&self) -> Result<v1::StatusReply> {
        let snapshot = self.read().await?;
        let summary = query::summary(&*snapshot).map_err(state_error)?;
        let status = self.consensus.status();
        let mounts = self.mounts.all();
        Ok(v1::StatusReply {
            cluster_id: self.data.cluster_id.clone(),
            masters: vec![v1::MasterStatus {
                id: status.member.id.0,
                address: self.address.clone(),
                leader: self.consensus.is_leader(),
                applied_index: status.applied_index.unwrap_or(0),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_ms: self.started_ms,
            }],
            workers: self.registry.statuses(),
            mounts: mounts.iter().map(|mount| mount.entry()).collect(),
            inodes: summary.inodes,
            pending_deletes: summary.trash_entries,
        })
    }
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
