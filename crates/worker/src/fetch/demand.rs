//! What one request still has to get into the cache: planned a window ahead of the byte it has reached, so that memory and the number of fetches
//! stay bounded however long the range is.

use crate::fetch::feed::Origin;
use crate::fetch::flight::{Cached, FileFlights, Outcome, Ready, Waiter};
use crate::fetch::get;
use crate::file::TicketFile;
use crate::node::Node;
use forebay_cache::{Access, Run};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The pages of one request that are under way, and those not planned yet.
pub(crate) struct Demand {
    node: Arc<Node>,
    file: Arc<TicketFile>,
    flights: Arc<FileFlights>,
    origin: Origin,
    waiting: VecDeque<(u32, Waiter)>,
    /// Not planned yet.
    rest: Range<u32>,
}

impl Demand {
    /// Nothing is planned yet of `range`.
    pub(crate) fn new(node: &Arc<Node>, file: &Arc<TicketFile>, range: &Range<u64>, origin: Origin) -> Demand {
        Demand {
            node: node.clone(),
            file: file.clone(),
            flights: node.flights.of(file.id),
            origin,
            waiting: VecDeque::new(),
            rest: file.pages_of(range),
        }
    }

    /// Plans as far as the window reaches from `page`: what is neither cached nor under way is fetched.
    pub(crate) fn plan_from(&mut self, page: u32) {
        self.rest.start = self.rest.start.max(page);
        let limits = &self.node.limits;
        let pages = |bytes: u64| (bytes / self.file.page_size()).clamp(1, u64::from(u32::MAX)) as u32;
        let (window, step) = (pages(limits.window.bytes()), get_pages(&self.node, &self.file));
        let end = page.saturating_add(window).min(self.rest.end);
        let new = self.rest.start..end;
        // In steps of a whole fetch, so that a window that slides by single pages does not ask for single pages.
        if new.is_empty() || (new.len() < step as usize && end < self.rest.end && new.start > page) {
            return;
        }
        self.rest.start = end;
        let look = |pages: &Range<u32>| cached_pages(&self.node, &self.file, pages);
        let joined = self.flights.join(new, step, look, |page| starts_block(&self.file, page));
        for claim in joined.claims {
            get::start(&self.node, &self.file, claim, self.origin, None);
        }
        self.waiting.extend(joined.waiters);
    }

    /// Waits until a page is cached; none when it is not under way: it was cached when it was planned.
    pub(crate) async fn wait_until_cached(&self, page: u32) -> Option<Outcome> {
        Some(self.waiter(page)?.outcome().await)
    }

    /// Waits until the bytes of a page can be had; none when it is not under way: it was cached when it was planned.
    pub(crate) async fn wait_for(&self, page: u32) -> Option<Ready> {
        Some(self.waiter(page)?.ready().await)
    }

    fn waiter(&self, page: u32) -> Option<&Waiter> {
        self.waiting.iter().find(|(waiting, _)| *waiting == page).map(|(_, waiter)| waiter)
    }

    /// Forgets the pages before `page`: the reader is past them. Returns which of them had to be fetched for it.
    pub(crate) fn pass(&mut self, page: u32) -> Vec<u32> {
        let mut passed = Vec::new();
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting < page) {
            let fetched = self.waiting.pop_front().filter(|(_, waiter)| !waiter.had_arrived);
            passed.extend(fetched.map(|(page, _)| page));
        }
        passed
    }

    /// Plans `page` once more: what was found out about it does not hold any more.
    pub(crate) fn plan_again(&mut self, page: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != page);
        let joined = self.flights.join(page..page + 1, 1, |_| Cached::default(), |_| false);
        for claim in joined.claims {
            get::start(&self.node, &self.file, claim, self.origin, None);
        }
        for waiter in joined.waiters {
            self.waiting.push_front(waiter);
        }
    }
}

/// Fetches what is missing of the `len` bytes from `from` on, for nobody yet. Without a free place for a fetch it is left out.
///
/// A sequential reader asks for this at each step. To fetch in large pieces, nothing is done as long as the nearer half of the window is there.
pub(crate) fn read_ahead(node: &Arc<Node>, file: &Arc<TicketFile>, from: u64, len: u64, origin: Origin) {
    let len = len.min(node.limits.read_ahead_max.bytes());
    let window = file.clamp(from, len);
    // The page that holds the first byte belongs to the reader's own range if it lies in the middle of it.
    let pages = file.page_of(window.start + file.page_size() - 1)..file.pages_of(&window).end;
    if window.is_empty() || pages.is_empty() {
        return;
    }
    let flights = node.flights.of(file.id);
    let cached = cached_pages(node, file, &pages);
    let missing = |page: &u32| !cached.contains(*page) && !flights.is_under_way(*page);
    let Some(first) = pages.clone().find(missing) else {
        return;
    };
    let near = pages.start + (pages.end - pages.start) / 2;
    let last_window = window.end == file.length();
    if first > near && !last_window {
        return;
    }
    let joined = flights.join(
        first..pages.end,
        get_pages(node, file),
        |pages| cached_pages(node, file, pages),
        |page| starts_block(file, page),
    );
    drop(joined.waiters);
    for mut claim in joined.claims {
        let places = get::Places::take_spare(node, &claim);
        // Somebody may have joined in this moment: then it is his demand, and waits in line.
        if places.is_some() || !claim.give_up_if_unwanted() {
            get::start(node, file, claim, origin, places);
        }
    }
}

/// Pages of the largest fetch.
fn get_pages(node: &Node, file: &TicketFile) -> u32 {
    let pages = node.limits.get_len_max.bytes() / file.page_size();
    pages.clamp(1, u64::from(u32::MAX)) as u32
}

/// A fetch does not go beyond its block, since the next one has another owner.
fn starts_block(file: &TicketFile, page: u32) -> bool {
    (u64::from(page) * file.page_size()).is_multiple_of(file.ticket.block_size)
}

/// Which of `pages` are cached, as far as memory tells. One that is not in memory yet counts as missing: the fetch looks again before it asks anybody.
fn cached_pages(node: &Node, file: &TicketFile, pages: &Range<u32>) -> Cached {
    let runs = node.pages.try_lookup(file.id, file.meta, file.bytes_of(pages), Access::Peek);
    let is_known = runs.is_some();
    let present = runs.iter().flatten().filter_map(|run| match run {
        Run::Present(pinned) => Some(file.pages_of(&pinned.range())),
        Run::Missing { .. } => None,
    });
    Cached { runs: present.collect(), is_known }
}
