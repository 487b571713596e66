//! What the workers have cached of a file: loading, freeing, looking.

use super::{Client, Inner};
use crate::bounds::bytes_of;
use crate::error::{Error, Result};
use crate::file::opened::{Opened, RenewError};
use crate::path::ToPath;
use crate::rpc::{Backoff, REPLY_LEN_MAX, cause_of, may_work_later};
use crate::types::{CachedRange, LoadProgress, Location, SyncMode};
use crate::waits::{Cause, Slowness, watch};
use crate::workers::health::Cost;
use crate::workers::{Near, Worker};
use forebay_base::ErrorKind;
use forebay_proto::error::{WireError, is_busy};
use forebay_proto::v1::worker_control_client::WorkerControlClient;
use forebay_proto::v1::{FreeRequest, LoadReply, LoadRequest, LocationRequest};
use futures::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::{Range, RangeBounds};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Blocks that are loaded at the same time.
const BLOCKS_AT_ONCE: usize = 4;
/// How often a load says how far it is.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// The progress of a load; see [`Client::load`]. Dropping it stops the load.
pub struct LoadStream(BoxStream<'static, Result<LoadProgress>>);

impl Stream for LoadStream {
    type Item = Result<LoadProgress>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for LoadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoadStream")
    }
}

impl Client {
    /// Brings a range of a file into the caches of the workers that own its blocks. The stream says how far it is, a few
    /// times a second, and ends after everything is cached or after the first error.
    pub async fn load(&self, path: impl ToPath, range: impl RangeBounds<u64>) -> Result<LoadStream> {
        let path = path.to_path()?;
        let opened = Opened::open_at_leader(&self.inner, &path).await?;
        let wanted = bytes_of(range);
        let end = wanted.end.min(opened.entry.length);
        let range = wanted.start.min(end)..end;
        let load = Load {
            client: self.inner.clone(),
            opened,
            total: range.end - range.start,
            progress: Mutex::default(),
            cause: Cause::default(),
        };
        Ok(LoadStream(Arc::new(load).stream(range)))
    }

    /// Drops what workers have cached of a file, and says how many bytes that were. Content that the under store does
    /// not have yet stays.
    ///
    /// # Errors
    /// `unavailable` when a worker does not answer; the others have dropped theirs.
    pub async fn free(&self, path: impl ToPath) -> Result<u64> {
        let opened = Opened::open_at_leader(&self.inner, &path.to_path()?).await?;
        let replies =
            self.ask_all(&opened, |channel, ticket| async move { control(channel).free(FreeRequest { ticket }).await });
        let replies = replies.await.into_iter();
        let freed = replies.map(|(_, reply)| reply.map(|reply| reply.freed));
        freed.sum()
    }

    /// Which worker has which ranges of a file cached, by worker id. Workers that do not answer are left out.
    pub async fn location(&self, path: impl ToPath) -> Result<Vec<Location>> {
        let opened = Opened::open(&self.inner, &path.to_path()?, SyncMode::ByInterval).await?;
        let replies = self.ask_all(&opened, |channel, ticket| async move {
            control(channel).location(LocationRequest { ticket }).await
        });
        let replies = replies.await.into_iter();
        let mut locations: Vec<Location> = replies
            .filter_map(|(worker, reply)| {
                Some(Location {
                    worker: worker.info.clone(),
                    ranges: reply.ok()?.ranges.into_iter().map(CachedRange::from).collect(),
                })
            })
            .filter(|location| !location.ranges.is_empty())
            .collect();
        locations.sort_by_key(|location| location.worker.id);
        Ok(locations)
    }

    /// Asks every worker about a file.
    async fn ask_all<R, F>(
        &self,
        opened: &Opened,
        ask: impl Fn(Channel, bytes::Bytes) -> F,
    ) -> Vec<(Arc<Worker>, Result<R>)>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let patience = self.inner.config.deadlines.worker_silence;
        let ask = &ask;
        let table = self.inner.workers.table();
        let asked = table.workers().iter().map(|worker| async move {
            let reply = async {
                let answer = ask(worker.control()?.clone(), opened.ticket());
                match tokio::time::timeout(patience, answer).await {
                    Ok(Ok(reply)) => Ok(reply.into_inner()),
                    Ok(Err(status)) => Err(Error::from(WireError::from(&status))),
                    Err(_) => Err(Error::new(ErrorKind::Unavailable, "no answer")),
                }
            };
            let reply: Result<R> = reply.await;
            let context = format_args!("worker {}", worker.info.control).to_string();
            (worker.clone(), reply.map_err(|error| error.context(context)))
        });
        futures::future::join_all(asked).await
    }
}

fn control(channel: Channel) -> WorkerControlClient<Channel> {
    WorkerControlClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX)
}

/// A load under way.
struct Load {
    client: Arc<Inner>,
    opened: Opened,
    total: u64,
    progress: Mutex<Progress>,
    /// Why the last request to a worker failed.
    cause: Cause,
}

#[derive(Default)]
struct Progress {
    /// Of blocks that are through.
    done: LoadReply,
    /// Of blocks under way, by where they start: [`BLOCKS_AT_ONCE`] at most.
    active: HashMap<u64, LoadReply>,
}

