//! The calls of one client over one stream: many in a message, served at the same time, answered as they end.
//!
//! A task for each stream drives its calls ([`Driver`]). What can be answered at once, which is most reads, is answered in place; what has
//! to wait is kept and cancelled by its id. Each call goes through the same service as a unary one, so queues, request ids, errors and counts are the same.
//! Bounds: a stream with [`RUNNING_MAX`] calls that are served or whose answers the client has not taken is not read from, which the transport
//! tells the client.

use crate::service::namespace::NamespaceService;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::answer::Outcome;
use forebay_proto::v1::call::Request as Asked;
use forebay_proto::v1::namespace_server::Namespace;
use forebay_proto::v1::pipeline_server::Pipeline;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Calls of one message; more are refused with the stream.
const CALLS_MAX: usize = 256;
/// Calls of one stream that are served or wait for the client to take their answers: a session keeps as many replies.
const RUNNING_MAX: usize = 1024;
/// Answers of one message: 256 entries with long names are less than 1 MiB.
const ANSWERS_MAX: usize = 256;

/// The service.
#[derive(Clone)]
pub(crate) struct PipelineService {
    pub(crate) namespace: NamespaceService,
    /// Ends the streams of a master that stops, once their calls are answered.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl Pipeline for PipelineService {
    type RunStream = ReceiverStream<Result<v1::Answers, Status>>;

    async fn run(&self, request: Request<Streaming<v1::Calls>>) -> Result<Response<Self::RunStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let (namespace, stop) = (self.namespace.clone(), self.stop.clone());
        tokio::spawn(async move { Driver::new(&namespace, sender).run(request.into_inner(), stop).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A call that could not be answered at once.
type Running<'a> = Abortable<BoxFuture<'a, v1::Answer>>;

/// The calls of one stream.
struct Driver<'a> {
    namespace: &'a NamespaceService,
    sender: mpsc::Sender<Result<v1::Answers, Status>>,
    running: FuturesUnordered<Running<'a>>,
    handles: HashMap<u64, AbortHandle>,
    answered: Vec<v1::Answer>,
}

/// Why a stream is not read any more.
enum End {
    /// The client sends nothing more; what runs is answered.
    Drained,
    /// Nobody takes answers.
    Gone,
}

impl<'a> Driver<'a> {
    fn new(namespace: &'a NamespaceService, sender: mpsc::Sender<Result<v1::Answers, Status>>) -> Driver<'a> {
        let (running, handles) = (FuturesUnordered::new(), HashMap::new());
        Driver { namespace, sender, running, handles, answered: Vec::new() }
    }

    /// Serves until the client is gone, or has sent its last call and got the answers. Changes under way go on when the client is gone.
    async fn run(mut self, mut calls: Streaming<v1::Calls>, stop: CancellationToken) {
        let (sender, mut open) = (self.sender.clone(), true);
        while open || !self.running.is_empty() || !self.answered.is_empty() {
            let room = self.running.len() + self.answered.len() < RUNNING_MAX;
            tokio::select! {
                permit = sender.reserve(), if !self.answered.is_empty() => {
                    let Ok(permit) = permit else { return };
                    let count = self.answered.len().min(ANSWERS_MAX);
                    permit.send(Ok(v1::Answers { answers: self.answered.drain(..count).collect() }));
                }
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.collect(ended),
                message = calls.message(), if open && room => match self.take(message).await {
                    Ok(()) => {}
                    Err(End::Drained) => open = false,
                    Err(End::Gone) => return,
                },
                () = sender.closed() => return,
                () = stop.cancelled(), if open => open = false,
            }
        }
    }

    /// Keeps an answer, and those of other calls that have ended by now.
    fn collect(&mut self, ended: Result<v1::Answer, futures::future::Aborted>) {
        let mut next = Some(ended);
        while let Some(ended) = next {
            // A cancelled one has been forgotten already.
            if let Ok(answer) = ended {
                self.handles.remove(&answer.id);
                self.answered.push(answer);
            }
            next = self.running.next().now_or_never().flatten();
        }
    }

    async fn take(&mut self, message: Result<Option<v1::Calls>, Status>) -> Result<(), End> {
        let calls = match message {
            Ok(Some(calls)) => calls,
            Ok(None) => return Err(End::Drained),
            Err(status) => {
                // A message that is too large, for one: the client is told, if it is still there.
                let _ = self.sender.send(Err(status)).await;
                return Err(End::Gone);
            }
        };
        if calls.calls.len() > CALLS_MAX {
            let error = WireError::new(
                ErrorKind::InvalidArgument,
                format!("{} calls in one message are too many: at most {CALLS_MAX} are allowed", calls.calls.len()),
            );
            // The client may be gone as well.
            let _ = self.sender.send(Err(error.into())).await;
            return Err(End::Gone);
        }
        for call in calls.calls {
            self.begin(call);
        }
        for id in calls.cancelled {
            if let Some(handle) = self.handles.remove(&id) {
                handle.abort();
            }
        }
        Ok(())
    }

    /// Answers a call at once or keeps it.
    fn begin(&mut self, call: v1::Call) {
        let (id, timeout_ms) = (call.id, call.timeout_ms);
        let mut serving = serve(self.namespace, call).boxed();
        if let Some(answer) = (&mut serving).now_or_never() {
            return self.answered.push(answer);
        }
        let waiting = match timeout_ms {
            0 => serving,
            ms => async move {
                let ended = tokio::time::timeout(Duration::from_millis(ms), serving).await;
                ended.unwrap_or_else(|_| v1::Answer { id, outcome: Some(Outcome::Error(late(ms).into())) })
            }
            .boxed(),
        };
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(id, handle);
        self.running.push(Abortable::new(waiting, registration));
    }
}

fn late(timeout_ms: u64) -> WireError {
    WireError::new(ErrorKind::DeadlineExceeded, format!("no answer within {timeout_ms} ms"))
}

/// Serves one call; a panic is the error of that call alone.
async fn serve(namespace: &NamespaceService, call: v1::Call) -> v1::Answer {
    let id = call.id;
    let outcome = AssertUnwindSafe(dispatch(namespace, call.request)).catch_unwind().await.unwrap_or_else(|_| {
        let message = "the request was interrupted in the master; its outcome is not known";
        Err(WireError::new(ErrorKind::Unavailable, message).into())
    });
    let outcome = outcome.unwrap_or_else(|status| Outcome::Error(WireError::from(&status).into()));
    v1::Answer { id, outcome: Some(outcome) }
}

async fn dispatch(namespace: &NamespaceService, request: Option<Asked>) -> Result<Outcome, Status> {
    macro_rules! dispatch {
        ($($request:ident $method:ident),* $(,)?) => {
            match request {
                $(Some(Asked::$request(asked)) => {
                    let reply = namespace.$method(Request::new(asked)).await?;
                    Ok(Outcome::$request(reply.into_inner()))
                })*
                None => Err(WireError::new(
                    ErrorKind::InvalidArgument,
                    "a call of a kind that this release does not know: it is not supported by this cluster until its masters are upgraded",
                ).into()),
            }
        };
    }
    dispatch!(
        Stat stat,
        ContentSummary content_summary,
        MakeDirectory make_directory,
        Open open,
        Create create,
        RenewWrite renew_write,
        Complete complete,
        AbandonWrite abandon_write,
        Rename rename,
        Delete delete,
        SetAttributes set_attributes,
    )
}
