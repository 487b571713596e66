//! The workers as this client knows them: the list of the masters, and its own experience with each.

pub(crate) mod health;

use crate::client::{cluster, read_bound};
use crate::config::ClientConfig;
use crate::data::pool::Pool;
use crate::error::Result;
use crate::local::links::Links;
use crate::rpc::{Masters, SILENCE, lazy_channel};
use crate::types::WorkerInfo;
use forebay_base::{BlockId, BlockIndex, FileId};
use forebay_placement::{Candidate, owners};
use forebay_proto::v1::{WorkersReply, WorkersRequest};
use health::Health;
use parking_lot::{Mutex, RwLock};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

/// The list is not fetched more often than this, however many reads fail.
const REFRESH_MIN: Duration = Duration::from_secs(1);

/// The current list of workers.
#[derive(Debug)]
pub(crate) struct Workers {
    masters: Arc<Masters>,
    config: Arc<ClientConfig>,
    host_id: String,
    table: RwLock<Arc<Table>>,
    /// Held while the list is fetched.
    fetching: tokio::sync::Mutex<()>,
    /// When a fetch was last tried in the background.
    tried: Mutex<Instant>,
}

/// One list of workers. Never changes; a newer one takes its place.
#[derive(Debug)]
pub(crate) struct Table {
    epoch: u64,
    fetched: Instant,
    workers: Vec<Arc<Worker>>,
    candidates: Vec<Candidate>,
    any_near: bool,
    /// The master leads since a moment, and does not know all who live.
    settling: bool,
}

/// Whether a worker on this host comes before the owner of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    /// For reading: the nearest is the fastest, and fills from the owner.
    First,
    /// For writing: the owner is where readers will look.
    Ignored,
}

/// A worker, its connections, and how it has been lately.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) info: WorkerInfo,
    /// It runs on this host, and its socket may be tried.
    pub(crate) same_host: bool,
    pub(crate) health: Health,
    pub(crate) pool: Arc<Pool>,
    /// For descriptors; only of a worker on this host.
    pub(crate) links: Links,
    control: OnceLock<Channel>,
}

impl Workers {
    /// Fetches the list for the first time.
    pub(crate) async fn connect(masters: Arc<Masters>, config: Arc<ClientConfig>) -> Result<Arc<Workers>> {
        let empty = Table {
            epoch: 0,
            fetched: Instant::now(),
            workers: Vec::new(),
            candidates: Vec::new(),
            any_near: false,
            settling: false,
        };
        let workers = Workers {
            host_id: host_id(),
            table: RwLock::new(Arc::new(empty)),
            fetching: tokio::sync::Mutex::new(()),
            tried: Mutex::new(Instant::now()),
            masters,
            config,
        };
        workers.fetch_first().await?;
        Ok(Arc::new(workers))
    }

    /// The list at hand. Fetches a newer one in the background when this one has become old.
    pub(crate) fn table(self: &Arc<Self>) -> Arc<Table> {
        let table = self.table.read().clone();
        if table.fetched.elapsed() >= self.config.workers_refresh {
            self.refresh_in_background();
        }
        table
    }

    /// Makes sure that the list is of `epoch` or newer. A failure is no error: the old list serves on.
    pub(crate) async fn at_least(&self, epoch: u64) {
        if self.table.read().epoch >= epoch {
            return;
        }
        let _fetching = self.fetching.lock().await;
        if self.table.read().epoch < epoch {
            self.fetch_or_log().await;
        }
    }

    /// Fetches the list in the background, unless that has been tried a moment ago.
    pub(crate) fn refresh_in_background(self: &Arc<Self>) {
        let mut tried = self.tried.lock();
        if tried.elapsed() < REFRESH_MIN {
            return;
        }
        *tried = Instant::now();
        let this = self.clone();
        tokio::spawn(async move {
            if let Ok(_fetching) = this.fetching.try_lock() {
                this.fetch_or_log().await;
            }
        });
    }

    /// Fetches the list unless that was done a moment ago: for reads that have tried all workers of the one at hand.
    pub(crate) async fn refresh(&self) {
        let _fetching = self.fetching.lock().await;
        if self.table.read().fetched.elapsed() >= REFRESH_MIN {
            self.fetch_or_log().await;
        }
    }

    async fn fetch_or_log(&self) {
        if let Err(error) = self.fetch(self.config.deadlines.connect).await {
            tracing::debug!(%error, "list of workers not fetched, the old one serves on");
        }
    }

    /// Whoever allows old answers takes the list of any master, so that it has one while nobody leads.
    async fn fetch_first(&self) -> Result<()> {
        let Some(bound) = read_bound(self.config.max_staleness, 0) else {
            return self.fetch(self.config.deadlines.connect).await;
        };
        let request = WorkersRequest { bound: Some(bound) };
        let send = |channel, request| async move { cluster(channel).workers(request).await };
        // Boxed: all that connect would grow by what few need.
        let reply = Box::pin(self.masters.call_near(request, self.config.deadlines.connect, send)).await?;
        self.take(reply);
        Ok(())
    }

