//! Reading from the store itself, when the workers do not serve: every byte is compared.

use crate::fake::FakeCluster;
use crate::fake::worker::Fault;
use forebay_client::{Client, ClientConfig, ErrorKind, File};
use futures::TryStreamExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LENGTH: usize = 5_000_003;
const BUSY: Fault = Fault::Refuse(0, ErrorKind::Unavailable, "too much to do");

/// A file that workers and clients can read, and a cluster of so many workers.
async fn setup(workers: usize) -> (FakeCluster, TempDir, Vec<u8>) {
    let store = tempfile::tempdir().unwrap();
    let cluster = FakeCluster::start(workers).await;
    let content = cluster.put_in(store.path(), "/a", LENGTH, 5).await;
    (cluster, store, content.to_vec())
}

async fn whole(file: &File) -> Vec<u8> {
    let chunks: Vec<_> = file.stream(..).try_collect().await.unwrap();
    chunks.concat()
}

fn all_fail(cluster: &FakeCluster, fault: Fault) {
    for worker in &cluster.workers {
        *worker.always.lock() = fault.clone();
    }
}

fn grants(cluster: &FakeCluster) -> u64 {
    cluster.state.grants.load(Ordering::Relaxed)
}

fn reads(cluster: &FakeCluster) -> usize {
    cluster.reads().iter().sum()
}

#[tokio::test]
async fn what_no_worker_serves_is_read_from_the_store() {
    for workers in [0, 3] {
        let (cluster, _store, expected) = setup(workers).await;
        // In the list, but dead.
        cluster.workers.iter().for_each(|worker| worker.stop());
        let file = cluster.client().await.open("/a").await.unwrap();
        same!(whole(&file).await, expected);
        for (offset, length) in [(0, LENGTH), (0, 1), (262_143, 2), (777, 3_000_000), (LENGTH as u64 - 5, 100)] {
            let end = LENGTH.min(offset as usize + length);
            same!(file.read_at(offset, length).await.unwrap(), expected[offset as usize..end], "{length} at {offset}");
        }
        assert_eq!(grants(&cluster), 1, "one right serves all that is read of a file");
    }
}

#[tokio::test]
async fn workers_that_fail_in_the_middle_are_left_for_the_store() {
    let faults = [
        Fault::Reset(100_000),
        Fault::Stall(100_000),
        Fault::Trickle(16_384),
        Fault::FlipAlways(0),
        Fault::Short(50_000),
        Fault::Garbage,
        Fault::Refuse(20_000, ErrorKind::Internal, "broken"),
    ];
    for fault in faults {
        let (cluster, _store, expected) = setup(2).await;
        all_fail(&cluster, fault.clone());
        // Some faults strike between frames.
        cluster.workers.iter().for_each(|worker| worker.frame_len.store(32 << 10, Ordering::Relaxed));
        let file = cluster.client().await.open("/a").await.unwrap();
        same!(file.read_at(1000, 2_000_000).await.unwrap(), expected[1000..2_001_000], "{fault:?}");
        same!(whole(&file).await, expected, "{fault:?}");
        assert!(grants(&cluster) > 0 && reads(&cluster) > 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_busy_worker_is_waited_for() {
    let (cluster, _store, expected) = setup(2).await;
    cluster.workers[1].stop();
    cluster.workers[0].faults.lock().extend(vec![BUSY; 5]);
    let file = cluster.client().await.open("/a").await.unwrap();
    same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
    assert_eq!(grants(&cluster), 0, "the store was left alone");
}

/// All our connections to a worker being in use is no reason either.
#[tokio::test]
async fn our_own_reads_do_not_drive_each_other_to_the_store() {
    let (cluster, _store, expected) = setup(1).await;
    let config = ClientConfig { connections_per_worker_max: 1, ..cluster.config() };
    let file = Client::connect(config).await.unwrap().open("/a").await.unwrap();
    let slow = file.clone();
    let mut slow = std::pin::pin!(slow.read_at(0, 200_000));
    // Driven until the worker is asked, then left with the connection.
    while reads(&cluster) == 0 {
        assert!(futures::poll!(&mut slow).is_pending());
        tokio::task::yield_now().await;
    }
    let mut other = std::pin::pin!(file.read_at(1_000_000, 1000));
    // Several times as long as a worker may be silent.
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut other).await.is_err());
    same!(slow.await.unwrap(), expected[..200_000]);
    same!(other.await.unwrap(), expected[1_000_000..1_001_000]);
    assert_eq!(grants(&cluster), 0, "the store was left alone");
}

/// Each fail-over would drive all clients that begin then to the store.
#[tokio::test]
async fn a_new_leader_is_given_time_to_hear_from_workers() {
    for comes in [true, false] {
        let (cluster, _store, expected) = setup(1).await;
        let all = std::mem::take(&mut *cluster.state.workers.lock());
        cluster.state.settling.store(true, Ordering::Relaxed);
        let file = cluster.client().await.open("/a").await.unwrap();
        let mut read = std::pin::pin!(file.read_at(0, 1000));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut read).await.is_err());
        assert_eq!((grants(&cluster), reads(&cluster)), (0, 0));
        match comes {
            true => *cluster.state.workers.lock() = all,
            false => cluster.state.settling.store(false, Ordering::Relaxed),
        }
        same!(read.await.unwrap(), expected[..1000]);
        assert_eq!((grants(&cluster), reads(&cluster)), if comes { (0, 1) } else { (1, 0) });
    }
}

