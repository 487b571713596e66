//! One fetch: neighbouring pages in one ranged read, each published as soon as its bytes are in, and put into the page store beside that.
//!
//! A fetch is a task of its own: the readers that wait for it may come and go. Readers get a page from memory until it is written, so that they wait for the
//! store and not for the disk. Each page takes its share of the fetches' memory before its first byte is asked for, and gives it back
//! when it is written: where disks are slower than the store, that is what holds the fetches up.

use crate::disk_threads::Disk;
use crate::error::RequestError;
use crate::fetch::feed::{Feed, Origin};
use crate::fetch::flight::{Claim, Outcome};
use crate::fetch::page::PageBytes;
use crate::fetch::writer::{FileWriter, May};
use crate::file::TicketFile;
use crate::metrics as names;
use crate::node::{Node, permits_for};
use bytes::Bytes;
use forebay_base::PageIndex;
use forebay_cache::{Access, Reservation, Run, Stored};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;

/// A fetch up to here gets its space in the page store after its bytes have come, in one go with writing them: one change of threads less. A larger
/// one before it asks for bytes that nobody may have a place for.
const SPACE_AFTERWARDS_LEN: u64 = 1 << 20;

/// The right to run a fetch: one place of the file's, one of the worker's.
#[derive(Debug)]
pub(crate) struct Places {
    _of_file: OwnedSemaphorePermit,
    _of_worker: OwnedSemaphorePermit,
}

impl Places {
    /// Waits in line.
    async fn wait(node: &Node, claim: &Claim) -> Option<Places> {
        let of_file = claim.file().gets.clone();
        Some(Places {
            _of_file: of_file.acquire_owned().await.ok()?,
            _of_worker: node.gets.clone().acquire_owned().await.ok()?,
        })
    }

    /// Takes them if they are free now, and some stay free for readers who wait.
    pub(crate) fn take_spare(node: &Node, claim: &Claim) -> Option<Places> {
        if node.gets.available_permits() <= node.limits.gets_max / 4 {
            return None;
        }
        Some(Places {
            _of_file: claim.file().gets.clone().try_acquire_owned().ok()?,
            _of_worker: node.gets.clone().try_acquire_owned().ok()?,
        })
    }
}

/// Starts the fetch of a claim; without places it waits for them, and is given up when nobody wants it any more by then.
pub(crate) fn start(node: &Arc<Node>, file: &Arc<TicketFile>, claim: Claim, origin: Origin, places: Option<Places>) {
    let (task_node, file) = (node.clone(), file.clone());
    node.tasks.spawn(async move {
        let abort = task_node.abort.clone();
        tokio::select! {
            () = abort.cancelled() => {}
            () = run(task_node, file, claim, origin, places) => {}
        }
    });
}

async fn run(node: Arc<Node>, file: Arc<TicketFile>, mut claim: Claim, origin: Origin, places: Option<Places>) {
    let places = match places {
        Some(places) => places,
        None => {
            let Some(places) = Places::wait(&node, &claim).await else {
                return;
            };
            if claim.give_up_if_unwanted() {
                return;
            }
            places
        }
    };
    metrics::gauge!(names::FETCHES).increment(1);
    let started = Instant::now();
    let bytes = file.bytes_of(&claim.pages());
    let len = bytes.end - bytes.start;
    let space_afterwards = len <= SPACE_AFTERWARDS_LEN && claim.is_surely_missing() && node.pages.can_store(len);
    let fetch = Arc::new(Fetch {
        pages: claim.pages(),
        claim: Mutex::new(claim),
        reservation: OnceLock::new(),
        refused: AtomicBool::new(false),
        node,
        file,
    });
    match space_afterwards {
        true => fetch.run([fetch.pages.clone()], origin).await,
        false => fetch.reserve_and_run(origin).await,
    }
    // A place is for the store; what is left to be written holds memory, not a place.
    drop(places);
    metrics::gauge!(names::FETCHES).decrement(1);
    metrics::histogram!(names::FETCH_SECONDS).record(started.elapsed());
}

/// A claim that is being fetched. Shared with the jobs that write its pages: the last to go gives back what was not written.
struct Fetch {
    node: Arc<Node>,
    file: Arc<TicketFile>,
    pages: Range<u32>,
    claim: Mutex<Claim>,
    /// None: the page store has no place for them.
    reservation: OnceLock<Option<Reservation>>,
    /// A page could not be stored: nor would be the others.
    refused: AtomicBool,
}

impl Fetch {
    async fn reserve_and_run(self: &Arc<Self>, origin: Origin) {
        let this = self.clone();
        let reserved = self.node.disks.run(Disk::Any, move || this.reservation().map(Reservation::pages)).await;
        match reserved {
            Ok(pages) => self.run(runs_of(&pages.unwrap_or_default()), origin).await,
            // Read past the cache, whatever the thread that still asks for space may get.
            Err(_) => self.claim.lock().settle_rest(&Outcome::NoAnswer),
        }
    }

