//! What all parts of one worker share.

use crate::data::buffers::Buffers;
use crate::disk_threads::DiskThreads;
use crate::error::RequestError;
use crate::fetch::flight::Flights;
use crate::file::TicketFile;
use crate::metrics as names;
use crate::peer::Peers;
use crate::settings::{Limits, Settings};
use crate::status::Counters;
use crate::stores::Stores;
use crate::tickets::Tickets;
use crate::view::View;
use bytes::Bytes;
use forebay_base::{ByteSize, WorkerId};
use forebay_cache::PageStore;
use forebay_proto::ticket::TicketError;
use forebay_proto::v1::ClusterView;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a request whose ticket or mount is not known waits for news from the masters.
const NEWS_WAIT: Duration = Duration::from_secs(2);
/// Requests do not wait for news more often than this: who sends bad tickets shall not make us call the masters all the time.
const NEWS_PAUSE: Duration = Duration::from_secs(1);

/// What is fetched ahead of one reader takes at most one in so many of the cache's bytes. Eviction leaves what is new a tenth of them when the rest
/// is read again and again: a reader shall find there what was fetched for it.
const AHEAD_SHARE: u64 = 20;

/// The worker, as its parts see it.
pub(crate) struct Node {
    pub(crate) id: WorkerId,
    pub(crate) limits: Limits,
    pub(crate) pages: PageStore,
    pub(crate) view: View,
    pub(crate) stores: Stores,
    pub(crate) counters: Counters,
    /// The memory of bodies.
    pub(crate) buffers: Arc<Buffers>,
    /// The threads that wait for disks.
    pub(crate) disks: Arc<DiskThreads>,
    /// The pages under way.
    pub(crate) flights: Flights,
    /// The other workers.
    pub(crate) peers: Arc<Peers>,
    /// Data connections at one time.
    pub(crate) connections: Arc<Semaphore>,
    /// Loads at one time.
    pub(crate) loads: Arc<Semaphore>,
    /// Fetches at one time.
    pub(crate) gets: Arc<Semaphore>,
    /// Memory of requests: parts being written, reads past the cache. In permits of [`permits_for`].
    pub(crate) memory: Arc<Semaphore>,
    /// Memory of cached bytes on their way from a disk to their reader. Apart from that of requests, which a store may hold for as long as it likes.
    pub(crate) send_memory: Arc<Semaphore>,
    /// Memory of fetches. Apart from that of requests, since requests wait for fetches.
    pub(crate) fetch_memory: Arc<Semaphore>,
    /// All permits of [`Node::fetch_memory`].
    pub(crate) fetch_permits_max: u32,
    /// Cancelled when the worker is to stop: no new requests.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the time to drain is over: requests under way end.
    pub(crate) abort: CancellationToken,
    /// All that runs for this worker.
    pub(crate) tasks: TaskTracker,
    /// Somebody wants to know the latest from the masters.
    pub(crate) news_wanted: Notify,
    tickets: Tickets,
    heartbeat_ms: AtomicU64,
    /// Counts the views taken.
    news: watch::Sender<u64>,
    news_asked: Mutex<Option<Instant>>,
}

impl Node {
    pub(crate) fn new(id: WorkerId, settings: &Settings, pages: PageStore) -> Node {
        let limits = within_cache(settings.limits.clone(), &pages);
        let half_of_memory = half_of_memory(&limits);
        let store = pages.clone();
        let disks = DiskThreads::new(pages.status().len(), limits.disk_patience, move |dir| store.is_in_use(dir));
        Node {
            id,
            pages,
            buffers: Arc::default(),
            disks: Arc::new(disks),
            view: View::new(id, limits.previous_owner_period),
            stores: Stores::new(settings.stores.clone()),
            counters: Counters::default(),
            flights: Flights::new(limits.gets_per_file_max),
            peers: Peers::new(&limits),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            loads: Arc::new(Semaphore::new(limits.loads_max)),
            gets: Arc::new(Semaphore::new(limits.gets_max)),
            memory: Arc::new(Semaphore::new(half_of_memory as usize)),
            send_memory: Arc::new(Semaphore::new(permits_for(SEND_MEMORY) as usize)),
            fetch_memory: Arc::new(Semaphore::new(half_of_memory as usize)),
            fetch_permits_max: half_of_memory,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            news_wanted: Notify::new(),
            tickets: Tickets::new(limits.tickets_max, settings.clock.clone()),
            heartbeat_ms: AtomicU64::new(0),
            news: watch::Sender::new(0),
            news_asked: Mutex::new(None),
            limits,
        }
    }