#[tokio::test]
async fn a_worker_that_stays_busy_is_left_for_the_store_when_time_grows_short() {
    let (cluster, _store, expected) = setup(2).await;
    all_fail(&cluster, BUSY);
    let mut config = cluster.config();
    config.deadlines.read = Duration::from_secs(4);
    let file = Client::connect(config).await.unwrap().open("/a").await.unwrap();
    same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
    assert_eq!(grants(&cluster), 1);
    let before = reads(&cluster);
    assert!(before > 4, "the workers were asked again and again: {:?}", cluster.reads());
    same!(file.read_at(1000, 1000).await.unwrap(), expected[1000..2000]);
    assert_eq!((grants(&cluster), reads(&cluster)), (1, before + 2), "they are asked, but not waited for again");
}

#[tokio::test]
async fn a_worker_that_comes_back_is_used_by_the_next_read() {
    let (cluster, _store, expected) = setup(1).await;
    let file = cluster.client().await.open("/a").await.unwrap();
    for round in 0..3 {
        all_fail(&cluster, Fault::Reset(0));
        same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
        all_fail(&cluster, Fault::None);
        let before = reads(&cluster);
        same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
        assert_eq!(reads(&cluster), before + 1, "round {round}");
    }
    assert_eq!(grants(&cluster), 1);
}

/// Workers that do not even refuse cost their silence once; then one read now and then finds out whether they are back.
#[tokio::test]
async fn silent_workers_do_not_hold_up_every_read() {
    let (cluster, _store, expected) = setup(2).await;
    all_fail(&cluster, Fault::Stall(0));
    let file = cluster.client().await.open("/a").await.unwrap();
    same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
    let before = reads(&cluster);
    for n in 0..200 {
        same!(file.read_at(n * 1000, 1000).await.unwrap(), expected[n as usize * 1000..][..1000]);
    }
    let asked = reads(&cluster) - before;
    assert!(asked < 50, "{asked} of 400 requests to silent workers");
    all_fail(&cluster, Fault::None);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while reads(&cluster) < before + asked + 50 {
        same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
        assert!(tokio::time::Instant::now() < deadline, "{:?}", cluster.reads());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One read finds out whether a silent worker is back; those beside it do not wait with it.
#[tokio::test]
async fn a_probe_of_a_silent_worker_holds_up_one_read_alone() {
    let (cluster, _store, expected) = setup(1).await;
    all_fail(&cluster, Fault::Stall(0));
    let mut config = cluster.config();
    // Whoever waits for the worker waits longer than this test.
    config.deadlines.worker_silence = Duration::from_secs(10);
    config.deadlines.read = Duration::from_secs(120);
    let file = Client::connect(config).await.unwrap().open("/a").await.unwrap();
    same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
    // Until it is time to ask the worker again, which then is silent.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let (probe, asked) = loop {
        let (before, file) = (reads(&cluster), file.clone());
        let mut read = Box::pin(async move { file.read_at(0, 1000).await });
        match tokio::time::timeout(Duration::from_millis(300), &mut read).await {
            Ok(bytes) => same!(bytes.unwrap(), expected[..1000]),
            Err(_) if reads(&cluster) > before => break (read, reads(&cluster)),
            Err(_) => {}
        }
        assert!(tokio::time::Instant::now() < deadline, "the worker is never asked again");
    };
    let side_by_side = (0..16u64).map(|n| file.read_at(n * 1000, 1000));
    let others = futures::future::join_all(side_by_side);
    let futures::future::Either::Right((others, probe)) = futures::future::select(probe, others).await else {
        panic!("they wait for the worker, too");
    };
    for (n, read) in others.into_iter().enumerate() {
        same!(read.unwrap(), expected[n * 1000..][..1000]);
    }
    assert_eq!(reads(&cluster), asked, "one has asked");
    same!(probe.await.unwrap(), expected[..1000]);
}

#[tokio::test]
async fn expired_tickets_are_renewed_for_it() {
    let (cluster, _store, expected) = setup(0).await;
    let file = cluster.client().await.open("/a").await.unwrap();
    cluster.state.tickets_from.store(2, Ordering::Relaxed);
    same!(file.read_at(0, 1000).await.unwrap(), expected[..1000]);
    assert_eq!((grants(&cluster), cluster.state.opens.load(Ordering::Relaxed)), (2, 2));
}

async fn fails(config: ClientConfig, path: &str) -> forebay_client::Error {
    let mut config = config;
    config.deadlines.read = Duration::from_millis(700);
    let file = Client::connect(config).await.unwrap().open(path).await.unwrap();
    file.read_at(7, 10).await.unwrap_err()
}

#[tokio::test]
async fn a_store_that_must_not_be_read_is_told_with_the_error() {
    let (cluster, _store, _) = setup(0).await;
    *cluster.state.store.lock() = None;
    let error = fails(cluster.config(), "/a").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let expected =
        "cannot read /a at 7: there is no live worker; nor from its store: clients must not read from the store";
    assert_eq!(error.message(), expected);
    assert!(error.hint().contains("check that workers run"), "{}", error.hint());
    assert_eq!(grants(&cluster), 1, "asked once");
}

#[tokio::test]
async fn a_client_that_must_not_read_from_stores_does_not_ask() {
    let (cluster, _store, _) = setup(0).await;
    let error = fails(ClientConfig { direct_reads: false, ..cluster.config() }, "/a").await;
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Unavailable, "cannot read /a at 7: there is no live worker")
    );
    assert_eq!(grants(&cluster), 0);
}