    /// The claimed space; settles the pages that have none. May wait for a disk.
    fn reservation(&self) -> Option<&Reservation> {
        self.reservation.get_or_init(|| self.reserve()).as_ref()
    }

    /// Claims space for the pages; those that are cached after all are settled, or all of them when there is no space.
    fn reserve(&self) -> Option<Reservation> {
        let (pages, file) = (&self.node.pages, &self.file);
        let Some(reservation) = pages.reserve(file.id, file.meta, self.pages.clone()) else {
            self.claim.lock().settle_rest(&Outcome::NotStored);
            return None;
        };
        let reserved = reservation.pages();
        for page in self.pages.clone() {
            if reserved.binary_search(&PageIndex(page)).is_err() {
                // Cached since the claim was made, or a writer has it in hand.
                let range = file.bytes_of(&(page..page + 1));
                let runs = pages.lookup(file.id, file.meta, range, Access::Peek);
                let cached = matches!(runs[..], [Run::Present(_)]);
                self.claim.lock().settle(page, if cached { Outcome::Stored } else { Outcome::NotStored });
            }
        }
        Some(reservation)
    }

    /// Fetches runs of pages and has them written, up to the first that fails. What does not come is settled, behind what has.
    async fn run(self: &Arc<Self>, runs: impl IntoIterator<Item = Range<u32>>, origin: Origin) {
        for run in runs {
            let mut next = run.start;
            let Err(outcome) = self.receive(run, &mut next, origin).await else {
                continue;
            };
            let this = self.clone();
            let settle = move |_: May| {
                (next..this.pages.end).for_each(|page| this.claim.lock().settle(page, outcome.clone()));
            };
            return match next == self.pages.start {
                true => settle(May::Write),
                false => self.writer().run(&self.node.disks, &self.node.tasks, 0, settle),
            };
        }
    }

    /// Fetches neighbouring pages; `next` is the first that has not arrived.
    async fn receive(self: &Arc<Self>, pages: Range<u32>, next: &mut u32, origin: Origin) -> Result<(), Outcome> {
        let mut feed = Feed::new(&self.node, &self.file, self.file.bytes_of(&pages), origin);
        let mut rest = Bytes::new();
        while *next < pages.end {
            let range = self.file.bytes_of(&(*next..*next + 1));
            let len = (range.end - range.start) as usize;
            let memory = self.memory(len as u64).await?;
            let bytes = next_page(&mut feed, &mut rest, len).await.map_err(Outcome::Failed)?;
            self.arrived(*next, bytes, memory);
            *next += 1;
            if self.refused.load(Relaxed) {
                return Err(Outcome::NotStored);
            }
        }
        Ok(())
    }

    async fn memory(&self, len: u64) -> Result<OwnedSemaphorePermit, Outcome> {
        let permits = permits_for(len).min(self.node.fetch_permits_max);
        let memory = self.node.fetch_memory.clone().acquire_many_owned(permits);
        match tokio::time::timeout(self.node.disks.patience(), memory).await {
            Ok(memory) => {
                memory.map_err(|_| Outcome::Failed(RequestError::Unavailable("the worker is stopping".into())))
            }
            // The disks do not take what has come before: read past them.
            Err(_) => Err(Outcome::NoAnswer),
        }
    }

    /// Publishes a page and has it written.
    fn arrived(self: &Arc<Self>, page: u32, bytes: Bytes, memory: OwnedSemaphorePermit) {
        let bytes = PageBytes::new(bytes);
        self.claim.lock().arrive(page, &bytes);
        let this = self.clone();
        self.writer().run(&self.node.disks, &self.node.tasks, bytes.bytes().len(), move |may| {
            match may {
                May::Write => this.write(page, &bytes),
                May::GiveUp => this.give_up(page),
            }
            drop((bytes, memory));
        });
    }

    fn write(&self, page: u32, bytes: &PageBytes) {
        let Some(reservation) = self.reservation() else {
            return;
        };
        let stored = reservation.write(PageIndex(page), bytes.bytes(), Some(bytes.checksums())) == Stored::Yes;
        let outcome = if stored { Outcome::Stored } else { Outcome::NotStored };
        self.refused.fetch_or(!stored, Relaxed);
        self.claim.lock().settle(page, outcome);
    }

    fn give_up(&self, page: u32) {
        self.refused.store(true, Relaxed);
        self.claim.lock().settle(page, Outcome::NoAnswer);
    }

    fn writer(&self) -> Arc<FileWriter> {
        self.claim.lock().file().writer.clone()
    }
}

