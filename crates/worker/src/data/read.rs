//! Serving a `Read`: what is cached from the page store, what is missing as it arrives, in file order.

use crate::data::reply::Reply;
use crate::data::send;
use crate::data::send::Sent;
use crate::data::server::Session;
use crate::data::socket::in_time;
use crate::disk_threads::DiskError;
use crate::error::{ConnectionError, RequestError};
use crate::fetch::demand::{self, Demand};
use crate::fetch::feed::{Feed, Origin};
use crate::fetch::fill::{first_run, missed_bytes, verify};
use crate::fetch::flight::{Outcome, Ready};
use crate::fetch::page::PageBytes;
use crate::file::TicketFile;
use crate::metrics as names;
use crate::node::{Node, permits_for};
use forebay_cache::{Access, PinnedRange, Run};
use forebay_proto::frame::{READ_LEN_MAX, ReadHead};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::SemaphorePermit;

/// Longest body of a frame that goes past the cache.
const THROUGH_FRAME_LEN: u64 = 512 << 10;
/// Memory that reading past the cache holds: a frame, and the store's last chunk.
const THROUGH_MEMORY: u64 = 2 * THROUGH_FRAME_LEN;
/// So often a place is looked up again (damaged, evicted before it was read) before it is read past the cache.
const TRIES_MAX: u32 = 3;

/// How an answer ends early.
pub(crate) enum Failure {
    /// The reader is told.
    Request(RequestError),
    /// Nobody can be told.
    Connection(ConnectionError),
}

impl<E: Into<RequestError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Request(error.into())
    }
}

/// Whether the end of an answer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With the last data frame.
    Sent,
    /// Not yet.
    Unsent,
}

/// What a reader that waited for a page has of it.
enum Waited<'a> {
    /// Its bytes, and the right to hold them.
    InMemory(PageBytes, SemaphorePermit<'a>),
    Ended(Outcome),
}

/// Answers one `Read`.
pub(crate) async fn serve(session: &mut Session, request: u64, head: ReadHead) -> Result<(), ConnectionError> {
    let started = Instant::now();
    let node = session.node.clone();
    let mut reply = Reply::new(&mut session.connection, request);
    let mut reader = match Reader::new(&node, &head).await {
        Ok(reader) => reader,
        Err(error) => return reply.error(&error).await,
    };
    let ended = reader.run(&mut reply).await;
    // What goes to another worker is counted there, when its reader gets it.
    if !head.from_worker {
        node.counters.served(reader.hit, reader.missed);
    }
    match ended {
        Ok(Ended::Sent) => {}
        Ok(Ended::Unsent) => reply.done(reader.hit, reader.missed).await?,
        Err(Failure::Request(error)) => reply.error(&error).await?,
        Err(Failure::Connection(error)) => return Err(error),
    }
    // After the bytes that somebody waits for.
    reader.read_ahead();
    metrics::histogram!(names::READ_SECONDS).record(started.elapsed());
    Ok(())
}

/// One request on its way through the file.
struct Reader<'a> {
    node: &'a Arc<Node>,
    head: &'a ReadHead,
    file: Arc<TicketFile>,
    /// Not sent yet.
    rest: Range<u64>,
    end: u64,
    access: Access,
    demand: Option<Demand>,
    /// Looked up again without getting on.
    tries: u32,
    read_ahead_done: bool,
    /// A disk has not answered: the rest is read past the cache.
    disk_is_silent: bool,
    hit: u64,
    missed: u64,
}

