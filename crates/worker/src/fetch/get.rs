//! One fetch: neighbouring pages in one ranged read, each put into the page store and published as soon as its bytes are in.
//!
//! A fetch is a task of its own: the readers that wait for it may come and go. In memory are two pages of it at most, one that is being received
//! and one being written, or as many small ones as make 1 MiB.

use crate::error::RequestError;
use crate::fetch::feed::{Feed, Origin};
use crate::fetch::flight::{Claim, Outcome};
use crate::file::TicketFile;
use crate::metrics as names;
use crate::node::{Node, permits_for};
use bytes::Bytes;
use forebay_base::PageIndex;
use forebay_cache::{Access, Reservation, Run, Stored};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// Small pages are written together up to so many bytes.
const BATCH_LEN: usize = 1 << 20;

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
    let _places = match places {
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
    let permits = permits_for(2 * file.page_size().max(BATCH_LEN as u64)).min(node.fetch_permits_max);
    let Ok(_memory) = node.fetch_memory.clone().acquire_many_owned(permits).await else {
        return;
    };
    metrics::gauge!(names::FETCHES).increment(1);
    let started = Instant::now();
    fetch(&node, &file, claim, origin).await;
    metrics::gauge!(names::FETCHES).decrement(1);
    metrics::histogram!(names::FETCH_SECONDS).record(started.elapsed());
}

async fn fetch(node: &Arc<Node>, file: &Arc<TicketFile>, claim: Claim, origin: Origin) {
    let Some((claim, reservation, runs)) = reserve(node, file, claim).await else {
        return;
    };
    let mut writer = Writer {
        reservation: Arc::new(reservation),
        claim: Arc::new(Mutex::new(claim)),
        filled: Vec::new(),
        writing: None,
        page_size: file.page_size() as usize,
    };
    for run in runs {
        match fetch_run(node, file, run, origin, &mut writer).await {
            Ok(()) => {}
            Err(stop) => {
                writer.finish().await;
                writer.claim.lock().settle_rest(&stop);
                return;
            }
        }
    }
    writer.finish().await;
}

/// Claims space for the pages; those that are cached after all are settled. None when there is no space, and all are settled.
async fn reserve(
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    mut claim: Claim,
) -> Option<(Claim, Reservation, Vec<Range<u32>>)> {
    let (pages, file) = (node.pages.clone(), file.clone());
    let reserved = tokio::task::spawn_blocking(move || {
        let Some(reservation) = pages.reserve(file.id, file.meta, claim.pages()) else {
            claim.settle_rest(&Outcome::NotStored);
            return None;
        };
        let reserved = reservation.pages();
        for page in claim.pages() {
            if reserved.binary_search(&PageIndex(page)).is_err() {
                // Cached since the claim was made, or a writer has it in hand.
                let range = file.bytes_of(&(page..page + 1));
                let runs = pages.lookup(file.id, file.meta, range, Access::Peek);
                let cached = matches!(runs[..], [Run::Present(_)]);
                claim.settle(page, if cached { Outcome::Stored } else { Outcome::NotStored });
            }
        }
        Some((claim, reservation, runs_of(&reserved)))
    })
    .await;
    // A panic in there has dropped the claim, which tells all who wait.
    reserved.ok().flatten()
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

/// Fetches neighbouring pages; the error is what the pages not published yet are to be settled with.
async fn fetch_run(
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    pages: Range<u32>,
    origin: Origin,
    writer: &mut Writer,
) -> Result<(), Outcome> {
    let mut feed = Feed::new(node, file, file.bytes_of(&pages), origin);
    let page_len = |page: u32| {
        let bytes = file.bytes_of(&(page..page + 1));
        (bytes.end - bytes.start) as usize
    };
    let mut page = pages.start;
    let mut buffer = Vec::with_capacity(page_len(page));
    while let Some(mut bytes) = feed.next().await.map_err(Outcome::Failed)? {
        while !bytes.is_empty() {
            let part: Bytes = bytes.split_to(bytes.len().min(page_len(page) - buffer.len()));
            buffer.extend_from_slice(&part);
            if buffer.len() == page_len(page) {
                writer.write(page, buffer).await?;
                page += 1;
                if page == pages.end {
                    return Ok(());
                }
                buffer = Vec::with_capacity(page_len(page));
            }
        }
    }
    Err(Outcome::Failed(RequestError::Internal(format!("page {page} of {} came short", file.id))))
}

/// Writes pages in the background, one batch after the other, and publishes them.
struct Writer {
    reservation: Arc<Reservation>,
    claim: Arc<Mutex<Claim>>,
    /// Whole pages that wait for the batch before them to be written.
    filled: Vec<(u32, Vec<u8>)>,
    /// Tells whether all of the batch was stored.
    writing: Option<JoinHandle<bool>>,
    page_size: usize,
}

impl Writer {
    /// Takes a whole page. Waits while a batch is being written and another is full.
    async fn write(&mut self, page: u32, bytes: Vec<u8>) -> Result<(), Outcome> {
        self.filled.push((page, bytes));
        let idle = self.writing.as_ref().is_none_or(JoinHandle::is_finished);
        if idle || self.filled.len() * self.page_size >= BATCH_LEN {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Outcome> {
        self.wait().await?;
        let batch = std::mem::take(&mut self.filled);
        let (reservation, claim) = (self.reservation.clone(), self.claim.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || write_batch(&reservation, &claim, batch)));
        Ok(())
    }

    /// Waits for the batch in hand.
    async fn wait(&mut self) -> Result<(), Outcome> {
        match self.writing.take() {
            None => Ok(()),
            Some(writing) => match writing.await {
                Ok(true) => Ok(()),
                // The disk is full or broken: the rest would not be stored either.
                Ok(false) => Err(Outcome::NotStored),
                Err(_) => Err(Outcome::Failed(RequestError::Internal("writing a page panicked".into()))),
            },
        }
    }

    /// Writes what is left and waits for it.
    async fn finish(&mut self) {
        if !self.filled.is_empty() {
            let _ = self.flush().await;
        }
        let _ = self.wait().await;
    }
}

fn write_batch(reservation: &Reservation, claim: &Mutex<Claim>, batch: Vec<(u32, Vec<u8>)>) -> bool {
    let mut all_stored = true;
    for (page, bytes) in batch {
        let stored = reservation.write(PageIndex(page), &bytes, None) == Stored::Yes;
        let outcome = if stored { Outcome::Stored } else { Outcome::NotStored };
        claim.lock().settle(page, outcome);
        all_stored &= stored;
    }
    all_stored
}
