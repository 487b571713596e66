//! Metadata calls over one stream to the master: what goes over it, and what becomes of calls when it breaks.

use forebay_client::{Client, ClientConfig, Deadlines, ErrorKind, MakeDirectoryOptions};
use forebay_proto::error::WireError;
use forebay_proto::v1::answer::Outcome;
use forebay_proto::v1::call::Request as Asked;
use forebay_proto::v1::cluster_server::{Cluster, ClusterServer};
use forebay_proto::v1::pipeline_server::{Pipeline, PipelineServer};
use forebay_proto::v1::*;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const DEADLINE: Duration = Duration::from_secs(30);

/// A stream as the master has it; the test plays the master.
struct Served {
    calls: Streaming<Calls>,
    answers: mpsc::Sender<Result<Answers, Status>>,
}

#[derive(Clone)]
struct Service(mpsc::Sender<Served>);

#[tonic::async_trait]
impl Pipeline for Service {
    type RunStream = ReceiverStream<Result<Answers, Status>>;

    async fn run(&self, request: Request<Streaming<Calls>>) -> Result<Response<Self::RunStream>, Status> {
        let (answers, receiver) = mpsc::channel(64);
        self.0.send(Served { calls: request.into_inner(), answers }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn workers(&self, _: Request<WorkersRequest>) -> Result<Response<WorkersReply>, Status> {
        Ok(Response::new(WorkersReply { epoch: 1, ..WorkersReply::default() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unavailable("not here"))
    }
}

/// A client of a master that the test plays.
struct Fixture {
    client: Client,
    streams: mpsc::Receiver<Served>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fixture {
    async fn start() -> Fixture {
        let (sender, streams) = mpsc::channel(8);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = tonic::transport::Server::builder()
            .add_service(PipelineServer::new(Service(sender.clone())))
            .add_service(ClusterServer::new(Service(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        let deadlines = Deadlines { metadata: DEADLINE, ..Deadlines::default() };
        let client = Client::connect(ClientConfig { deadlines, ..ClientConfig::new([address]) }).await.unwrap();
        Fixture { client, streams, server }
    }

    async fn stream(&mut self) -> Served {
        tokio::time::timeout(DEADLINE, self.streams.recv()).await.expect("no stream in time").unwrap()
    }

    /// Looks up this path in a task of its own.
    fn stat(&self, path: String) -> tokio::task::JoinHandle<Result<u64, forebay_client::Error>> {
        let client = self.client.clone();
        tokio::spawn(async move { client.stat(path.as_str()).await.map(|entry| entry.length) })
    }
}

impl Served {
    async fn next(&mut self) -> Calls {
        let message = tokio::time::timeout(DEADLINE, self.calls.message()).await.expect("no message in time");
        message.unwrap().expect("the client goes on")
    }

    /// Takes messages until there are `count` calls; how many messages that took.
    async fn take(&mut self, count: usize) -> (Vec<Call>, usize) {
        let (mut calls, mut messages) = (Vec::new(), 0);
        while calls.len() < count {
            calls.extend(self.next().await.calls);
            messages += 1;
        }
        (calls, messages)
    }

    async fn answer(&self, answers: Vec<(u64, Outcome)>) {
        let answers = answers.into_iter().map(|(id, outcome)| Answer { id, outcome: Some(outcome) });
        self.answers.send(Ok(Answers { answers: answers.collect() })).await.unwrap();
    }
}

fn file(length: u64) -> Outcome {
    let entry = Entry { inode: 7, path: "/f".into(), length, complete: true, ..Entry::default() };
    Outcome::Stat(StatReply { entry: Some(entry), index: 0 })
}

fn stat_length(call: &Call) -> u64 {
    match call.request.as_ref().unwrap() {
        Asked::Stat(request) => std::str::from_utf8(&request.path[1..]).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn calls_that_queue_up_go_together_and_answers_come_in_any_order() {
    let mut fixture = Fixture::start().await;
    let callers: Vec<_> = (0..600).map(|n| fixture.stat(format!("/{n}"))).collect();
    let mut stream = fixture.stream().await;
    let (mut calls, messages) = stream.take(600).await;
    assert!(messages <= 30, "{messages} messages for 600 calls");
    calls.reverse();
    for part in calls.chunks(200) {
        stream.answer(part.iter().map(|call| (call.id, file(stat_length(call)))).collect()).await;
    }
    for (n, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.await.unwrap().unwrap(), n as u64);
    }
    let deadline_ms = DEADLINE.as_millis() as u64;
    assert!(calls.iter().all(|call| (1..=deadline_ms + 50).contains(&call.timeout_ms)));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    let mut fixture = Fixture::start().await;
    let (dropped, kept) = (fixture.stat("/1".to_owned()), fixture.stat("/2".to_owned()));
    let mut stream = fixture.stream().await;
    let (calls, _) = stream.take(2).await;
    dropped.abort();
    let cancelled = stream.next().await.cancelled;
    let id_of = |length| calls.iter().find(|call| stat_length(call) == length).unwrap().id;
    assert_eq!(cancelled, [id_of(1)]);
    // An answer that was on its way is nobody's.
    stream.answer(vec![(id_of(1), file(1)), (id_of(2), file(2))]).await;
    assert_eq!(kept.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn errors_of_the_master_come_whole() {
    let mut fixture = Fixture::start().await;
    let caller = fixture.stat("/1".to_owned());
    let mut stream = fixture.stream().await;
    let (calls, _) = stream.take(1).await;
    let error = WireError::new(ErrorKind::NotFound, "/1 does not exist").with_hint("make it");
    stream.answer(vec![(calls[0].id, Outcome::Error(error.into()))]).await;
    let error = caller.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.message(), error.hint()), (ErrorKind::NotFound, "/1 does not exist", "make it"));
}

#[tokio::test]
async fn a_broken_stream_is_begun_anew_under_the_same_request_id() {
    let mut fixture = Fixture::start().await;
    let client = fixture.client.clone();
    let caller = tokio::spawn(async move { client.make_directory("/d", MakeDirectoryOptions::default()).await });
    let mut metas = Vec::new();
    for attempt in 0..3 {
        let mut stream = fixture.stream().await;
        let (calls, _) = stream.take(1).await;
        match calls[0].request.clone().unwrap() {
            Asked::MakeDirectory(request) => metas.push(request.meta.unwrap()),
            other => panic!("{other:?}"),
        }
        match attempt {
            // It ends without a word, then with one.
            0 => drop(stream),
            1 => stream.answers.send(Err(Status::unavailable("going down"))).await.unwrap(),
            _ => {
                let entry = Entry { inode: 9, path: "/d".into(), kind: 1, complete: true, ..Entry::default() };
                let reply = MakeDirectoryReply { entry: Some(entry) };
                stream.answer(vec![(calls[0].id, Outcome::MakeDirectory(reply))]).await;
                break;
            }
        }
    }
    assert!(caller.await.unwrap().unwrap().is_directory());
    assert_eq!(metas.len(), 3);
    assert!(metas.iter().all(|meta| *meta == metas[0]), "{metas:?}");
}

#[tokio::test]
async fn the_stream_ends_with_the_client() {
    let mut fixture = Fixture::start().await;
    let caller = fixture.stat("/1".to_owned());
    let mut stream = fixture.stream().await;
    let (calls, _) = stream.take(1).await;
    stream.answer(vec![(calls[0].id, file(1))]).await;
    caller.await.unwrap().unwrap();
    fixture.client = Fixture::start().await.client.clone();
    let end = tokio::time::timeout(DEADLINE, stream.calls.message()).await.expect("the stream goes on");
    assert!(matches!(end, Ok(None) | Err(_)), "{end:?}");
}
