//! Single flight: each missing page is fetched once, however many readers wait for it.
//!
//! A fetch claims pages; a page claimed by another is waited for. A claim ends page by page, with an [`Outcome`] for all who wait,
//! and for the rest when it is dropped. Between its arrival and its end a page can be had from memory. A page is in the page store
//! before its slot goes, so whoever finds neither, in this order, may claim it.

use crate::error::RequestError;
use crate::fetch::page::PageBytes;
use crate::fetch::writer::FileWriter;
use forebay_base::FileId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, SetOnce};

/// How a page's fetch ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The page store has it.
    Stored,
    /// The page store has no place for it: read past the cache.
    NotStored,
    /// The disk does not take it: read past the cache, and no more into it for this request.
    NoAnswer,
    /// The bytes cannot be had.
    Failed(RequestError),
}

/// What there is to be had of a page under way.
#[derive(Debug)]
pub(crate) enum Ready {
    /// Its bytes, on their way to the disk.
    InMemory(PageBytes),
    /// It has ended.
    Ended(Outcome),
}

/// A page under way.
#[derive(Debug, Default)]
struct Slot {
    outcome: SetOnce<Outcome>,
    /// The bytes have come.
    arrived: SetOnce<()>,
    /// From then until the page has ended: the memory is the fetch's, who reads takes it along with memory of his own.
    bytes: Mutex<Option<PageBytes>>,
    /// Changed under the lock of [`FileFlights::slots`], so that a fetch is not given up at the moment when somebody joins.
    waiters: Mutex<usize>,
}

/// The pages under way of all files. Bounded by the fetches, which are bounded by the readers and their windows.
#[derive(Debug)]
pub(crate) struct Flights {
    files: Arc<Mutex<HashMap<FileId, Weak<FileFlights>>>>,
    gets_per_file_max: usize,
}

/// The pages under way of one file. Lives as long as somebody fetches or looks.
#[derive(Debug)]
pub(crate) struct FileFlights {
    id: FileId,
    slots: Mutex<HashMap<u32, Arc<Slot>>>,
    /// GETs at one time.
    pub(crate) gets: Arc<Semaphore>,
    /// Puts what has arrived into the page store.
    pub(crate) writer: Arc<FileWriter>,
    files: Arc<Mutex<HashMap<FileId, Weak<FileFlights>>>>,
}

impl Flights {
    pub(crate) fn new(gets_per_file_max: usize) -> Flights {
        Flights { files: Arc::default(), gets_per_file_max }
    }

    /// The pages under way of a file.
    pub(crate) fn of(&self, id: FileId) -> Arc<FileFlights> {
        let mut files = self.files.lock();
        if let Some(file) = files.get(&id).and_then(Weak::upgrade) {
            return file;
        }
        let file = Arc::new(FileFlights {
            id,
            slots: Mutex::default(),
            gets: Arc::new(Semaphore::new(self.gets_per_file_max)),
            writer: Arc::default(),
            files: self.files.clone(),
        });
        files.insert(id, Arc::downgrade(&file));
        file
    }

    /// Gives up what waits to be written behind a disk that has not answered for so long.
    pub(crate) fn give_up_stuck_writes(&self, patience: Duration) {
        // Not under the lock: the last to let go of a file takes it.
        let files: Vec<Arc<FileFlights>> = self.files.lock().values().filter_map(Weak::upgrade).collect();
        files.iter().for_each(|file| file.writer.give_up_if_stuck(patience));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.files.lock().len()
    }
}

impl Drop for FileFlights {
    fn drop(&mut self) {
        let mut files = self.files.lock();
        // Another may have put its own there since our count fell to zero.
        if files.get(&self.id).is_some_and(|file| file.strong_count() == 0) {
            files.remove(&self.id);
        }
    }
}

/// Somebody waits for a page.
#[derive(Debug)]
pub(crate) struct Waiter {
    slot: Arc<Slot>,
    /// Its bytes were there already: nobody had to wait for the store.
    pub(crate) had_arrived: bool,
}

impl Waiter {
    fn new(slot: &Arc<Slot>) -> Waiter {
        *slot.waiters.lock() += 1;
        Waiter { had_arrived: slot.arrived.initialized(), slot: slot.clone() }
    }

    /// Waits until the page is in the page store, or will not be. Cancel-safe.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.slot.outcome.wait().await.clone()
    }

    /// Waits until the page's bytes are here. Cancel-safe.
    pub(crate) async fn ready(&self) -> Ready {
        if let Some(outcome) = self.slot.outcome.get() {
            return Ready::Ended(outcome.clone());
        }
        tokio::select! {
            biased;
            _ = self.slot.arrived.wait() => {}
            outcome = self.slot.outcome.wait() => return Ready::Ended(outcome.clone()),
        }
        let bytes = self.slot.bytes.lock().clone();
        match bytes {
            Some(bytes) => Ready::InMemory(bytes),
            None => Ready::Ended(self.outcome().await),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        *self.slot.waiters.lock() -= 1;
    }
}

