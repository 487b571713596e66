//! The worker's calls to the masters: it registers, then says at intervals that it lives and how it is, and takes what is new.
//!
//! Nothing else in the worker waits for this: when no master answers, what is known goes on being served.

use crate::disk_threads::Disk;
use crate::identity;
use crate::metrics as names;
use crate::node::Node;
use crate::status;
use forebay_base::{ErrorKind, InodeId};
use forebay_proto::dial::lazy_channel;
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
    /// Those of the settings, then those that were named as the leader and are not there.
    masters: Vec<Master>,
    /// How many the settings name.
    listed: usize,
    /// The master that answered last.
    current: usize,
    registered: bool,
    /// The cluster that took us in.
    cluster_id: String,
    /// Why the last round failed, if it did: said once, not at each beat.
    said: Option<Cause>,
}

/// Leaders that are kept although the settings do not name them; the oldest makes room for the next one.
const LEARNED_MAX: usize = 8;

/// The way to one master.
struct Master {
    address: String,
    client: RegistryClient<Channel>,
}

impl Master {
    /// Connects when it is first called; the error names an address that is none.
    fn new(address: &str, timeout: Duration) -> Result<Master, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("master address {address:?} is not host:port: {error}"))?
            .timeout(timeout)
            .http2_keep_alive_interval(timeout)
            .keep_alive_while_idle(true);
        let client = RegistryClient::new(lazy_channel(endpoint, timeout)).max_decoding_message_size(REPLY_LEN_MAX);
        Ok(Master { address: address.to_owned(), client })
    }
}

/// What a failure is about, as far as others than those who know it must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// No master answers, or none that leads.
    Away,
    /// The one that leads refuses us, and goes on to.
    Refused,
    /// Our own directory does not say where we belong; no master was asked, or none is told more.
    Own,
}

struct Failure {
    cause: Cause,
    error: WireError,
}

impl Failure {
    fn own(error: WireError) -> Failure {
        // Another cluster's masters.
        let cause = if error.kind == ErrorKind::Conflict { Cause::Refused } else { Cause::Own };
        Failure { cause, error }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let error = WireError::from(&status);
        let cause = if error.last_word || error.kind == ErrorKind::Conflict { Cause::Refused } else { Cause::Away };
        Failure { cause, error }
    }
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
        let timeout = node.limits.master_timeout;
        let all = masters.iter().map(|address| Master::new(address, timeout)).collect::<Result<Vec<_>, String>>()?;
        Ok(Registration {
            node,
            data_dir,
            address,
            started_ms,
            listed: all.len(),
            masters: all,
            current: 0,
            registered: false,
            cluster_id: String::new(),
            said: None,
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

    /// Tries each master once, from the one that answered last, until one takes us or refuses for good; returns how long to wait. The first that one of
    /// them names as the leader is asked next.
    async fn round(&mut self) -> Duration {
        let (mut last, mut may_follow) = (None, true);
        let mut left = self.masters.len();
        while left > 0 {
            left -= 1;
            match self.call().await {
                Ok(()) => {
                    if self.said.take().is_some() {
                        tracing::info!("the masters answer again");
                    }
                    // Registered just now, or told to: the first heartbeat follows at the usual time.
                    return self.node.heartbeat_interval();
                }
                Err(failure) => {
                    metrics::counter!(names::HEARTBEAT_FAILURES).increment(1);
                    // Also after a lasting word: the list may have masters of two clusters.
                    let leader =
                        self.learn(&failure.error.leader).filter(|leader| may_follow && *leader != self.current);
                    if leader.is_some() {
                        (may_follow, left) = (false, left.max(1));
                    }
                    self.current = leader.unwrap_or((self.current + 1) % self.masters.len());
                    let lasts = failure.cause != Cause::Away;
                    last = Some(failure);
                    // The others would only hide it: they do not lead.
                    if lasts {
                        break;
                    }
                }
            }
        }
        if let Some(failure) = last {
            self.say(&failure);
        }
        // An election takes about as long as a heartbeat: the new leader hears of us soon.
        self.node.heartbeat_interval() / 2
    }

    /// Where a master is that was named as the leader; one that the settings do not name is taken in beside theirs.
    fn learn(&mut self, leader: &str) -> Option<usize> {
        if leader.is_empty() {
            return None;
        }
        if let Some(known) = self.masters.iter().position(|master| master.address == leader) {
            return Some(known);
        }
        // What is no address is nobody to ask.
        let learned = Master::new(leader, self.node.limits.master_timeout).ok()?;
        tracing::info!(leader, "a master that the setting masters does not name leads");
        if self.masters.len() == self.listed + LEARNED_MAX {
            self.masters.remove(self.listed);
        }
        self.masters.push(learned);
        Some(self.masters.len() - 1)
    }

    /// Logs a failure unless the last one had the same cause.
    fn say(&mut self, Failure { cause, error }: &Failure) {
        if self.said.replace(*cause) == Some(*cause) {
            return;
        }
        match cause {
            Cause::Away => tracing::warn!(%error, "no master answers; what is known goes on being served"),
            Cause::Refused => tracing::error!(%error, hint = error.hint, "cannot join the cluster"),
            Cause::Own => {
                tracing::error!(%error, hint = error.hint, "cannot tell which cluster the cache belongs to");
            }
        }
    }

    async fn call(&mut self) -> Result<(), Failure> {
        if !self.registered {
            return self.register().await;
        }
        if self.heartbeat().await? {
            self.registered = false;
            self.register().await?;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Failure> {
        // They refuse one of another cluster before anybody is sent to it.
        let cluster_id = identity::cluster(&self.data_dir).map_err(Failure::own)?;
        let request = RegisterRequest {
            address: Some(self.address.clone()),
            tiers: status::tiers(&self.node.pages),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            cluster_id,
        };
        let reply = self.masters[self.current].client.register(request).await?.into_inner();
        identity::check_cluster(&self.data_dir, &reply.cluster_id).map_err(Failure::own)?;
        if let Some(view) = &reply.view {
            self.node.set_view(view);
        }
        self.registered = true;
        self.cluster_id.clone_from(&reply.cluster_id);
        tracing::info!(cluster = %reply.cluster_id, worker = format_args!("{:016x}", self.node.id.0), "registered");
        Ok(())
    }

    /// Says how we are; returns whether the master does not know us.
    async fn heartbeat(&mut self) -> Result<bool, Status> {
        let request = HeartbeatRequest {
            worker: self.node.id.0,
            epoch: self.node.view.epoch(),
            status: Some(self.status()),
            cluster_id: self.cluster_id.clone(),
        };
        let reply = self.masters[self.current].client.heartbeat(request).await?.into_inner();
        if let Some(view) = &reply.view {
            self.node.set_view(view);
        }
        if !reply.freed_inodes.is_empty() {
            let pages = self.node.pages.clone();
            // In the background: the next heartbeat must not wait for the disks.
            let disks = self.node.disks.clone();
            self.node.tasks.spawn(async move {
                let drop_all = move || {
                    for inode in reply.freed_inodes {
                        pages.drop_inode(InodeId(inode));
                    }
                };
                // Where the disks do not answer they stay, and age out.
                let _ = disks.run(Disk::Any, drop_all).await;
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
