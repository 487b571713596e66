//! Several workers: who asks whom, and what happens when the asked one is slow, dead or wrong.
use crate::common::*;
use forebay_base::{BlockId, BlockIndex, WorkerId};
use forebay_placement::{Candidate, owners};
use forebay_proto::frame::ReadHead;
use forebay_proto::v1::WorkerAddress;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const LEN: u64 = 3 * PAGE + 5;

/// Files of one block that `owner` owns among `workers`.
fn files_of(store: &MemoryUfs, owner: WorkerId, workers: &[WorkerAddress], count: usize) -> Vec<TestFile> {
    let candidates: Vec<Candidate> =
        workers.iter().map(|w| Candidate { worker: WorkerId(w.worker), weight: w.weight }).collect();
    (1..)
        .map(|inode| TestFile::put(store, inode, LEN))
        .filter(|file| {
            let block = BlockId { file: file.ticket.file(), index: BlockIndex(0) };
            owners(block, &candidates, 1) == [owner]
        })
        .take(count)
        .collect()
}

fn address(worker: &TestWorker) -> WorkerAddress {
    worker.running.address().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_asked_before_the_store() {
    let store = Arc::new(MemoryUfs::new());
    let (a, b) = (Setup::new(&store).start_alone().await, Setup::new(&store).start_alone().await);
    for worker in [&a, &b] {
        worker.running.set_view(&view(1, &[&a, &b]));
    }
    for file in files_of(&store, b.running.id(), &[address(&a), address(&b)], 5) {
        let before = store.count(Operation::Read);
        assert!(a.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
        assert_eq!(store.count(Operation::Read) - before, 1, "one of the two has fetched");
        assert!(b.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
        assert!(a.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
        assert_eq!(store.count(Operation::Read) - before, 1, "both have it now");
    }
    assert_eq!((a.fetched(), b.fetched()), (0, 5 * LEN), "it was the owner");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_both_workers_cause_one_fetch() {
    let store = Arc::new(MemoryUfs::new());
    let (a, b) = (Setup::new(&store).start_alone().await, Setup::new(&store).start_alone().await);
    for worker in [&a, &b] {
        worker.running.set_view(&view(1, &[&a, &b]));
    }
    let file = Arc::new(TestFile::put(&store, 77, 40 * PAGE));
    let mut readers = Vec::new();
    for worker in [&a, &b, &a, &b, &a, &b] {
        let (mut client, file) = (worker.client().await, file.clone());
        readers.push(tokio::spawn(async move {
            assert!(client.read(&file.ticket(), 0, 40 * PAGE).await.ok() == file.bytes);
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(a.fetched() + b.fetched(), 40 * PAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_asks_the_previous_one() {
    let store = Arc::new(MemoryUfs::new());
    let (a, b) = (Setup::new(&store).start().await, Setup::new(&store).start_alone().await);
    let files = files_of(&store, b.running.id(), &[address(&a), address(&b)], 4);
    let (cached, not_cached) = files.split_at(2);
    for file in cached {
        assert!(a.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
        a.keeps(file, 0, LEN).await;
    }
    // The first page of this one only.
    assert!(a.client().await.read(&not_cached[0].ticket(), 0, 10).await.ok() == not_cached[0].range(0, 10));
    a.keeps(&not_cached[0], 0, PAGE).await;
    for worker in [&a, &b] {
        worker.running.set_view(&view(2, &[&a, &b]));
    }
    for file in cached {
        assert!(b.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
    }
    assert_eq!(b.fetched(), 0, "all of it came from the previous owner");
    let fetched = a.fetched();
    for file in not_cached {
        assert!(b.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
    }
    assert_eq!(b.fetched(), 2 * LEN - PAGE, "the store gave what the previous owner had not");
    assert_eq!(a.fetched(), fetched, "who is asked as the previous owner fetches nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_only_ends_at_the_first_gap() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 10 * PAGE);
    let (mut client, ticket) = (worker.client().await, file.ticket());
    client.read(&ticket, 0, 2 * PAGE).await.ok();
    client.read(&ticket, 5 * PAGE, PAGE).await.ok();
    worker.keeps(&file, 0, 2 * PAGE).await;
    worker.keeps(&file, 5 * PAGE, PAGE).await;
    let head = ReadHead { ticket, offset: 9, length: 10 * PAGE, cached_only: true, ..ReadHead::default() };
    assert!(client.read_with(head.clone()).await.ok() == file.range(9, 2 * PAGE - 9));
    assert!(client.read_with(ReadHead { offset: 3 * PAGE, ..head }).await.ok().is_empty());
    assert_eq!(worker.fetched(), 3 * PAGE);
}

/// A worker in the list that is no worker.
fn impostor(data: String) -> WorkerAddress {
    WorkerAddress { worker: 4242, data, weight: 1 << 30, ..WorkerAddress::default() }
}

async fn check_survives(worker: &TestWorker, owner: WorkerAddress) {
    let list = [address(worker), owner];
    let files = files_of(&worker.store, WorkerId(4242), &list, 3);
    let mut described = view(2, &[worker]);
    described.workers = list.to_vec();
    worker.running.set_view(&described);
    let mut client = worker.client().await;
    for (n, file) in files.iter().enumerate() {
        let started = Instant::now();
        assert!(client.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(n == 0 || took < Duration::from_millis(400), "it is left alone after the first failure: {took:?}");
    }
    assert_eq!(worker.fetched(), 3 * LEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_owner_is_left_for_the_store() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap().to_string();
    drop(listener);
    let worker = Setup::new(&Arc::new(MemoryUfs::new())).start().await;
    check_survives(&worker, impostor(gone)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_owner_is_left_for_the_store() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            held.push(stream);
        }
    });
    let worker = Setup::new(&Arc::new(MemoryUfs::new())).start().await;
    check_survives(&worker, impostor(silent)).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_only_lives_is_left_for_the_store() {
    use forebay_proto::frame::{DataHead, Kind, encode_frame};
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let living = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let sign = encode_frame(Kind::Data, 1, &DataHead::default(), 0);
            while stream.write_all(&sign).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let setup = Setup::new(&Arc::new(MemoryUfs::new()));
    let patience = Duration::from_secs(1);
    let worker = setup.change(move |settings| settings.limits.peer_progress_timeout = patience).start().await;
    check_survives(&worker, impostor(living)).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_trickles_is_left_for_the_store() {
    use forebay_proto::frame::{DataHead, Kind, encode_frame};
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trickling = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let head = DataHead { offset: 0, checksums: vec![0] };
            let _ = stream.write_all(&encode_frame(Kind::Data, 1, &head, PAGE)).await;
            // Each byte in time.
            while stream.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let setup = Setup::new(&Arc::new(MemoryUfs::new()));
    let patience = Duration::from_secs(1);
    let worker = setup.change(move |settings| settings.limits.peer_progress_timeout = patience).start().await;
    let survives = tokio::time::timeout(Duration::from_secs(30), check_survives(&worker, impostor(trickling)));
    survives.await.expect("an answer");
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_lies_is_left_for_the_store() {
    use forebay_proto::frame::{DataHead, Kind, encode_frame};
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let liar = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await;
            // 100 bytes whose checksum is not theirs.
            let head = DataHead { offset: 0, checksums: vec![1] };
            let mut frame = encode_frame(Kind::Data, 1, &head, 100);
            frame.extend_from_slice(&[7; 100]);
            let _ = stream.write_all(&frame).await;
        }
    });
    let worker = Setup::new(&Arc::new(MemoryUfs::new())).start().await;
    check_survives(&worker, impostor(liar)).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_dies_in_the_middle_is_left_for_the_store() {
    let store = Arc::new(MemoryUfs::new());
    let (a, b) = (Setup::new(&store).start_alone().await, Setup::new(&store).start_alone().await);
    for worker in [&a, &b] {
        worker.running.set_view(&view(1, &[&a, &b]));
    }
    let file = files_of(&store, b.running.id(), &[address(&a), address(&b)], 1).remove(0);
    // The owner has the first page; its fetch of the second never ends.
    b.client().await.read(&file.ticket(), 0, 10).await.ok();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (held, first) = (gate.clone(), std::sync::atomic::AtomicBool::new(true));
    store.set_faults(move |operation, _| match operation {
        Operation::Read if first.swap(false, std::sync::atomic::Ordering::Relaxed) => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    assert!(a.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
    assert_eq!(a.fetched(), LEN - PAGE, "the first page came from the owner");
    gate.add_permits(10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_at_the_owner_heals_there() {
    use std::os::unix::fs::FileExt;
    let store = Arc::new(MemoryUfs::new());
    let (a, b) = (Setup::new(&store).start_alone().await, Setup::new(&store).start_alone().await);
    for worker in [&a, &b] {
        worker.running.set_view(&view(1, &[&a, &b]));
    }
    let file = files_of(&store, b.running.id(), &[address(&a), address(&b)], 1).remove(0);
    b.client().await.read(&file.ticket(), 0, LEN).await.ok();
    b.keeps(&file, 0, LEN).await;
    let data = b.cache_files().into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let disk = std::fs::File::options().write(true).open(data).unwrap();
    let at = PAGE + 20_000;
    disk.write_all_at(&[!file.bytes[at as usize]], at).unwrap();
    assert!(a.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
    assert_eq!((a.fetched(), b.fetched()), (0, LEN + PAGE), "the owner has fetched its page again");
    assert!(b.client().await.read(&file.ticket(), 0, LEN).await.ok() == file.bytes);
    assert_eq!(b.fetched(), LEN + PAGE);
}
