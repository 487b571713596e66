//! The worker's calls to the masters: it registers, then says at intervals that it lives and how it is, and takes what is new.
//!
//! Nothing else in the worker waits for this: when no master answers, what is known goes on being served.

use crate::identity;
use crate::metrics as names;
use crate::node::Node;
use crate::status;
use forebay_base::InodeId;
use forebay_proto::error::WireError;
use forebay_proto::v1::registry_client::RegistryClient;
use forebay_proto::v1::{HeartbeatRequest, RegisterRequest, WorkerAddress, WorkerStatus};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A view holds every worker and mount: larger than tonic's default of 4 MiB in a large cluster.
const REPLY_LEN_MAX: usize = 64 << 20;
/// Least time between two calls, however often somebody wishes for news.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The loop's state.
pub(crate) struct Registration {
    node: Arc<Node>,
    /// Where the id of the cluster is kept that the cache belongs to.
    data_dir: PathBuf,
    address: WorkerAddress,
    started_ms: u64,
    masters: Vec<RegistryClient<Channel>>,
    /// The master that answered last.
    current: usize,
    registered: bool,
    /// Whether the last round failed: said once, not at each beat.
    away: bool,
}

impl Registration {
    /// Connects to nobody yet; the error names a master whose address is none.
    pub(crate) fn new(
        node: Arc<Node>,
        data_dir: PathBuf,
        masters: &[String],
        address: WorkerAddress,
        started_ms: u64,
    ) -> Result<Registration, String> {
        let limits = &node.limits;
        let clients = masters
            .iter()
            .map(|master| {
                let endpoint = Endpoint::from_shared(format!("http://{master}"))
                    .map_err(|error| format!("master address {master:?} is not host:port: {error}"))?
                    .connect_timeout(limits.master_timeout)
                    .timeout(limits.master_timeout)
                    .http2_keep_alive_interval(limits.master_timeout)
                    .keep_alive_while_idle(true);
                Ok(RegistryClient::new(endpoint.connect_lazy()).max_decoding_message_size(REPLY_LEN_MAX))
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Registration {
            node,
            data_dir,
            address,
            started_ms,
            masters: clients,
            current: 0,
            registered: false,
            away: false,
        })
    }

    /// Runs until the worker stops.
    pub(crate) async fn run(mut self) {
        if self.masters.is_empty() {
            return;
        }
        let stop = self.node.stop.clone();
        loop {
            let pause = tokio::select! {
                () = stop.cancelled() => return,
                pause = self.round() => pause,
            };
            let news = async {
                tokio::time::sleep(PAUSE_MIN).await;
                self.node.news_wanted.notified().await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = news => {}
            }
        }
    }

    /// Tries each master once, from the one that answered last; returns how long to wait.
    async fn round(&mut self) -> Duration {
        let mut last_error = None;
        for _ in 0..self.masters.len() {
            match self.call().await {
                Ok(()) => {
                    if std::mem::take(&mut self.away) {
                        tracing::info!("the masters answer again");
                    }
                    // Registered just now, or told to: the first heartbeat follows at the usual time.
                    return self.node.heartbeat_interval();
                }
                Err(status) => {
                    metrics::counter!(names::HEARTBEAT_FAILURES).increment(1);
                    last_error = Some(status);
                    self.current = (self.current + 1) % self.masters.len();
                }
            }
        }
        if let Some(status) = last_error.filter(|_| !std::mem::replace(&mut self.away, true)) {
            let error = WireError::from(&status);
            tracing::warn!(%error, "no master answers; what is known goes on being served");
        }
        self.node.heartbeat_interval()
    }

    async fn call(&mut self) -> Result<(), Status> {
        if !self.registered {
            return self.register().await;
        }
        if self.heartbeat().await? {
            self.registered = false;
            self.register().await?;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Status> {
        let request = RegisterRequest {
            address: Some(self.address.clone()),
            tiers: status::tiers(&self.node.pages),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
        };
        let reply = self.masters[self.current].register(request).await?.into_inner();
        identity::check_cluster(&self.data_dir, &reply.cluster_id).map_err(|error| {
            let message = format!("cannot join the cluster: {error}");
            tracing::error!("{message}");
            Status::failed_precondition(message)
        })?;
        if let Some(view) = &reply.view {
            self.node.set_view(view);
        }
        self.registered = true;
        tracing::info!(cluster = %reply.cluster_id, worker = %self.node.id, "registered");
        Ok(())
    }

    /// Says how we are; returns whether the master does not know us.
    async fn heartbeat(&mut self) -> Result<bool, Status> {
        let request =
            HeartbeatRequest { worker: self.node.id.0, epoch: self.node.view.epoch(), status: Some(self.status()) };
        let reply = self.masters[self.current].heartbeat(request).await?.into_inner();
        if let Some(view) = &reply.view {
            self.node.set_view(view);
        }
        if !reply.freed_inodes.is_empty() {
            let pages = self.node.pages.clone();
            // In the background: the next heartbeat must not wait for the disks.
            self.node.tasks.spawn_blocking(move || {
                for inode in reply.freed_inodes {
                    pages.drop_inode(InodeId(inode));
                }
            });
        }
        Ok(reply.register_again)
    }

    fn status(&self) -> WorkerStatus {
        let counted = self.node.counters.now();
        WorkerStatus {
            address: Some(self.address.clone()),
            live: true,
            last_heartbeat_ms: 0,
            tiers: status::tiers(&self.node.pages),
            hit_bytes: counted.hit_bytes,
            miss_bytes: counted.miss_bytes,
            fetched_bytes: counted.fetched_bytes,
            started_ms: self.started_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