/// What [`FileFlights::join`] found.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The pages that were neither wanted by the caller to be skipped nor under way: its own to fetch, in runs of neighbours.
    pub(crate) claims: Vec<Claim>,
    /// One for each page asked for that is under way now, ascending, with those just claimed.
    pub(crate) waiters: Vec<(u32, Waiter)>,
}

impl FileFlights {
    /// Whether somebody fetches the page.
    pub(crate) fn is_under_way(&self, page: u32) -> bool {
        self.slots.lock().contains_key(&page)
    }

    /// Joins those of `pages` that are under way and claims the others, leaving out those that are cached. Runs of neighbours are cut after
    /// `run_len_max` pages, and where `cut_before` says. `look` tells what is cached; it is called while nobody can end a page, so that one
    /// that ends now is found in one place or the other.
    pub(crate) fn join(
        self: &Arc<Self>,
        pages: Range<u32>,
        run_len_max: u32,
        look: impl FnOnce(&Range<u32>) -> Cached,
        cut_before: impl Fn(u32) -> bool,
    ) -> Joined {
        let mut joined = Joined::default();
        let mut slots = self.slots.lock();
        let cached = look(&pages);
        for page in pages {
            if let Some(slot) = slots.get(&page) {
                joined.waiters.push((page, Waiter::new(slot)));
                continue;
            }
            if cached.contains(page) {
                continue;
            }
            let slot = Arc::new(Slot::default());
            joined.waiters.push((page, Waiter::new(&slot)));
            slots.insert(page, slot.clone());
            match joined.claims.last_mut() {
                Some(claim)
                    if claim.pages.end == page
                        && claim.pages.end - claim.pages.start < run_len_max
                        && !cut_before(page) =>
                {
                    claim.pages.end += 1;
                    claim.slots.push(Some(slot));
                }
                _ => joined.claims.push(Claim {
                    file: self.clone(),
                    pages: page..page + 1,
                    slots: vec![Some(slot)],
                    surely_missing: cached.is_known,
                }),
            }
        }
        joined
    }
}

/// Which of some pages are cached.
#[derive(Debug, Default)]
pub(crate) struct Cached {
    /// Ascending runs.
    pub(crate) runs: Vec<Range<u32>>,
    /// Whether the others are surely not.
    pub(crate) is_known: bool,
}

impl Cached {
    pub(crate) fn contains(&self, page: u32) -> bool {
        let after = self.runs.partition_point(|run| run.end <= page);
        self.runs.get(after).is_some_and(|run| run.contains(&page))
    }
}

/// Neighbouring pages that the holder fetches, and nobody else.
#[derive(Debug)]
pub(crate) struct Claim {
    file: Arc<FileFlights>,
    pages: Range<u32>,
    /// None once the page's outcome is told.
    slots: Vec<Option<Arc<Slot>>>,
    surely_missing: bool,
}

impl Claim {
    pub(crate) fn pages(&self) -> Range<u32> {
        self.pages.clone()
    }

    pub(crate) fn file(&self) -> &Arc<FileFlights> {
        &self.file
    }

    /// Whether the page store was known not to have the pages when they were claimed. If not, it is to be asked again, by who may wait for a disk.
    pub(crate) fn is_surely_missing(&self) -> bool {
        self.surely_missing
    }

    /// Gives the bytes of `page` to all who wait for it, until its outcome is told.
    pub(crate) fn arrive(&self, page: u32, bytes: &PageBytes) {
        let at = (page - self.pages.start) as usize;
        if let Some(slot) = &self.slots[at] {
            *slot.bytes.lock() = Some(bytes.clone());
            let _ = slot.arrived.set(());
        }
    }

    /// Tells all who wait for `page` how it ended. A page whose outcome has been told is left alone.
    pub(crate) fn settle(&mut self, page: u32, outcome: Outcome) {
        let at = (page - self.pages.start) as usize;
        if let Some(slot) = self.slots[at].take() {
            // First out of the table, so that who comes now looks into the page store.
            self.file.slots.lock().remove(&page);
            let _ = slot.outcome.set(outcome);
            slot.bytes.lock().take();
        }
    }

    /// Tells the same of all pages that are left.
    pub(crate) fn settle_rest(&mut self, outcome: &Outcome) {
        for page in self.pages() {
            self.settle(page, outcome.clone());
        }
    }