/// Runs of neighbours.
fn runs_of(pages: &[PageIndex]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for PageIndex(page) in pages.iter().copied() {
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// The next `len` bytes of a feed; `rest` is what has come of it and was not taken. Bytes that come in one piece are not copied.
async fn next_page(feed: &mut Feed, rest: &mut Bytes, len: usize) -> Result<Bytes, RequestError> {
    if rest.is_empty() {
        *rest = feed.next().await?.unwrap_or_default();
    }
    if rest.len() >= len {
        return Ok(rest.split_to(len));
    }
    let mut page = Vec::with_capacity(len);
    loop {
        let part = rest.split_to(rest.len().min(len - page.len()));
        page.extend_from_slice(&part);
        if page.len() == len {
            return Ok(page.into());
        }
        *rest =
            feed.next().await?.ok_or_else(|| RequestError::Internal(format!("a page of {len} bytes came short")))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::demand::Demand;
    use crate::fetch::flight::Ready;
    use crate::settings::Settings;
    use crate::stores::OpenStore;
    use forebay_base::{ByteSize, WorkerId};
    use forebay_cache::{DirSettings, PageStore, TierKind, TierSettings};
    use forebay_proto::ticket::Ticket;
    use forebay_proto::v1::{ClusterView, MountSpec, WorkerMount};
    use forebay_ufs::memory::{MemoryUfs, Operation};
    use forebay_ufs::{Ufs, UfsResult};

    struct OneStore(Arc<MemoryUfs>);

    impl OpenStore for OneStore {
        fn open(&self, _: &MountSpec) -> UfsResult<Arc<dyn Ufs>> {
            Ok(self.0.clone())
        }
    }

    fn node(store: &Arc<MemoryUfs>, dir: &std::path::Path) -> Arc<Node> {
        let dirs = vec![DirSettings { path: dir.join("cache"), quota: ByteSize::mib(64) }];
        let mut cache = forebay_cache::Settings::new(vec![TierSettings { kind: TierKind::Ssd, dirs }]);
        cache.keep_free = ByteSize(0);
        let mut settings = Settings::new(dir.join("data"), cache.clone());
        settings.stores = Arc::new(OneStore(store.clone()));
        let node = Node::new(WorkerId(1), &settings, PageStore::open(cache).unwrap());
        let mounts = vec![WorkerMount { mount: 1, spec: Some(MountSpec::default()) }];
        node.set_view(&ClusterView { epoch: 1, mounts, ..ClusterView::default() });
        Arc::new(node)
    }

    fn file(store: &MemoryUfs, content: &[u8]) -> Arc<TicketFile> {
        let meta = store.insert(b"file", content.to_vec());
        let ticket = Ticket {
            inode: 5,
            version: 1,
            length: content.len() as u64,
            page_size: 16 << 10,
            block_size: 1 << 20,
            mount: 1,
            key: Bytes::from_static(b"file"),
            version_tag: meta.tag.0,
            read: true,
            ..Ticket::default()
        };
        Arc::new(TicketFile::new(ticket, Bytes::new()).unwrap())
    }

    /// Both ways to space: a fetch that takes it after its bytes, and a larger one that takes it before.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn readers_do_not_wait_for_the_disk() {
        for len in [100_000, 3_000_000] {
            let (store, dir) = (Arc::new(MemoryUfs::new()), tempfile::tempdir().unwrap());
            let node = node(&store, dir.path());
            let content: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
            let file = file(&store, &content);
            let all = 0..u64::from(len);
            // A disk that takes nothing.
            let flights = node.flights.of(file.id);
            let (disk, blocked) = std::sync::mpsc::channel::<()>();
            flights.writer.run(&node.disks, &node.tasks, 0, move |_| {
                let _ = blocked.recv();
            });
            let mut demand = Demand::new(&node, &file, &all, Origin::Client);
            demand.plan_from(0);
            for page in file.pages_of(&all) {
                let range = file.bytes_of(&(page..page + 1));
                let ready = demand.wait_for(page).await;
                let Some(Ready::InMemory(bytes)) = ready else { panic!("page {page}: {ready:?}") };
                assert!(bytes.bytes()[..] == content[range.start as usize..range.end as usize]);
            }
            assert!(matches!(
                node.pages.lookup(file.id, file.meta, all.clone(), Access::Peek)[..],
                [Run::Missing { .. }]
            ));
            drop(disk);
            for page in file.pages_of(&all) {
                let outcome = demand.wait_until_cached(page).await;
                assert!(matches!(outcome, Some(Outcome::Stored)), "page {page}: {outcome:?}");
            }
            let mut cached = vec![0; len as usize];
            assert_eq!(node.pages.read_verified(file.id, file.meta, 0, &mut cached, Access::Peek), cached.len());
            assert!(cached == content);
            assert_eq!(store.count(Operation::Read), u64::from(len).div_ceil(1 << 20), "one for each block");
            let whole = node.fetch_permits_max as usize;
            while node.fetch_memory.available_permits() < whole {
                tokio::task::yield_now().await;
            }
        }
    }
}
