//! Getting a range into the cache without handing it to anybody: loads, and clients that read the cached file themselves.

use crate::error::RequestError;
use crate::fetch::demand::Demand;
use crate::fetch::feed::Origin;
use crate::fetch::flight::Outcome;
use crate::file::TicketFile;
use crate::node::Node;
use forebay_cache::{Access, PinnedRange, Run};
use std::ops::Range;
use std::sync::Arc;

/// A page that is evicted as soon as it has come is asked for this often.
const TRIES_MAX: u32 = 3;

/// A range on its way into the cache.
pub(crate) struct Fill {
    node: Arc<Node>,
    file: Arc<TicketFile>,
    rest: Range<u64>,
    demand: Demand,
    /// Bytes that were cached already.
    pub(crate) hit: u64,
    /// Bytes that had to be fetched.
    pub(crate) missed: u64,
}

impl Fill {
    pub(crate) fn new(node: &Arc<Node>, file: &Arc<TicketFile>, range: Range<u64>) -> Fill {
        Fill {
            demand: Demand::new(node, file, &range, Origin::Client),
            node: node.clone(),
            file: file.clone(),
            rest: range,
            hit: 0,
            missed: 0,
        }
    }

    /// Gets the next stretch into the cache; false when all is done.
    pub(crate) async fn step(&mut self) -> Result<bool, RequestError> {
        for _ in 0..TRIES_MAX {
            if self.rest.is_empty() {
                return Ok(false);
            }
            let page = self.file.page_of(self.rest.start);
            self.demand.plan_from(page);
            match self.first_run().await? {
                Run::Present(pinned) => {
                    self.pass(&pinned.range());
                    return Ok(!self.rest.is_empty());
                }
                Run::Missing { .. } => match self.demand.wait_until_cached(page).await {
                    Some(Outcome::Stored) => {}
                    Some(Outcome::NotStored) => return Err(no_space()),
                    Some(Outcome::Failed(error)) => return Err(error),
                    None => self.demand.plan_again(page),
                },
            }
        }
        Err(no_space())
    }

    async fn first_run(&self) -> Result<Run, RequestError> {
        first_run(&self.node, &self.file, self.rest.clone(), Access::Peek).await
    }

    fn pass(&mut self, present: &Range<u64>) {
        let len = present.end - present.start;
        self.rest.start = present.end;
        let missed = missed_bytes(&self.file, present, &self.demand.pass(self.file.pages_of(present).end));
        self.missed += missed;
        self.hit += len - missed;
    }
}

fn no_space() -> RequestError {
    RequestError::Unavailable("the cache has no space for the range; it can be read, not kept".into())
}

/// How many bytes of `range` lie in `pages`.
pub(crate) fn missed_bytes(file: &TicketFile, range: &Range<u64>, pages: &[u32]) -> u64 {
    pages
        .iter()
        .map(|page| {
            let bytes = file.bytes_of(&(*page..page + 1));
            let (start, end) = (bytes.start.max(range.start), bytes.end.min(range.end));
            end.saturating_sub(start)
        })
        .sum()
}

/// The first run of a range, from memory or, if it must be, from the disks.
pub(crate) async fn first_run(
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    range: Range<u64>,
    access: Access,
) -> Result<Run, RequestError> {
    if let Some(run) = node.pages.try_first_run(file.id, file.meta, range.clone(), access) {
        return Ok(run);
    }
    let (pages, file, all) = (node.pages.clone(), file.clone(), range.clone());
    let runs = tokio::task::spawn_blocking(move || pages.lookup(file.id, file.meta, all, access));
    let runs = runs.await.map_err(|_| RequestError::Internal("a lookup in the page store panicked".into()))?;
    runs.into_iter().next().ok_or_else(|| RequestError::Internal("the page store gave no answer for a range".into()))
}

/// Checks a cached range against its checksums on a thread that may wait; damaged pages are dropped. The range comes back when it is whole.
pub(crate) async fn verify(pinned: PinnedRange) -> Result<Option<PinnedRange>, RequestError> {
    const STEP: u64 = 1 << 20;
    let checked = tokio::task::spawn_blocking(move || {
        let range = pinned.range();
        let mut buffer = vec![0; (range.end - range.start).min(STEP) as usize];
        let mut damaged = false;
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(STEP);
            damaged |= pinned.read_verified(at, &mut buffer[..len as usize]).is_err();
            at += len;
        }
        (!damaged).then_some(pinned)
    });
    checked.await.map_err(|_| RequestError::Internal("checking cached pages panicked".into()))
}