impl Load {
    fn stream(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<LoadProgress>> {
        let load = self.clone();
        let run = Box::pin(async move { load.run(range).await });
        futures::stream::unfold(Some(run), move |run| {
            let load = self.clone();
            async move {
                let mut run = run?;
                match tokio::time::timeout(REPORT_EVERY, &mut run).await {
                    Err(_) => Some((Ok(load.report()), Some(run))),
                    Ok(Ok(())) => Some((Ok(load.report()), None)),
                    Ok(Err(error)) => Some((Err(error), None)),
                }
            }
        })
        .boxed()
    }

    fn report(&self) -> LoadProgress {
        let progress = self.progress.lock();
        let sum = |get: fn(&LoadReply) -> u64| get(&progress.done) + progress.active.values().map(get).sum::<u64>();
        LoadProgress {
            total: self.total,
            loaded: sum(|reply| reply.loaded).min(self.total),
            fetched: sum(|reply| reply.fetched),
            pressed: progress.done.pressed || progress.active.values().any(|reply| reply.pressed),
        }
    }

    async fn run(&self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        let blocks = std::iter::from_fn(|| {
            let start = at;
            (start < range.end).then(|| {
                at = self.opened.block_at(start).1.min(range.end);
                start..at
            })
        });
        futures::stream::iter(blocks.map(|block| self.block(block)))
            .buffer_unordered(BLOCKS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Loads the part of a block at its owner, or at the next worker when that one fails. An owner that has its hands full is waited for:
    /// elsewhere the block would be cached twice.
    async fn block(&self, range: Range<u64>) -> Result<()> {
        let (block, _) = self.opened.block_at(range.start);
        let mut last = Error::new(ErrorKind::Unavailable, "there is no live worker");
        for worker in self.client.workers.table().ranked(block, Near::Ignored).workers {
            match self.block_in_turn(&worker, &range).await {
                Ok(reply) => {
                    let mut progress = self.progress.lock();
                    progress.active.remove(&range.start);
                    progress.done.loaded += reply.loaded;
                    progress.done.fetched += reply.fetched;
                    progress.done.pressed |= reply.pressed;
                    return Ok(());
                }
                Err(status) if may_work_later(&status) && !is_busy(&status) => {
                    // A worker that answers has not failed, whatever its answer.
                    if status.details().is_empty() {
                        worker.health.failed(Instant::now(), Cost::Little);
                    }
                    self.cause.set(cause_of(&status));
                    last = WireError::from(&status).into();
                }
                Err(status) => {
                    let error = Error::from(WireError::from(&status));
                    return Err(error.context(format_args!("cannot load {}", self.opened.entry.path)));
                }
            }
        }
        Err(last.context(format_args!("cannot load {}", self.opened.entry.path)))
    }

    /// Loads at one worker, again and again while it is busy with other loads.
    async fn block_in_turn(&self, worker: &Worker, range: &Range<u64>) -> Result<LoadReply, Status> {
        let deadline = Instant::now() + self.client.config.deadlines.read;
        let mut backoff = Backoff::new();
        loop {
            let wait = match self.block_at(worker, range).await {
                Err(status) if is_busy(&status) => match backoff.next() {
                    wait if Instant::now() + wait >= deadline => return Err(status),
                    wait => wait,
                },
                result => return result,
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn block_at(&self, worker: &Worker, range: &Range<u64>) -> Result<LoadReply, Status> {
        let mut renewed = false;
        loop {
            let ticket = self.opened.ticket();
            let request = LoadRequest { ticket: ticket.clone(), offset: range.start, length: range.end - range.start };
            let status = match self.follow(worker, request).await {
                Ok(reply) => return Ok(reply),
                Err(status) => status,
            };
            let refused = WireError::from(&status).kind == ErrorKind::PermissionDenied;
            if !refused || renewed {
                return Err(status);
            }
            renewed = true;
            match self.opened.renew(&self.client, &ticket).await {
                Ok(()) => {}
                Err(RenewError::Changed) => {
                    let message = "the file changed while it was being loaded";
                    return Err(WireError::new(ErrorKind::Conflict, message).into());
                }
                Err(RenewError::Failed(_)) => return Err(status),
            }
        }
    }

    async fn follow(&self, worker: &Worker, request: LoadRequest) -> Result<LoadReply, Status> {
        let channel = worker.control().map_err(|error| Status::unavailable(error.to_string()))?;
        let start = request.offset;
        let patience = self.client.config.deadlines.read;
        let silent = |_| Status::unavailable("the worker stays silent");
        let mut client = control(channel.clone());
        let replies = client.load(Request::new(request));
        let mut replies = tokio::time::timeout(patience, replies).await.map_err(silent)??.into_inner();
        let mut last = LoadReply::default();
        let what = || format!("{} to be loaded", self.opened.entry.path);
        loop {
            // Each answer tells of some more bytes.
            let next = pin!(tokio::time::timeout(patience, replies.message()));
            let on_wait = self.client.config.on_wait.as_ref();
            let next = watch(on_wait, Slowness::Odd, patience, &self.cause, what, next).await;
            let Some(reply) = next.map_err(silent)?? else { break };
            self.cause.clear();
            last = reply;
            self.progress.lock().active.insert(start, reply);
        }
        Ok(last)
    }
}