    async fn fetch(&self, deadline: Duration) -> Result<()> {
        let send = |channel, request| async move { cluster(channel).workers(request).await };
        let reply = self.masters.call(WorkersRequest::default(), deadline, send).await?;
        self.take(reply);
        Ok(())
    }

    fn take(&self, reply: WorkersReply) {
        let old = self.table.read().clone();
        let mut workers: Vec<_> = reply.workers.into_iter().map(|address| self.worker(&old, address.into())).collect();
        if reply.settling {
            // A master that leads since a moment: who has not called it yet may live as well.
            let known = |other: &Arc<Worker>| workers.iter().any(|worker| worker.info.id == other.info.id);
            let kept: Vec<_> = old.workers.iter().filter(|worker| !known(worker)).cloned().collect();
            workers.extend(kept);
        }
        let table = Table {
            epoch: reply.epoch,
            fetched: Instant::now(),
            candidates: workers.iter().map(candidate).collect(),
            any_near: workers.iter().any(|worker| worker.same_host),
            workers,
            settling: reply.settling,
        };
        *self.table.write() = Arc::new(table);
    }

    /// A worker keeps its connections and its past while it keeps its address.
    fn worker(&self, old: &Table, info: WorkerInfo) -> Arc<Worker> {
        if let Some(known) = old.workers.iter().find(|known| known.info == info) {
            return known.clone();
        }
        let same_host = self.config.same_host
            && !info.unix_socket.is_empty()
            && !self.host_id.is_empty()
            && info.host_id == self.host_id;
        Arc::new(Worker {
            same_host,
            health: Health::new(),
            pool: Pool::new(&info, &self.config),
            links: Links::new(&info),
            control: OnceLock::new(),
            info,
        })
    }
}

impl Table {
    /// The worker on this host that reads a file for us; of several the one that ranks first, so that all clients use the same one.
    pub(crate) fn near(&self, file: FileId) -> Option<&Arc<Worker>> {
        if !self.any_near {
            return None;
        }
        let block = BlockId { file, index: BlockIndex(0) };
        owners(block, &self.candidates, self.candidates.len())
            .into_iter()
            .find_map(|id| self.workers.iter().find(|worker| worker.info.id == id && worker.same_host))
    }

    /// No worker is known, which need not mean that none lives: one may call the master any moment.
    pub(crate) fn is_still_empty(&self) -> bool {
        self.settling && self.workers.is_empty()
    }

    /// All workers.
    pub(crate) fn workers(&self) -> &[Arc<Worker>] {
        &self.workers
    }

    /// The workers to ask for a block, best first: owner, replicas, the others; those that failed lately stand behind, in the same order, but for one
    /// that it is time to ask again, which this caller then must ask.
    pub(crate) fn ranked(&self, block: BlockId, near: Near) -> Ranked {
        let now = Instant::now();
        let mut ranked: Vec<Arc<Worker>> = owners(block, &self.candidates, self.candidates.len())
            .into_iter()
            .filter_map(|id| self.workers.iter().find(|worker| worker.info.id == id))
            .cloned()
            .collect();
        if near == Near::First {
            ranked.sort_by_key(|worker| !worker.same_host);
        }
        let first = ranked.iter().position(|worker| worker.health.may_be_asked(now));
        let first = first.map(|at| ranked.remove(at));
        let probe = first.as_ref().filter(|worker| worker.health.is_sick()).cloned();
        ranked.sort_by_key(|worker| worker.health.is_sick());
        Ranked { workers: first.into_iter().chain(ranked).collect(), probe }
    }
}

/// Workers in the order in which they are asked.
pub(crate) struct Ranked {
    pub(crate) workers: Vec<Arc<Worker>>,
    /// The sick one among them that this caller, and no other at this time, asks whether it is back.
    probe: Option<Arc<Worker>>,
}

impl Ranked {
    /// Without those that would probably cost time in vain. One that somebody else asks at the moment whether it is back is not waited for either.
    pub(crate) fn without_waste(mut self) -> Ranked {
        let probe = self.probe.as_ref();
        let is_probe = |worker: &Arc<Worker>| probe.is_some_and(|probe| Arc::ptr_eq(probe, worker));
        self.workers.retain(|worker| is_probe(worker) || !worker.health.costs_time());
        self
    }
}

impl Worker {
    /// The channel to its control plane, which connects when first used.
    pub(crate) fn control(&self) -> Result<&Channel> {
        if let Some(channel) = self.control.get() {
            return Ok(channel);
        }
        let channel = lazy_channel(&self.info.control, SILENCE)?;
        Ok(self.control.get_or_init(|| channel))
    }
}

fn candidate(worker: &Arc<Worker>) -> Candidate {
    Candidate { worker: worker.info.id, weight: worker.info.weight }
}

/// What tells hosts apart: the kernel's boot id. Empty where there is none, which equals no worker's.
fn host_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
