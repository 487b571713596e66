//! Calls to one master over one stream: what queues up while a message is on its way goes together in the next one.
//!
//! The stream begins with the first call and ends with the client. [`Outgoing`] is its body, drawn by the transport; one task takes the answers and hands each
//! to its caller. When the stream breaks, all its callers get the reason, and the next call begins a new one. A call that is
//! dropped is cancelled at the master. A master that does not know the service is called one by one from then on.

use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::answer::Outcome;
use forebay_proto::v1::call::Request;
use forebay_proto::v1::pipeline_client::PipelineClient;
use futures::stream::Stream;
use parking_lot::Mutex;
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Calls of one message: as many as a master takes.
const CALLS_MAX: usize = 256;
/// Bytes of one message, by which it is sent though more calls wait. A master takes 4 MiB; a call that is longer than this goes alone, outside of the stream.
pub(super) const MESSAGE_BYTES: usize = 256 << 10;

/// How much longer than the caller the master may take.
const LATER: Duration = Duration::from_millis(50);

type Answer = Result<Outcome, Status>;

/// The calls to one master.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// Which stream it is, so that the end of an old one does not touch the next.
    stream: u64,
    last_id: u64,
    /// Not sent yet. As many as there are callers.
    queue: VecDeque<v1::Call>,
    cancelled: Vec<u64>,
    callers: HashMap<u64, oneshot::Sender<Answer>>,
    /// Wakes the transport when there is something to send.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Open,
    /// The client goes, and with it the stream.
    Closing,
    /// The master does not know the service.
    Unknown,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("stage", &self.stage)
            .field("callers", &self.callers.len())
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Whether calls can go this way, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        self.shared.state.lock().stage != Stage::Unknown
    }

    /// Sends a call and waits for its answer; the master gives up after `timeout`. Fails with `unimplemented` when the master does not know the service.
    pub(crate) async fn call(&self, channel: &Channel, request: Request, timeout: Duration) -> Answer {
        let (sender, answer) = oneshot::channel();
        let id = self.shared.enter(channel, request, timeout, sender);
        let mut caller = Caller { shared: &self.shared, id, answered: false };
        let answer = answer.await;
        caller.answered = true;
        answer.unwrap_or_else(|_| Err(Status::unavailable("the stream to the master ended")))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.stage = Stage::Closing;
        state.wake();
    }
}

/// One who waits for an answer; dropping it cancels the call.
struct Caller<'a> {
    shared: &'a Shared,
    id: u64,
    answered: bool,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.state.lock().cancel(self.id);
        }
    }
}

impl Shared {
    /// Queues a call; begins the stream when there is none.
    fn enter(
        self: &Arc<Self>,
        channel: &Channel,
        request: Request,
        timeout: Duration,
        caller: oneshot::Sender<Answer>,
    ) -> u64 {
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        if state.stage == Stage::Unknown {
            // Found out since the caller looked.
            let _ = caller.send(Err(Status::unimplemented("the master has no service for streams of calls")));
            return id;
        }
        // A little more than its own wait: the caller gives up by itself, and what the master says then would hide what it said before.
        let timeout_ms = u64::try_from(timeout.saturating_add(LATER).as_millis()).unwrap_or(u64::MAX);
        state.queue.push_back(v1::Call { id, timeout_ms, request: Some(request) });
        state.callers.insert(id, caller);
        let begins = state.stage == Stage::Idle;
        if begins {
            state.stage = Stage::Open;
            state.stream += 1;
        }
        state.wake();
        let ending = begins.then(|| Ending { shared: Arc::clone(self), stream: state.stream, reason: None });
        // A runtime that ends drops the task at once, and with it what takes the lock again.
        drop(state);
        if let Some(ending) = ending {
            tokio::spawn(run(ending, channel.clone()));
        }
        id
    }

