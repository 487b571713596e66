//! The control plane: what clients ask of a worker beside bytes.

use crate::disk_threads::Disk;
use crate::error::RequestError;
use crate::fetch::fill::Fill;
use crate::file::TicketFile;
use crate::node::Node;
use forebay_cache::{Access, Run};
use forebay_proto::v1::worker_control_server::{WorkerControl, WorkerControlServer};
use forebay_proto::v1::{CachedRange, FreeReply, FreeRequest, LoadReply, LoadRequest, LocationReply, LocationRequest};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Connections at a time: each costs a descriptor and some 10 KiB, and only loads and the operator's questions come here.
const CONNECTIONS_MAX: usize = 4096;
/// How often a load says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// A reply lists this many ranges at most; a file in more pieces is shown up to there.
const RANGES_MAX: usize = 65536;
/// The location of so many bytes is looked up at a time.
const LOCATION_STEP: u64 = 1 << 30;

/// Serves gRPC until the worker stops.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let stop = node.stop.clone();
    let service = WorkerControlServer::new(Control { node });
    let incoming = forebay_proto::connections::accept(listener, "worker control", CONNECTIONS_MAX);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the control plane has stopped");
    }
}

struct Control {
    node: Arc<Node>,
}

impl Control {
    async fn file(&self, ticket: &bytes::Bytes) -> Result<Arc<TicketFile>, Status> {
        let file = self.node.check_ticket(ticket).await.map_err(status)?;
        file.check_read().map_err(status)?;
        Ok(file)
    }
}

impl Control {
    /// Asks the page store on a thread that may wait. How long that may take is the caller's to say.
    async fn at_disk<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        self.node.disks.run_to_end(Disk::Any, call).await.map_err(|error| status(error.into()))
    }
}

fn status(error: RequestError) -> Status {
    error.wire().into()
}

#[tonic::async_trait]
impl WorkerControl for Control {
    type LoadStream = Pin<Box<dyn futures::Stream<Item = Result<LoadReply, Status>> + Send>>;

    /// Loads end when the caller goes away; what is under way then is kept.
    async fn load(&self, request: Request<LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let request = request.into_inner();
        let file = self.file(&request.ticket).await?;
        let place = self.node.loads.clone().try_acquire_owned().map_err(|_| {
            forebay_proto::error::busy(
                "the worker has as many loads as it may have (worker.loads_max); try again later",
            )
        })?;
        let length = match request.length {
            0 => u64::MAX,
            length => length,
        };
        let range = file.clamp(request.offset, length);
        let (progress, replies) = mpsc::channel(4);
        let node = self.node.clone();
        self.node.tasks.spawn(async move {
            let _place = place;
            let stop = node.stop.clone();
            let loaded = tokio::select! {
                () = stop.cancelled() => Err(RequestError::Unavailable("the worker is stopping".into())),
                () = progress.closed() => return,
                loaded = load(&node, &file, range, &progress) => loaded,
            };
            if let Err(error) = loaded {
                let _ = progress.send(Err(status(error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn free(&self, request: Request<FreeRequest>) -> Result<Response<FreeReply>, Status> {
        let file = self.file(&request.into_inner().ticket).await?;
        let pages = self.node.pages.clone();
        let freed = self.at_disk(move || {
            let cached = pages.cached_ranges(file.id, file.meta);
            pages.drop_file(file.id);
            cached.iter().map(|range| range.end - range.start).sum()
        });
        let freed = freed.await?;
        Ok(Response::new(FreeReply { freed }))
    }

    async fn location(&self, request: Request<LocationRequest>) -> Result<Response<LocationReply>, Status> {
        let file = self.file(&request.into_inner().ticket).await?;
        let pages = self.node.pages.clone();
        let ranges = self.at_disk(move || locate(&pages, &file)).await?;
        Ok(Response::new(LocationReply { ranges }))
    }
}

async fn load(
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    range: Range<u64>,
    progress: &mpsc::Sender<Result<LoadReply, Status>>,
) -> Result<(), RequestError> {
    let evicted = node.pages.counts().evicted_bytes;
    let mut fill = Fill::new(node, file, range);
    let mut told = Instant::now();
    loop {
        let more = fill.step().await?;
        if !more || told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let pressed = crate::status::is_pressed(&node.pages, evicted);
            let reply = LoadReply { loaded: fill.hit + fill.missed, fetched: fill.missed, pressed };
            // A caller that is gone is noticed by ours.
            let _ = progress.send(Ok(reply)).await;
        }
        if !more {
            return Ok(());
        }
    }
}

/// The cached ranges by tier; neighbours in one tier are one range.
fn locate(pages: &forebay_cache::PageStore, file: &TicketFile) -> Vec<CachedRange> {
    let mut found: Vec<CachedRange> = Vec::new();
    for cached in pages.cached_ranges(file.id, file.meta) {
        let mut at = cached.start;
        while at < cached.end && found.len() < RANGES_MAX {
            let step = at..(at + LOCATION_STEP).min(cached.end);
            at = step.end;
            for run in pages.lookup(file.id, file.meta, step, Access::Peek) {
                let Run::Present(pinned) = run else { continue };
                let (range, tier) = (pinned.range(), pinned.tier().as_str());
                match found.last_mut() {
                    Some(last) if last.offset + last.length == range.start && last.tier == tier => {
                        last.length += range.end - range.start;
                    }
                    _ => found.push(CachedRange {
                        offset: range.start,
                        length: range.end - range.start,
                        tier: tier.to_owned(),
                    }),
                }
            }
        }
    }
    found
}
