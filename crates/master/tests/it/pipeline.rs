//! Calls over one stream: answered as unary ones are, in any order, cancelled, late, too many, and while the master stops.

use crate::support::{DEADLINE, Fixture, Home, eventually, memory_store};
use forebay_base::ErrorKind;
use forebay_master::{ClassLimit, Settings};
use forebay_proto::error::WireError;
use forebay_proto::v1::answer::Outcome;
use forebay_proto::v1::call::Request;
use forebay_proto::v1::pipeline_client::PipelineClient;
use forebay_proto::v1::*;
use forebay_ufs::memory::{Fault, Operation};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// One stream of calls.
struct Stream {
    calls: mpsc::Sender<Calls>,
    answers: Streaming<Answers>,
    last_id: u64,
    early: HashMap<u64, Result<Outcome, WireError>>,
}

impl Stream {
    async fn open(fixture: &Fixture) -> Stream {
        let (calls, messages) = mpsc::channel(64);
        let endpoint = format!("http://{}", fixture.master.address());
        let mut client = PipelineClient::connect(endpoint).await.unwrap();
        let answers = client.run(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Stream { calls, answers, last_id: 0, early: HashMap::new() }
    }

    /// Sends one message; the ids of its calls.
    async fn send(&mut self, timeout_ms: u64, requests: Vec<Request>) -> Vec<u64> {
        let first = self.last_id + 1;
        let numbered = (first..).zip(requests);
        let calls: Vec<_> = numbered.map(|(id, request)| Call { id, timeout_ms, request: Some(request) }).collect();
        self.last_id += calls.len() as u64;
        self.calls.send(Calls { calls, cancelled: Vec::new() }).await.unwrap();
        (first..=self.last_id).collect()
    }

    async fn next(&mut self) -> Result<Option<Answers>, Status> {
        tokio::time::timeout(DEADLINE, self.answers.message()).await.expect("no answer in time")
    }

    /// The answer to a call; those to others are kept.
    async fn answer(&mut self, id: u64) -> Result<Outcome, WireError> {
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return answer;
            }
            for answer in self.next().await.unwrap().expect("the stream goes on").answers {
                let outcome = match answer.outcome.expect("an answer has an outcome") {
                    Outcome::Error(detail) => Err(WireError::from(detail)),
                    outcome => Ok(outcome),
                };
                assert!(self.early.insert(answer.id, outcome).is_none(), "call {} was answered twice", answer.id);
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Outcome, WireError> {
        let id = self.send(0, vec![request]).await[0];
        self.answer(id).await
    }
}

fn stat(path: &str) -> Request {
    Request::Stat(StatRequest { path: path.to_owned().into(), ..StatRequest::default() })
}

fn make(fixture: &Fixture, path: &str) -> MakeDirectoryRequest {
    MakeDirectoryRequest {
        meta: fixture.meta(),
        path: path.to_owned().into(),
        mode: 0o755,
        ..MakeDirectoryRequest::default()
    }
}

fn inode(outcome: Result<Outcome, WireError>) -> u64 {
    match outcome.unwrap() {
        Outcome::Stat(reply) => reply.entry.unwrap().inode,
        Outcome::MakeDirectory(reply) => reply.entry.unwrap().inode,
        other => panic!("{other:?}"),
    }
}

/// A stream whose master serves one read at a time, and a store in which every `stat` waits for a permit.
async fn held(home: &Home) -> (Fixture, Stream, Arc<forebay_ufs::memory::MemoryUfs>, Arc<Semaphore>) {
    let mut settings: Settings = home.settings();
    settings.limits.read = ClassLimit { running: 1, waiting: 100 };
    let fixture = Fixture::start(settings).await;
    let (store, uri) = memory_store();
    fixture.mount("/m", &uri).await;
    fixture.mkdir("/d").await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::Stat => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let stream = Stream::open(&fixture).await;
    (fixture, stream, store, gate)
}

#[tokio::test]
async fn many_calls_of_one_message_are_answered_as_unary_ones() {
    let home = Home::new();
    let fixture = home.start().await;
    let mut stream = Stream::open(&fixture).await;
    let made = make(&fixture, "/a");
    let no_id = MakeDirectoryRequest { meta: None, ..make(&fixture, "/b") };
    let requests =
        vec![Request::MakeDirectory(made.clone()), stat("/missing"), Request::MakeDirectory(no_id.clone()), stat("/")];
    let ids = stream.send(0, requests).await;
    let a = inode(stream.answer(ids[0]).await);
    assert_eq!(fixture.stat("/a").await.unwrap().inode, a);
    // The log may have grown between the two.
    let at_any_index = |error: WireError| WireError { index: 0, ..error };
    let (streamed, unary) = (stream.answer(ids[1]).await.unwrap_err(), fixture.stat("/missing").await.unwrap_err());
    assert_eq!(at_any_index(streamed), at_any_index(unary));
    let unary = fixture.namespace.clone().make_directory(no_id).await.unwrap_err();
    let streamed = stream.answer(ids[2]).await.unwrap_err();
    assert_eq!(at_any_index(streamed), at_any_index(WireError::from(&unary)));
    assert_eq!(inode(stream.answer(ids[3]).await), 1);

    // The request id is good for both ways.
    assert_eq!(inode(stream.ask(Request::MakeDirectory(made.clone())).await), a);
    let unary = fixture.namespace.clone().make_directory(made).await.unwrap().into_inner();
    assert_eq!(unary.entry.unwrap().inode, a);
    // Many messages, more answers than one message carries.
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.extend(stream.send(0, vec![stat("/a"); 256]).await);
    }
    for id in ids {
        assert_eq!(inode(stream.answer(id).await), a);
    }
}

#[tokio::test]
async fn a_call_that_waits_holds_up_no_other() {
    let home = Home::new();
    let (_fixture, mut stream, store, gate) = held(&home).await;
    let slow = stream.send(0, vec![stat("/m/x")]).await[0];
    eventually("the store is asked", async || store.count(Operation::Stat) == 1).await;
    let renewed = stream.ask(Request::RenewWrite(RenewWriteRequest { write: 77, start_upload: false })).await;
    assert_eq!(renewed.unwrap_err().kind, ErrorKind::Conflict, "served while the other waits");
    assert!(stream.early.is_empty());
    gate.add_permits(1);
    assert_eq!(stream.answer(slow).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_cancelled_call_gives_its_place_back_and_is_not_answered() {
    let home = Home::new();
    let (_fixture, mut stream, store, gate) = held(&home).await;
    let slow = stream.send(0, vec![stat("/m/x")]).await[0];
    eventually("the store is asked", async || store.count(Operation::Stat) == 1).await;
    let waiting = stream.send(0, vec![stat("/d")]).await[0];
    stream.calls.send(Calls { calls: Vec::new(), cancelled: vec![slow, 4711] }).await.unwrap();
    assert!(inode(stream.answer(waiting).await) > 1, "the only place was given back");
    gate.add_permits(1);
    inode(stream.ask(stat("/d")).await);
    assert!(!stream.early.contains_key(&slow));
}

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    let home = Home::new();
    let (_fixture, mut stream, _store, _gate) = held(&home).await;
    let slow = stream.send(30, vec![stat("/m/x")]).await[0];
    assert_eq!(stream.answer(slow).await.unwrap_err().kind, ErrorKind::DeadlineExceeded);
    inode(stream.ask(stat("/d")).await);
}

#[tokio::test]
async fn a_client_that_takes_no_answers_holds_no_places() {
    let home = Home::new();
    let mut settings = home.settings();
    settings.limits.read = ClassLimit { running: 4, waiting: 4 };
    let fixture = Fixture::start(settings).await;
    fixture.mkdir("/d").await.unwrap();
    let mut lazy = Stream::open(&fixture).await;
    // Far more than the windows of the transport take.
    let calls = lazy.calls.clone();
    let sending = tokio::spawn(async move {
        for message in 0..2000u64 {
            let call = |n| Call { id: message * 256 + n, timeout_ms: 0, request: Some(stat("/d")) };
            if calls.send(Calls { calls: (0..256).map(call).collect(), cancelled: Vec::new() }).await.is_err() {
                return;
            }
        }
    });
    for _ in 0..200 {
        fixture.stat("/d").await.unwrap();
    }
    sending.abort();
    let first = lazy.next().await.unwrap().unwrap();
    assert!(!first.answers.is_empty() && first.answers.len() <= 256);
}

#[tokio::test]
async fn too_many_calls_in_one_message_end_the_stream() {
    let home = Home::new();
    let fixture = home.start().await;
    let mut stream = Stream::open(&fixture).await;
    stream.send(0, vec![stat("/"); 257]).await;
    let status = stream.next().await.unwrap_err();
    let error = WireError::from(&status);
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("257"), "{error}");
}

#[tokio::test]
async fn a_stopping_master_answers_what_it_has_and_ends_the_stream() {
    let home = Home::new();
    let (fixture, mut stream, store, gate) = held(&home).await;
    let slow = stream.send(0, vec![stat("/m/x")]).await[0];
    eventually("the store is asked", async || store.count(Operation::Stat) == 1).await;
    let stopping = tokio::spawn(fixture.master.shutdown());
    gate.add_permits(1);
    assert_eq!(stream.answer(slow).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(stream.next().await.unwrap().is_none(), "the stream ends though the client keeps it open");
    tokio::time::timeout(DEADLINE, stopping).await.unwrap().unwrap();
}