    fn answer(&self, answers: Vec<v1::Answer>) {
        let mut state = self.state.lock();
        for answer in answers {
            let outcome = match answer.outcome {
                Some(Outcome::Error(detail)) => Err(Status::from(WireError::from(detail))),
                Some(outcome) => Ok(outcome),
                None => Err(Status::internal("the master gave an answer of a kind that this version does not know")),
            };
            if let Some(caller) = state.callers.remove(&answer.id) {
                // Who does not wait any more has cancelled.
                let _ = caller.send(outcome);
            }
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn cancel(&mut self, id: u64) {
        if self.callers.remove(&id).is_none() {
            return;
        }
        match self.queue.iter().position(|call| call.id == id) {
            Some(position) => drop(self.queue.remove(position)),
            None => {
                self.cancelled.push(id);
                self.wake();
            }
        }
    }

    /// What goes into the next message, if anything does.
    fn next_message(&mut self) -> Option<v1::Calls> {
        if self.queue.is_empty() && self.cancelled.is_empty() {
            return None;
        }
        let (mut calls, mut bytes) = (Vec::with_capacity(self.queue.len().min(CALLS_MAX)), 0);
        while calls.len() < CALLS_MAX
            && bytes < MESSAGE_BYTES
            && let Some(call) = self.queue.pop_front()
        {
            bytes += call.encoded_len();
            calls.push(call);
        }
        Some(v1::Calls { calls, cancelled: std::mem::take(&mut self.cancelled) })
    }
}

/// The messages of one stream, as the transport asks for them.
struct Outgoing {
    shared: Arc<Shared>,
    stream: u64,
}

impl Stream for Outgoing {
    type Item = v1::Calls;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<v1::Calls>> {
        let mut state = self.shared.state.lock();
        if state.stream != self.stream || state.stage != Stage::Open {
            return Poll::Ready(None);
        }
        if let Some(message) = state.next_message() {
            return Poll::Ready(Some(message));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Ends a stream, also when its task is dropped with its runtime: every caller gets the reason.
struct Ending {
    shared: Arc<Shared>,
    stream: u64,
    reason: Option<Status>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let reason = self.reason.take().unwrap_or_else(|| Status::unavailable("the stream to the master was given up"));
        let mut state = self.shared.state.lock();
        if state.stream != self.stream {
            return;
        }
        if state.stage == Stage::Open {
            state.stage = if reason.code() == Code::Unimplemented { Stage::Unknown } else { Stage::Idle };
        }
        state.stream += 1;
        state.queue.clear();
        state.cancelled.clear();
        state.waker = None;
        let callers = std::mem::take(&mut state.callers);
        drop(state);
        for caller in callers.into_values() {
            let _ = caller.send(Err(reason.clone()));
        }
    }
}

/// Runs one stream to its end.
async fn run(mut ending: Ending, channel: Channel) {
    let outgoing = Outgoing { shared: Arc::clone(&ending.shared), stream: ending.stream };
    let mut client = PipelineClient::new(channel).max_decoding_message_size(super::REPLY_LEN_MAX);
    ending.reason = Some(match client.run(outgoing).await {
        Ok(answers) => take(&ending.shared, answers.into_inner()).await,
        Err(status) => status,
    });
}

async fn take(shared: &Shared, mut answers: tonic::Streaming<v1::Answers>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(message)) => shared.answer(message.answers),
            Ok(None) => return Status::unavailable("the master ended the stream"),
            Err(status) => return status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::runtime::Builder;
    use tonic::transport::Endpoint;

    #[test]
    fn a_call_in_a_runtime_that_has_ended_fails() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let channel = handle.block_on(async { Endpoint::from_static("http://127.0.0.1:1").connect_lazy() });
        runtime.shutdown_background();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let pipeline = Pipeline::default();
            let request = Request::Stat(v1::StatRequest::default());
            let answer = handle.block_on(pipeline.call(&channel, request, Duration::from_secs(1)));
            sender.send(answer.map(drop).map_err(|status| status.code())).unwrap();
        });
        // Who waits for himself never ends.
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)).unwrap(), Err(Code::Unavailable));
    }
}
