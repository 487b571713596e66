//! Getting a range into the cache without handing it to anybody: loads, and clients that read the cached file themselves.

use crate::disk_threads::{Disk, DiskError};
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
                Run::Missing { .. } => match self.wait_until_cached(page).await? {
                    Some(Outcome::Stored) => {}
                    Some(Outcome::NotStored) => return Err(RequestError::NoSpace),
                    Some(Outcome::NoAnswer) => return Err(DiskError::NoAnswer.into()),
                    Some(Outcome::Failed(error)) => return Err(error),
                    None => self.demand.plan_again(page),
                },
            }
        }
        Err(RequestError::NoSpace)
    }

    async fn first_run(&self) -> Result<Run, RequestError> {
        Ok(first_run(&self.node, &self.file, self.rest.clone(), Access::Peek).await?)
    }

    /// Waits for the store as long as it takes, for the disk as long as the patience with disks lasts.
    async fn wait_until_cached(&self, page: u32) -> Result<Option<Outcome>, RequestError> {
        if self.demand.wait_for(page).await.is_none() {
            return Ok(None);
        }
        let cached = self.demand.wait_until_cached(page);
        let cached = tokio::time::timeout(self.node.disks.patience(), cached).await;
        cached.map_err(|_| DiskError::NoAnswer.into())
    }

    fn pass(&mut self, present: &Range<u64>) {
        let len = present.end - present.start;
        self.rest.start = present.end;
        let missed = missed_bytes(&self.file, present, &self.demand.pass(self.file.pages_of(present).end));
        self.missed += missed;
        self.hit += len - missed;
    }
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
) -> Result<Run, DiskError> {
    if let Some(run) = node.pages.try_first_run(file.id, file.meta, range.clone(), access) {
        return Ok(run);
    }
    let (pages, file) = (node.pages.clone(), file.clone());
    node.disks.run(Disk::Any, move || pages.first_run(file.id, file.meta, range, access)).await
}

/// Checks a cached range against its checksums on a thread that may wait; damaged pages are dropped. The range comes back when it is whole.
pub(crate) async fn verify(node: &Node, pinned: PinnedRange) -> Result<Option<PinnedRange>, DiskError> {
    const STEP: u64 = 1 << 20;
    let disk = Disk::Of(pinned.directory());
    let check = move || {
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
    };
    node.disks.run(disk, check).await
}