#[tokio::test]
async fn another_file_at_the_same_place_of_this_host_is_not_taken_for_it() {
    let (cluster, store, _) = setup(0).await;
    std::fs::write(store.path().join("a"), vec![7; LENGTH + 1]).unwrap();
    let error = fails(cluster.config(), "/a").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("this host has not the same file system as the masters"), "{error}");
}

/// An HTTP server that gives every request this answer; its URL.
async fn answering(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bucket/a", listener.local_addr().unwrap());
    // Ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

/// The address of the store is that of another one from this host, which knows no such object, or another one. The masters look, and see none of that.
#[tokio::test]
async fn another_store_at_the_same_address_is_no_conflict() {
    let gone = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 38\r\n\r\n<Error><Code>NoSuchKey</Code></Error>\n";
    let other = "HTTP/1.1 412 Precondition Failed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for answer in [gone, other] {
        let (cluster, _store, _) = setup(0).await;
        *cluster.state.url.lock() = Some(answering(answer).await);
        let error = fails(cluster.config(), "/a").await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("another store answers this host"), "{error}");
    }
}

/// The masters know new content by its tag alone.
#[tokio::test]
async fn another_tag_under_the_same_number_is_another_version() {
    let (cluster, store, _) = setup(0).await;
    let file = cluster.client().await.open("/a").await.unwrap();
    let before = cluster.state.files.lock().get(&b"/a"[..]).unwrap().version;
    let new = cluster.put_in(store.path(), "/a", LENGTH + 10, 6).await;
    cluster.state.files.lock().get_mut(&b"/a"[..]).unwrap().version = before;
    same!(whole(&file).await, new, "the new version is turned to");
}

#[tokio::test]
async fn a_file_that_changes_is_turned_to_or_a_conflict_and_never_mixed() {
    let (cluster, store, old) = setup(0).await;
    let client = cluster.client().await;
    let (fresh, begun) = (client.open("/a").await.unwrap(), client.open("/a").await.unwrap());
    same!(begun.read_at(0, 1000).await.unwrap(), old[..1000]);
    let mut stream = client.open("/a").await.unwrap().stream(..);
    let first = stream.try_next().await.unwrap().unwrap();
    same!(first, old[..first.len()]);

    let new = cluster.put_in(store.path(), "/a", LENGTH + 10, 6).await;
    same!(whole(&fresh).await, new, "nothing was handed out, so the new version is read");
    let error = begun.read_at(1000, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let mut at = first.len();
    let end = loop {
        match stream.try_next().await {
            Ok(Some(chunk)) => {
                same!(chunk, old[at..][..chunk.len()], "bytes of another version at {at}");
                at += chunk.len();
            }
            end => break end.map(|_| ()),
        }
    };
    match end {
        Ok(()) => assert_eq!(at, LENGTH, "all of the old version had been read ahead"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
    }
}
