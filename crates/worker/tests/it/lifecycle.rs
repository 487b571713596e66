//! Bounds of connections, and the end of a worker.
use crate::common::*;
use forebay_base::{ByteSize, ErrorKind};
use forebay_proto::frame::{Kind, ReadHead};
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use forebay_worker::{Settings, StartError, Worker};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Waits for the end of what would otherwise wait for ever.
async fn ends(shutdown: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), shutdown).await.expect("the shutdown waits for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_lets_requests_end_and_never_sends_wrong_bytes() {
    let store = Arc::new(MemoryUfs::new());
    // An hour for requests under way: connections that have none are not waited for.
    let hour = Duration::from_secs(3600);
    let worker = Setup::new(&store).change(move |settings| settings.limits.drain_timeout = hour).start().await;
    let file = Arc::new(TestFile::put(&store, 1, 64 * PAGE));
    let mut readers = Vec::new();
    for n in 0..8u64 {
        let (mut client, file) = (worker.client().await, file.clone());
        readers.push(tokio::spawn(async move {
            let mut served = 0u64;
            loop {
                let offset = (served * 7 + n) % 50 * PAGE + n;
                let head = ReadHead { ticket: file.ticket(), offset, length: 5 * PAGE, ..ReadHead::default() };
                if !client.try_send(Kind::Read, &head).await {
                    return served;
                }
                match client.answer(offset).await {
                    // Between two answers the connection may end, and a request sent into that is lost; never in the middle of an answer.
                    None => return served,
                    Some(answer) => assert!(answer.ok() == file.range(offset, 5 * PAGE)),
                }
                served += 1;
            }
        }));
    }
    eventually("readers are at it", || worker.running.counted().hit_bytes > 500 * PAGE).await;
    let socket = worker.running.addresses().unix_socket.clone().unwrap();
    ends(worker.running.shutdown()).await;
    assert!(!socket.exists());
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

/// A worker that starts in the very moment in which its predecessor lets go keeps its socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_keeps_its_socket() {
    let store = Arc::new(MemoryUfs::new());
    let dir = tempfile::tempdir().unwrap();
    let settings = Setup::new(&store).settings(dir.path());
    for _ in 0..10 {
        let first = Worker::start(settings.clone()).await.unwrap();
        let again = settings.clone();
        let successor = tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                match Worker::start(again.clone()).await {
                    Ok(worker) => return worker,
                    Err(error) => assert!(Instant::now() < deadline, "{error}"),
                }
            }
        });
        first.shutdown().await;
        let successor = successor.await.unwrap();
        tokio::net::UnixStream::connect(settings.unix_socket.as_ref().unwrap()).await.unwrap();
        successor.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_ever() {
    let store = Arc::new(MemoryUfs::new());
    let worker =
        Setup::new(&store).change(|settings| settings.limits.drain_timeout = Duration::from_millis(200)).start().await;
    let file = TestFile::put(&store, 1, PAGE);
    store.set_faults(|operation, _| match operation {
        Operation::Read => Fault::Hold(Arc::new(Semaphore::new(0))),
        _ => Fault::None,
    });
    let mut client = worker.client().await;
    let head = ReadHead { ticket: file.ticket(), offset: 0, length: PAGE, ..ReadHead::default() };
    client.send(Kind::Read, &head, &[]).await;
    eventually("the fetch hangs", || store.count(Operation::Read) == 1).await;
    ends(worker.running.shutdown()).await;
    // An error, or the end of the connection; no bytes.
    assert!(client.answer(0).await.is_none_or(|answer| answer.bytes.is_empty() && answer.end.is_err()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_is_the_same_and_has_its_cache() {
    let store = Arc::new(MemoryUfs::new());
    let first = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 20 * PAGE);
    first.client().await.read(&file.ticket(), 0, 20 * PAGE).await.ok();
    let (id, dir) = (first.running.id(), first.dir);
    first.running.shutdown().await;
    let again = Setup::new(&store).start_in(dir).await;
    assert_eq!(again.running.id(), id);
    assert!(again.client().await.read(&file.ticket(), 0, 20 * PAGE).await.ok() == file.bytes);
    assert_eq!(again.fetched(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_on_the_same_directory_is_refused() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let settings: Settings = Setup::new(&store).settings(worker.dir.path());
    let error = Worker::start(settings).await.err().expect("it is taken");
    assert!(matches!(error, StartError::Cache(_)), "{error}");
    let file = TestFile::put(&store, 1, PAGE);
    assert!(
        worker.local_client().await.read(&file.ticket(), 0, PAGE).await.ok() == file.bytes,
        "the first keeps its socket"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).change(|settings| settings.limits.connections_max = 2).start().await;
    let file = TestFile::put(&store, 1, PAGE);
    let (mut a, mut b) = (worker.client().await, worker.client().await);
    for client in [&mut a, &mut b] {
        client.read(&file.ticket(), 0, PAGE).await.ok();
    }
    let mut third = worker.client().await;
    assert_eq!(third.answer(0).await.unwrap().error_kind(), ErrorKind::Unavailable);
    drop(a);
    place_is_free(&worker, &file).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_stalling_peers_are_cut_off() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store)
        .change(|settings| {
            settings.limits.idle_timeout = Duration::from_millis(300);
            settings.limits.stall_timeout = Duration::from_millis(300);
            settings.limits.connections_max = 1;
        })
        .start()
        .await;
    let file = TestFile::put(&store, 1, 512 * PAGE);
    let mut idle = worker.client().await;
    assert!(idle.frame().await.is_none());
    let mut half = place_is_free(&worker, &file).await;
    half.send_raw(b"Fb\x01").await;
    assert!(half.frame().await.is_none());
    // Asks for much and takes none of it: when it looks at last, the connection ends early.
    let mut slow = place_is_free(&worker, &file).await;
    let head = ReadHead { ticket: file.ticket(), offset: 0, length: 512 * PAGE, ..ReadHead::default() };
    slow.send(Kind::Read, &head, &[]).await;
    place_is_free(&worker, &file).await;
    assert!(slow.answer(0).await.is_none());
}

/// Waits until somebody can be served, when only one is at a time; it has the place then.
async fn place_is_free(worker: &TestWorker, file: &TestFile) -> wire::Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = worker.client().await;
        let head = ReadHead { ticket: file.ticket(), offset: 0, length: PAGE, ..ReadHead::default() };
        client.try_send(Kind::Read, &head).await;
        if client.answer(0).await.is_some_and(|answer| answer.end.is_ok()) {
            return client;
        }
        assert!(Instant::now() < deadline, "the place of a connection that is gone is free");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_share_the_memory_there_is() {
    use forebay_proto::frame::WritePartHead;
    use forebay_proto::ticket::Ticket;
    let store = Arc::new(MemoryUfs::new());
    // Half of it is for requests, and never less than one largest body: two bodies of 40 MiB do not fit at once.
    let worker = Setup::new(&store).change(|settings| settings.limits.memory_max = ByteSize(1)).start().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    store.set_faults(move |operation, _| match operation {
        Operation::Put => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let mut writers = Vec::new();
    for inode in 0..3u64 {
        let mut client = worker.client().await;
        let ticket = Ticket {
            inode,
            version: 1,
            page_size: PAGE as u32,
            block_size: BLOCK,
            mount: MOUNT,
            key: format!("file-{inode}").into(),
            write: true,
            expires_ms: u64::MAX,
            ..Ticket::default()
        };
        writers.push(tokio::spawn(async move {
            let head = WritePartHead { ticket: ticket.sign(KEY), number: 1, whole: true, ..WritePartHead::default() };
            client.write(head, &content(inode, 40 * MIB)).await.unwrap();
        }));
    }
    eventually("one is at the store", || store.count(Operation::Put) == 1).await;
    gate.add_permits(1);
    eventually("the next is", || store.count(Operation::Put) == 2).await;
    assert_eq!(store.keys().len(), 1, "only after the first had gone");
    gate.add_permits(2);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.keys().len(), 3);
}