    /// Takes what the masters say of the cluster.
    pub(crate) fn set_view(&self, view: &ClusterView) {
        self.view.set(view, Instant::now());
        self.tickets.set_keys(&self.view.now().ticket_keys);
        self.stores.set_mounts(&view.mounts);
        let now = self.view.now();
        self.peers.retain(|worker| now.address(worker).is_some());
        metrics::gauge!(names::KNOWN_WORKERS).set(view.workers.len() as f64);
        self.heartbeat_ms.store(view.heartbeat_ms, Relaxed);
        self.news.send_modify(|count| *count += 1);
        tracing::debug!(epoch = view.epoch, workers = view.workers.len(), mounts = view.mounts.len(), "cluster view");
    }

    /// Looks after threads that a disk does not let go, until the worker stops.
    pub(crate) async fn watch_disks(self: Arc<Node>) {
        let patience = self.disks.patience();
        while tokio::time::timeout(patience / 4, self.stop.cancelled()).await.is_err() {
            self.disks.find_lost();
            self.flights.give_up_stuck_writes(patience);
        }
    }

    pub(crate) fn heartbeat_interval(&self) -> Duration {
        match self.heartbeat_ms.load(Relaxed) {
            0 => self.limits.heartbeat_interval,
            ms => Duration::from_millis(ms),
        }
    }

    /// What a ticket is for, if it is good. One that is not signed with a known key may be newer than what we know.
    pub(crate) async fn check_ticket(&self, bytes: &Bytes) -> Result<Arc<TicketFile>, RequestError> {
        match self.tickets.check(bytes) {
            Err(RequestError::Ticket(TicketError::BadSignature)) if self.wait_for_news().await => {
                self.tickets.check(bytes)
            }
            checked => checked,
        }
    }

    /// The store of a file. A mount that is not known may be newer than what we know.
    pub(crate) async fn store_of(&self, file: &TicketFile) -> Result<Arc<dyn forebay_ufs::Ufs>, RequestError> {
        match self.stores.get(file.mount()) {
            Err(RequestError::UnknownMount(_)) if self.wait_for_news().await => self.stores.get(file.mount()),
            got => got,
        }
    }

    /// Asks the masters for the latest and waits for it a little; whether something came.
    async fn wait_for_news(&self) -> bool {
        let mut news = self.news.subscribe();
        {
            let (mut asked, now) = (self.news_asked.lock(), Instant::now());
            match *asked {
                // Asked a moment ago: whoever asked first is waiting, or has been disappointed.
                Some(at) if now.duration_since(at) < NEWS_PAUSE => {}
                _ => {
                    *asked = Some(now);
                    self.news_wanted.notify_one();
                }
            }
        }
        matches!(tokio::time::timeout(NEWS_WAIT, news.changed()).await, Ok(Ok(())))
    }
}

/// Permits count KiB, since a semaphore's permits are u32 where they are taken together.
const MEMORY_PERMIT: u64 = 1 << 10;

/// Cached bytes on their way from a disk to their reader: 256 of the largest that are copied ([`crate::data::send`]).
const SEND_MEMORY: u64 = 32 << 20;

/// As set, but nothing is fetched so far ahead that it would be evicted before it is read.
fn within_cache(limits: Limits, pages: &PageStore) -> Limits {
    let quotas: u64 = pages.status().iter().map(|dir| dir.quota).sum();
    let share = ByteSize(quotas / AHEAD_SHARE);
    Limits { window: limits.window.min(share), read_ahead_max: limits.read_ahead_max.min(share), ..limits }
}

/// The permits of half of the memory allowed; no less than the largest single request needs.
fn half_of_memory(limits: &Limits) -> u32 {
    permits_for((limits.memory_max.bytes() / 2).max(REQUEST_MEMORY_MAX))
}

/// The most that one request holds: the largest body of a frame.
const REQUEST_MEMORY_MAX: u64 = forebay_proto::frame::BODY_LEN_MAX;

/// The permits for `bytes`.
pub(crate) fn permits_for(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(MEMORY_PERMIT)).unwrap_or(u32::MAX)
}