impl<'a> Reader<'a> {
    async fn new(node: &'a Arc<Node>, head: &'a ReadHead) -> Result<Reader<'a>, RequestError> {
        if head.length > READ_LEN_MAX {
            return Err(RequestError::Invalid(format!(
                "a read of {} bytes is too long: at most {READ_LEN_MAX} bytes are allowed",
                head.length
            )));
        }
        let file = node.check_ticket(&head.ticket).await?;
        file.check_read()?;
        let rest = file.clamp(head.offset, head.length);
        Ok(Reader {
            node,
            head,
            end: rest.end,
            rest,
            access: match (head.no_cache, head.promote) {
                (true, _) => Access::Peek,
                (false, true) => Access::ReadPromote,
                (false, false) => Access::Read,
            },
            file,
            demand: None,
            tries: 0,
            read_ahead_done: false,
            disk_is_silent: false,
            hit: 0,
            missed: 0,
        })
    }

    fn origin(&self) -> Origin {
        match self.head.from_worker {
            true => Origin::Worker,
            false => Origin::Client,
        }
    }

    async fn run(&mut self, reply: &mut Reply<'_>) -> Result<Ended, Failure> {
        while !self.rest.is_empty() {
            let page = self.file.page_of(self.rest.start);
            if let Some(demand) = &mut self.demand {
                demand.plan_from(page);
            }
            let run = match self.disk_is_silent {
                true => None,
                false => self.first_run(reply).await?,
            };
            let Some(run) = run else {
                if self.head.cached_only {
                    break;
                }
                self.through(reply, self.rest.clone()).await?;
                continue;
            };
            match run {
                Run::Present(pinned) => {
                    if self.present(reply, pinned).await? == Ended::Sent {
                        return Ok(Ended::Sent);
                    }
                }
                Run::Missing { .. } if self.head.cached_only => break,
                Run::Missing { range, .. } => {
                    if self.missing(reply, page, range).await? == Ended::Sent {
                        return Ok(Ended::Sent);
                    }
                }
            }
        }
        Ok(Ended::Unsent)
    }

    /// What the rest begins with; none when the disk does not say. Opening a cached file may take a slow disk long.
    async fn first_run(&mut self, reply: &mut Reply<'_>) -> Result<Option<Run>, Failure> {
        let (file, rest) = (&self.file, self.rest.clone());
        if let Some(run) = self.node.pages.try_first_run(file.id, file.meta, rest.clone(), self.access) {
            return Ok(Some(run));
        }
        let run = reply.while_waiting(rest.start, first_run(self.node, file, rest.clone(), self.access));
        let run = run.await.map_err(Failure::Connection)?;
        self.if_answered(run)
    }

    /// What a disk has said; none, and it is not asked again for this request, when it has not answered.
    fn if_answered<T>(&mut self, said: Result<T, DiskError>) -> Result<Option<T>, Failure> {
        match said {
            Ok(said) => Ok(Some(said)),
            Err(DiskError::NoAnswer) => {
                self.no_answer();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn no_answer(&mut self) {
        metrics::counter!(names::DISK_TIMEOUTS).increment(1);
        tracing::warn!(file = %self.file.id, offset = self.rest.start, "the disk of the cache does not answer; reading past it");
        self.disk_is_silent = true;
        self.demand = None;
    }

    /// Sends a cached range, if it is not damaged.
    async fn present(&mut self, reply: &mut Reply<'_>, pinned: PinnedRange) -> Result<Ended, Failure> {
        let range = pinned.range();
        let pinned = match self.head.verify {
            true => {
                let verified = reply.while_waiting(range.start, verify(self.node, pinned)).await;
                match self.if_answered(verified.map_err(Failure::Connection)?)? {
                    Some(verified) => verified,
                    None => return Ok(Ended::Unsent),
                }
            }
            false => Some(pinned),
        };
        let Some(pinned) = pinned else {
            self.damaged();
            return Ok(Ended::Unsent);
        };
        let len = range.end - range.start;
        let missed = match &mut self.demand {
            Some(demand) => {
                let passed = demand.pass(self.file.pages_of(&range).end);
                missed_bytes(&self.file, &range, &passed)
            }
            None => 0,
        };
        let (hit, missed) = (self.hit + len - missed, self.missed + missed);
        let end = (range.end == self.end).then_some((hit, missed));
        let ended = match send::cached(reply, self.node, &self.file, pinned, end).await? {
            Sent::Whole(ended) => ended,
            Sent::Damaged => {
                self.damaged();
                return Ok(Ended::Unsent);
            }
            Sent::NoAnswer => {
                self.no_answer();
                return Ok(Ended::Unsent);
            }
        };
        (self.hit, self.missed) = (hit, missed);
        self.pass(range.end);
        Ok(ended)
    }

    fn damaged(&mut self) {
        metrics::counter!(names::DAMAGED_PAGES).increment(1);
        tracing::warn!(file = %self.file.id, offset = self.rest.start, "cached bytes are damaged; fetching them again");
        // The page is gone from the store: what is planned took it for cached.
        self.demand = None;
        self.tries += 1;
    }

    fn pass(&mut self, to: u64) {
        self.rest.start = to;
        self.tries = 0;
    }

    /// Waits for the page that the rest begins in, or gets the bytes past the cache. `missing` is where the rest begins.
    async fn missing(&mut self, reply: &mut Reply<'_>, page: u32, missing: Range<u64>) -> Result<Ended, Failure> {
        if self.head.no_cache || self.tries >= TRIES_MAX {
            return self.through(reply, missing).await.map(|()| Ended::Unsent);
        }
        let rest = self.rest.clone();
        let mut demand = self.demand.take().unwrap_or_else(|| Demand::new(self.node, &self.file, &rest, self.origin()));
        demand.plan_from(page);
        self.read_ahead();
        let waited = reply.while_waiting(self.rest.start, self.wait_for(&demand, page)).await;
        let ready = waited.map_err(Failure::Connection)?;
        if ready.is_none() {
            demand.plan_again(page);
        }
        self.demand = Some(demand);
        self.tries += 1;
        match ready {
            None | Some(Waited::Ended(Outcome::Stored)) => Ok(Ended::Unsent),
            Some(Waited::InMemory(bytes, _memory)) => self.in_memory(reply, page, bytes).await,
            Some(Waited::Ended(Outcome::NotStored)) => self.through(reply, missing).await.map(|()| Ended::Unsent),
            Some(Waited::Ended(Outcome::NoAnswer)) => {
                self.no_answer();
                Ok(Ended::Unsent)
            }
            Some(Waited::Ended(Outcome::Failed(error))) => Err(error.into()),
        }
    }

    /// Waits for a page. From memory it can only be had with a share of the requests' memory: a reader may be slow, and must not hold up the fetches.
    async fn wait_for(&self, demand: &Demand, page: u32) -> Option<Waited<'a>> {
        if let Ready::Ended(outcome) = demand.wait_for(page).await? {
            return Some(Waited::Ended(outcome));
        }
        let whole = self.file.bytes_of(&(page..page + 1));
        let memory = self.node.memory.try_acquire_many(permits_for(whole.end - whole.start)).ok();
        if let Some(memory) = memory
            && let Ready::InMemory(bytes) = demand.wait_for(page).await?
        {
            return Some(Waited::InMemory(bytes, memory));
        }
        // It has come, and is on its way to the disk.
        match tokio::time::timeout(self.node.disks.patience(), demand.wait_until_cached(page)).await {
            Ok(cached) => cached.map(Waited::Ended),
            Err(_) => Some(Waited::Ended(Outcome::NoAnswer)),
        }
    }

    /// Sends what is wanted of a page that has just arrived.
    async fn in_memory(&mut self, reply: &mut Reply<'_>, page: u32, bytes: PageBytes) -> Result<Ended, Failure> {
        let whole = self.file.bytes_of(&(page..page + 1));
        let range = self.rest.start..self.rest.end.min(whole.end);
        let len = range.end - range.start;
        let passed = self.demand.as_mut().map(|demand| demand.pass(page + 1)).unwrap_or_default();
        self.missed += missed_bytes(&self.file, &range, &passed);
        self.hit += len - missed_bytes(&self.file, &range, &passed);
        let part = (range.start - whole.start) as usize..(range.end - whole.start) as usize;
        let checksums = bytes.checksums_of(&part);
        let end = (range.end == self.end).then_some((self.hit, self.missed));
        let sent = reply.data_with_end(range.start, &bytes.bytes()[part], checksums, end);
        in_time(len, self.node.limits.time_for_body(len), sent).await.map_err(Failure::Connection)?;
        self.pass(range.end);
        Ok(match end {
            Some(_) => Ended::Sent,
            None => Ended::Unsent,
        })
    }

    /// Sends a range straight from its source.
    async fn through(&mut self, reply: &mut Reply<'_>, range: Range<u64>) -> Result<(), Failure> {
        let permits = permits_for(THROUGH_MEMORY);
        let memory = reply.while_waiting(self.rest.start, self.node.memory.acquire_many(permits)).await;
        let _memory = memory
            .map_err(Failure::Connection)?
            .map_err(|_| RequestError::Unavailable("the worker is stopping".into()))?;
        let end = self.end_of_block(range.start).min(range.end);
        let mut feed = Feed::new(self.node, &self.file, range.start..end, self.origin());
        let (mut body, mut body_len) = (Vec::new(), 0);
        loop {
            let at = self.rest.start;
            let bytes = reply.while_waiting(at, feed.next()).await.map_err(Failure::Connection)??;
            let last = bytes.is_none();
            if let Some(bytes) = bytes {
                body_len += bytes.len() as u64;
                body.push(bytes);
            }
            if body_len >= THROUGH_FRAME_LEN || (last && body_len > 0) {
                let sent = reply.data(self.rest.start, &body);
                let sent = in_time(body_len, self.node.limits.time_for_body(body_len), sent).await;
                sent.map_err(Failure::Connection)?;
                self.pass_through(body_len);
                body.clear();
                body_len = 0;
            }
            if last {
                return Ok(());
            }
        }
    }

    fn pass_through(&mut self, len: u64) {
        metrics::counter!(names::READ_THROUGH_BYTES).increment(len);
        self.missed += len;
        self.pass(self.rest.start + len);
    }

    /// A source is chosen by block.
    fn end_of_block(&self, at: u64) -> u64 {
        let block_size = self.file.ticket.block_size;
        (at / block_size + 1).saturating_mul(block_size)
    }

    fn read_ahead(&mut self) {
        let wanted = self.head.read_ahead > 0 && !self.head.no_cache && !self.head.cached_only;
        if wanted && !std::mem::replace(&mut self.read_ahead_done, true) {
            let (from, len) = (self.end, self.head.read_ahead);
            demand::read_ahead(self.node, &self.file, from, len, self.origin());
        }
    }
}