    /// Gives the claim up if nobody waits for any of its pages; whether it did.
    pub(crate) fn give_up_if_unwanted(&mut self) -> bool {
        let mut slots = self.file.slots.lock();
        let wanted = |slot: &Arc<Slot>| *slot.waiters.lock() > 0;
        if self.slots.iter().flatten().any(wanted) {
            return false;
        }
        for (page, slot) in self.pages.clone().zip(&mut self.slots) {
            if slot.take().is_some() {
                slots.remove(&page);
            }
        }
        true
    }
}

impl Drop for Claim {
    /// A fetch that ends without a word (a shutdown, a panic) must not leave anybody waiting.
    fn drop(&mut self) {
        self.settle_rest(&Outcome::Failed(RequestError::Unavailable(
            "the fetch was cut off: the worker is stopping".into(),
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::InodeId;

    fn id() -> FileId {
        FileId { inode: InodeId(1), version: 1 }
    }

    fn join(file: &Arc<FileFlights>, pages: Range<u32>, cached: &[u32]) -> Joined {
        let runs = cached.iter().map(|page| *page..page + 1).collect();
        file.join(pages, 4, |_| Cached { runs, is_known: true }, |page| page == 10)
    }

    /// First page and end of each run.
    fn runs(joined: &Joined) -> Vec<(u32, u32)> {
        let pages = joined.claims.iter().map(Claim::pages);
        pages.map(|run| (run.start, run.end)).collect()
    }

    #[tokio::test]
    async fn a_page_is_claimed_once_and_all_hear_of_it() {
        let flights = Flights::new(2);
        let file = flights.of(id());
        let mut first = join(&file, 0..3, &[]);
        let second = join(&flights.of(id()), 2..5, &[]);
        assert_eq!((runs(&first), runs(&second)), (vec![(0, 3)], vec![(3, 5)]));
        first.claims[0].settle(2, Outcome::Stored);
        let (page, waiter) = &second.waiters[0];
        assert_eq!(*page, 2);
        assert!(matches!(waiter.outcome().await, Outcome::Stored));
        assert_eq!(runs(&join(&file, 2..3, &[])), [(2, 3)], "a settled page can be claimed again");
    }

    #[tokio::test]
    async fn a_page_that_has_arrived_is_had_from_memory_until_it_has_ended() {
        let flights = Flights::new(2);
        let file = flights.of(id());
        let mut first = join(&file, 0..1, &[]);
        let bytes = PageBytes::new(bytes::Bytes::from_static(b"page"));
        first.claims[0].arrive(0, &bytes);
        let late = join(&file, 0..1, &[]);
        assert_eq!((first.waiters[0].1.had_arrived, late.waiters[0].1.had_arrived), (false, true));
        for joined in [&first, &late] {
            assert!(matches!(joined.waiters[0].1.ready().await, Ready::InMemory(_)));
        }
        first.claims[0].settle(0, Outcome::NotStored);
        assert!(matches!(late.waiters[0].1.ready().await, Ready::Ended(Outcome::NotStored)));
        assert!(late.waiters[0].1.slot.bytes.lock().is_none(), "its memory is free");
    }

    #[tokio::test]
    async fn a_dropped_claim_fails_what_is_left() {
        let flights = Flights::new(2);
        let mut joined = join(&flights.of(id()), 0..2, &[]);
        joined.claims[0].settle(0, Outcome::NotStored);
        joined.claims.clear();
        assert!(matches!(joined.waiters[0].1.outcome().await, Outcome::NotStored));
        assert!(matches!(joined.waiters[1].1.outcome().await, Outcome::Failed(_)));
        drop(joined);
        assert_eq!(flights.len(), 0, "nothing is left behind");
    }

    #[test]
    fn runs_are_cut_at_their_length_at_cached_pages_and_where_told() {
        let flights = Flights::new(2);
        let joined = join(&flights.of(id()), 0..12, &[5]);
        assert_eq!(runs(&joined), [(0, 4), (4, 5), (6, 10), (10, 12)]);
        assert!(joined.waiters.iter().all(|(page, _)| *page != 5));
    }

    #[test]
    fn a_claim_is_given_up_only_when_nobody_waits() {
        let flights = Flights::new(2);
        let file = flights.of(id());
        let mut joined = join(&file, 0..2, &[]);
        let other = join(&file, 1..2, &[]);
        joined.waiters.clear();
        assert!(!joined.claims[0].give_up_if_unwanted());
        drop(other);
        assert!(joined.claims[0].give_up_if_unwanted());
        assert_eq!(runs(&join(&file, 0..2, &[])), [(0, 2)]);
    }
}
