//! Cache disks that do not answer: no error, ever, of any call.
use crate::common::*;
use forebay_base::{ByteSize, ErrorKind};
use forebay_cache::testing::hang;
use forebay_proto::frame::{Kind, LocalOpenHead, ReadHead, WritePartHead};
use forebay_ufs::memory::MemoryUfs;
use forebay_worker::Settings;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(300);
/// Any answer comes within this: the test fails, and does not hang.
const AT_LAST: Duration = Duration::from_secs(30);
/// No waiting in circles: the patience a few times, on a machine that has other things to do.
const SOON: Duration = PATIENCE.saturating_mul(10);
/// Longer than any test: the directory stays in use.
const NEVER: Duration = Duration::from_secs(600);

async fn start(store: &Arc<MemoryUfs>) -> TestWorker {
    start_with(store, PATIENCE, 2 * PATIENCE, |_| {}).await
}

async fn start_with(
    store: &Arc<MemoryUfs>,
    patience: Duration,
    silence_max: Duration,
    change: impl FnOnce(&mut Settings) + 'static,
) -> TestWorker {
    Setup::new(store)
        .change(move |settings| {
            change(settings);
            settings.limits.disk_patience = patience;
            settings.cache.silence_max = silence_max;
            settings.cache.probe_interval = Duration::from_millis(50);
        })
        .start()
        .await
}

/// Files that are cached, and not in memory.
async fn cached(worker: &TestWorker, inodes: std::ops::Range<u64>, len: u64) -> Vec<TestFile> {
    let files: Vec<TestFile> = inodes.map(|inode| TestFile::put(&worker.store, inode, len)).collect();
    let mut client = worker.client().await;
    for file in &files {
        client.read(&file.ticket(), 0, len).await.ok();
        worker.keeps(file, 0, len).await;
    }
    worker.drop_from_page_cache();
    files
}

async fn read(worker: &TestWorker, file: &TestFile, verify: bool) -> Duration {
    let started = Instant::now();
    let length = file.bytes.len() as u64;
    let head = ReadHead { ticket: file.ticket(), length, verify, ..ReadHead::default() };
    let mut client = worker.client().await;
    let answer = tokio::time::timeout(AT_LAST, client.read_with(head)).await.expect("an answer");
    assert!(answer.ok() == file.bytes);
    started.elapsed()
}

fn is_broken(worker: &TestWorker) -> bool {
    worker.running.tiers()[0].broken_directories > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_is_read_past_and_its_pages_come_back_with_it() {
    let store = Arc::new(MemoryUfs::new());
    let worker = start(&store).await;
    let small = cached(&worker, 1..3, PAGE).await;
    let large = cached(&worker, 11..13, 9 * PAGE + 5).await;
    worker.drop_from_page_cache();
    let before = worker.fetched();
    let disk = hang(&worker.dir.path().join("cache"));
    for file in [&small[0], &large[0]] {
        read(&worker, file, false).await;
    }
    read(&worker, &small[1], true).await;
    assert_eq!(worker.fetched() - before, 2 * PAGE + 9 * PAGE + 5, "from the store");
    eventually("it is out of use", || is_broken(&worker)).await;
    let took = read(&worker, &large[1], false).await;
    assert!(took < PATIENCE, "nobody asks it any more: {took:?}");
    // What is not cached, and has nowhere to go.
    let fresh = TestFile::put(&store, 21, 9 * PAGE);
    let took = read(&worker, &fresh, false).await;
    assert!(took < PATIENCE, "{took:?}");
    drop(disk);
    eventually("it is back", || !is_broken(&worker)).await;
    worker.keeps(&large[1], 0, 9 * PAGE + 5).await;
    let fetched = worker.fetched();
    for file in small.iter().chain(&large) {
        read(&worker, file, false).await;
    }
    assert_eq!(worker.fetched(), fetched, "from the cache");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_once_for_a_disk_that_hangs() {
    let store = Arc::new(MemoryUfs::new());
    let change = |settings: &mut Settings| {
        settings.limits.get_len_max = ByteSize::mib(2);
        settings.limits.window = ByteSize::mib(2);
    };
    let worker = start_with(&store, PATIENCE, NEVER, change).await;
    let mut file = TestFile::put(&store, 1, 32 << 20);
    file.ticket.block_size = 64 << 20;
    let disk = hang(&worker.dir.path().join("cache"));
    let took = read(&worker, &file, false).await;
    assert!(took < SOON, "16 windows took {took:?}");
    assert!(disk.waiting() <= 4, "{} threads wait", disk.waiting());
    drop(disk);
    let after = TestFile::put(&store, 3, 9 * PAGE);
    read(&worker, &after, false).await;
    worker.keeps(&after, 0, 9 * PAGE).await;
}

fn write_head(file: &TestFile) -> WritePartHead {
    let mut ticket = file.ticket.clone();
    (ticket.inode, ticket.write, ticket.read, ticket.cache_writes) = (99, true, false, true);
    ticket.version_tag.clear();
    ticket.key = bytes::Bytes::from_static(b"written");
    WritePartHead { ticket: ticket.sign(KEY), number: 1, whole: true, ..WritePartHead::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_local_readers_do_not_wait_for_a_disk_that_hangs() {
    let store = Arc::new(MemoryUfs::new());
    let worker = start(&store).await;
    let file = TestFile::put(&store, 1, 4 * PAGE);
    let disk = hang(&worker.dir.path().join("cache"));
    let started = Instant::now();
    let mut client = worker.client().await;
    let written = tokio::time::timeout(AT_LAST, client.write(write_head(&file), &file.bytes)).await;
    written.expect("an answer").unwrap();
    assert!(store.bytes(b"written").unwrap() == file.bytes);
    let took = started.elapsed();
    assert!(took < SOON, "the write took {took:?}");
    let started = Instant::now();
    let mut local = worker.local_client().await;
    local.send(Kind::LocalOpen, &LocalOpenHead { ticket: file.ticket() }, &[]).await;
    let refused = tokio::time::timeout(AT_LAST, local.answer(0)).await.expect("an answer").unwrap();
    assert_eq!(refused.error_kind(), ErrorKind::Unavailable);
    let took = started.elapsed();
    assert!(took < SOON, "descriptors took {took:?}");
    read(&worker, &file, false).await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_waits_once_for_a_disk_that_hangs() {
    const TIMES: u32 = 30;
    let store = Arc::new(MemoryUfs::new());
    let worker = start_with(&store, PATIENCE, NEVER, |_| {}).await;
    let file = TestFile::put(&store, 1, 4 * PAGE);
    let disk = hang(&worker.dir.path().join("cache"));
    let started = Instant::now();
    let mut client = worker.client().await;
    // The same part again and again is as good as many.
    for _ in 0..TIMES {
        let written = tokio::time::timeout(AT_LAST, client.write(write_head(&file), &file.bytes)).await;
        written.expect("an answer").unwrap();
    }
    let took = started.elapsed();
    assert!(took < SOON, "{TIMES} parts took {took:?}");
    assert!(disk.waiting() <= 3, "{} threads wait", disk.waiting());
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stops_beside_a_disk_that_hangs() {
    let store = Arc::new(MemoryUfs::new());
    let worker = start(&store).await;
    let files = cached(&worker, 1..3, PAGE).await;
    let mut local = worker.local_client().await;
    local.send(Kind::LocalOpen, &LocalOpenHead { ticket: files[0].ticket() }, &[]).await;
    assert_eq!(local.frame().await.unwrap().0.kind, Kind::LocalOpened);
    let disk = hang(&worker.dir.path().join("cache"));
    read(&worker, &files[1], false).await;
    let TestWorker { running, .. } = worker;
    tokio::time::timeout(AT_LAST, running.shutdown()).await.expect("it ends");
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_a_disk_that_hangs_leave_threads_to_others() {
    const READERS: u64 = 700;
    /// Of one directory; see `disk_threads`.
    const THREADS_PER_DIR_MAX: usize = 32;
    let store = Arc::new(MemoryUfs::new());
    // Out of use before any thread counts as lost, so that no other gets its place.
    let worker = Arc::new(start_with(&store, 4 * PATIENCE, PATIENCE, |_| {}).await);
    let files = Arc::new(cached(&worker, 1..40, PAGE).await);
    let disk = hang(&worker.dir.path().join("cache"));
    let mut readers = Vec::new();
    for n in 0..READERS {
        let (worker, files) = (worker.clone(), files.clone());
        readers.push(tokio::spawn(async move { read(&worker, &files[n as usize % files.len()], false).await }));
    }
    eventually("threads wait for it", || disk.waiting() > 0).await;
    let mut most = 0;
    while !readers.iter().all(|reader| reader.is_finished()) {
        most = most.max(disk.waiting());
        tokio::time::timeout(AT_LAST, tokio::task::spawn_blocking(|| ())).await.expect("a thread").unwrap();
    }
    // And the directory's keeper.
    assert!(most <= THREADS_PER_DIR_MAX + 1, "{most} threads waited");
    for reader in readers {
        reader.await.unwrap();
    }
    drop(disk);
}
