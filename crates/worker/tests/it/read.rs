//! Reading through the cache: the bytes, and what is asked of the store for them.
use crate::common::*;
use forebay_base::{ByteSize, ErrorKind};
use forebay_proto::frame::{Kind, READ_LEN_MAX, ReadHead};
use forebay_ufs::UfsError;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::Semaphore;

fn store() -> Arc<MemoryUfs> {
    Arc::new(MemoryUfs::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_comes_right_cold_and_hot() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 5 * MIB + 12_345);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    let seed = 20_260_101;
    let mut random = StdRng::seed_from_u64(seed);
    let len = file.bytes.len() as u64;
    for round in 0..400 {
        let offset = random.random_range(0..len + 1000);
        let length = match round % 3 {
            0 => random.random_range(0..100),
            1 => random.random_range(0..3 * PAGE),
            _ => random.random_range(0..2 * MIB),
        };
        let got = client.read(&ticket, offset, length).await.ok();
        assert!(got == file.range(offset, length), "seed {seed}, {length} bytes at {offset}");
    }
    assert!(client.read(&ticket, 0, u64::MAX >> 40).await.ok() == file.range(0, u64::MAX >> 40));
    assert!(client.read(&ticket, 0, len).await.ok() == file.bytes);
    let (fetched, reads) = (worker.fetched(), store.count(Operation::Read));
    assert_eq!(fetched, len, "each page is fetched once");
    let answer = client.read(&ticket, 0, len).await;
    assert_eq!(answer.end.as_ref().unwrap().hit, len);
    assert!(answer.ok() == file.bytes);
    assert_eq!((worker.fetched(), store.count(Operation::Read)), (fetched, reads), "hot reads ask nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_cause_one_fetch() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 8 * PAGE);
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    store.set_faults(move |operation, _| match operation {
        Operation::Read => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let mut readers = Vec::new();
    for _ in 0..16 {
        let (mut client, ticket) = (worker.client().await, file.ticket());
        readers.push(tokio::spawn(async move { client.read(&ticket, 10, 7 * PAGE).await }));
    }
    eventually("the fetch has begun", || store.count(Operation::Read) == 1).await;
    // One more that comes while it is under way, so that not all were there before it began.
    let (mut late, ticket) = (worker.client().await, file.ticket());
    let late = tokio::spawn(async move { late.read(&ticket, 0, 8 * PAGE).await });
    gate.add_permits(100);
    for reader in readers {
        let answer = reader.await.unwrap();
        let done = answer.end.as_ref().unwrap();
        assert_eq!(done.hit + done.missed, 7 * PAGE);
        assert!(answer.ok() == file.range(10, 7 * PAGE));
    }
    assert!(late.await.unwrap().ok() == file.bytes);
    assert_eq!((store.count(Operation::Read), worker.fetched()), (1, 8 * PAGE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbouring_pages_are_fetched_together_and_in_parallel() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 32 * PAGE);
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    store.set_faults(move |operation, _| match operation {
        Operation::Read => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let (mut client, ticket) = (worker.client().await, file.ticket());
    let reader = tokio::spawn(async move { client.read(&ticket, 0, 32 * PAGE).await });
    // 32 pages in fetches of 8, all begun before any of them has answered.
    eventually("four fetches run", || store.count(Operation::Read) == 4).await;
    gate.add_permits(100);
    assert!(reader.await.unwrap().ok() == file.bytes);
    assert_eq!((store.count(Operation::Read), worker.fetched()), (4, 32 * PAGE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequential_readers_get_large_fetches_ahead_and_nothing_twice() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 200 * PAGE + 777);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    let step = PAGE / 2;
    let mut at = 0;
    while at < file.bytes.len() as u64 {
        let read_ahead = 16 * PAGE;
        let head = ReadHead { ticket: ticket.clone(), offset: at, length: step, read_ahead, ..ReadHead::default() };
        assert!(client.read_with(head).await.ok() == file.range(at, step));
        at += step;
    }
    eventually("read-ahead has come to rest", || worker.fetched() >= file.bytes.len() as u64).await;
    assert_eq!(worker.fetched(), file.bytes.len() as u64, "nothing past the end, nothing twice");
    let reads = store.count(Operation::Read);
    assert!(reads <= 60, "{reads} fetches for 201 pages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_through_a_small_cache_fetches_next_to_nothing_twice() {
    let store = store();
    let cache = 64 * MIB;
    let worker = Setup::new(&store).quota(cache).start().await;
    let file = TestFile::put(&store, 1, 3 * cache);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    let step = 4 * MIB;
    let mut at = 0;
    while at < file.bytes.len() as u64 {
        // As far as clients ask ahead, which is as much as there is room for.
        let head =
            ReadHead { ticket: ticket.clone(), offset: at, length: step, read_ahead: cache, ..ReadHead::default() };
        assert!(client.read_with(head).await.ok() == file.range(at, step));
        at += step;
    }
    // The cache is full of extents that are being read or filled: a page now and then finds no room.
    let more = worker.fetched() - file.bytes.len() as u64;
    assert!(more <= file.bytes.len() as u64 / 20, "{more} bytes twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_reads_fetch_only_the_pages_they_touch() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 32 * MIB);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    let seed = 7;
    let mut random = StdRng::seed_from_u64(seed);
    let mut touched = BTreeSet::new();
    for _ in 0..100 {
        let offset = random.random_range(0..32 * MIB - 64 * 1024);
        touched.extend(offset / PAGE..=(offset + 64 * 1024 - 1) / PAGE);
        let got = client.read(&ticket, offset, 64 * 1024).await.ok();
        assert!(got == file.range(offset, 64 * 1024), "seed {seed}, at {offset}");
    }
    assert_eq!(worker.fetched(), touched.len() as u64 * PAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_on_disk_heals() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 40 * PAGE);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    assert!(client.read(&ticket, 0, 40 * PAGE).await.ok() == file.bytes);
    worker.keeps(&file, 0, 40 * PAGE).await;
    let data = worker.cache_files().into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let damage = |offset: u64| {
        use std::os::unix::fs::FileExt;
        let disk = std::fs::OpenOptions::new().read(true).write(true).open(&data).unwrap();
        let mut byte = [0];
        disk.read_exact_at(&mut byte, offset).unwrap();
        assert_eq!(byte[0], file.bytes[offset as usize], "pages lie at their natural offsets");
        disk.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    };
    // A small read is checked on its way.
    damage(5 * PAGE + 100);
    assert!(client.read(&ticket, 5 * PAGE, 4096).await.ok() == file.range(5 * PAGE, 4096));
    assert_eq!(worker.fetched(), 41 * PAGE);
    // So is the cut end of a large one.
    worker.keeps(&file, 5 * PAGE, PAGE).await;
    damage(9 * PAGE + 1);
    let at = 9 * PAGE + 3;
    assert!(client.read(&ticket, at, 4 * PAGE).await.ok() == file.range(at, 4 * PAGE));
    assert_eq!(worker.fetched(), 42 * PAGE);
    // Whole chunks are the reader's to check, who asks again.
    worker.keeps(&file, 9 * PAGE, PAGE).await;
    damage(20 * PAGE + 40_000);
    let head = ReadHead { ticket, offset: 0, length: 40 * PAGE, verify: true, ..ReadHead::default() };
    assert!(client.read_with(head).await.ok() == file.bytes);
    assert_eq!(worker.fetched(), 43 * PAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_others_made_shorter_is_fetched_anew() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 400 * PAGE);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    assert!(client.read(&ticket, 0, 400 * PAGE).await.ok() == file.bytes);
    worker.keeps(&file, 0, 400 * PAGE).await;
    let data = worker.cache_files().into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::OpenOptions::new().write(true).open(&data).unwrap().set_len(200 * PAGE + 9).unwrap();
    // Some answers end in the middle, with their connection; each brings the next one further.
    let mut cut = 0;
    let whole = loop {
        let mut client = worker.client().await;
        let head = ReadHead { ticket: ticket.clone(), offset: 0, length: 400 * PAGE, ..ReadHead::default() };
        client.send(Kind::Read, &head, &[]).await;
        match client.answer(0).await {
            Some(answer) => break answer.ok(),
            None => cut += 1,
        }
        assert!(cut < 400, "it is never whole");
    };
    assert!(whole == file.bytes);
    assert!(worker.fetched() <= 600 * PAGE, "only what was lost is fetched anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_only_the_disk_has_come_right() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 400 * PAGE + 9);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    client.read(&ticket, 0, 401 * PAGE).await.ok();
    worker.keeps(&file, 0, 401 * PAGE).await;
    let forget = || {
        for path in worker.cache_files() {
            let disk = std::fs::File::open(path).unwrap();
            disk.sync_all().unwrap();
            rustix::fs::fadvise(&disk, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    };
    for (offset, length) in [(0, 401 * PAGE), (7, 300 * PAGE), (33 * PAGE + 5, 4096), (399 * PAGE, 2 * PAGE)] {
        forget();
        assert!(client.read(&ticket, offset, length).await.ok() == file.range(offset, length), "{length} at {offset}");
    }
    assert_eq!(worker.fetched(), file.bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_too_small_is_read_through() {
    let store = store();
    for quota in [0, 3 * PAGE, 20 * PAGE] {
        let worker = Setup::new(&store).quota(quota).start().await;
        let file = TestFile::put(&store, 1, 100 * PAGE + 5);
        let mut readers = Vec::new();
        for n in 0..4u64 {
            let (mut client, ticket) = (worker.client().await, file.ticket());
            let expected = file.range(n * 1000, u64::MAX).to_vec();
            readers.push(tokio::spawn(async move {
                assert!(client.read(&ticket, n * 1000, READ_LEN_MAX).await.ok() == expected, "quota {quota}");
            }));
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cache_leaves_nothing_behind() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 30 * PAGE);
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    let head = ReadHead { ticket: ticket.clone(), offset: 77, length: 20_000, no_cache: true, ..ReadHead::default() };
    assert!(client.read_with(head.clone()).await.ok() == file.range(77, 20_000));
    assert_eq!(worker.fetched(), 20_000, "just the bytes, not the pages");
    let all = ReadHead { offset: 0, length: 30 * PAGE, ..head };
    assert!(client.read_with(all.clone()).await.ok() == file.bytes);
    let answer = client.read_with(all).await;
    assert_eq!(answer.end.unwrap().hit, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_the_middle_reaches_all_and_is_not_remembered() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 8 * PAGE);
    let error = store.error(UfsError::Unavailable, "the store is on fire");
    let first = std::sync::atomic::AtomicBool::new(true);
    store.set_faults(move |operation, _| match operation {
        Operation::Read if first.swap(false, Relaxed) => Fault::BreakBody(3 * PAGE + 100, error.clone()),
        Operation::Read => Fault::Fail(error.clone()),
        _ => Fault::None,
    });
    let mut readers = Vec::new();
    for _ in 0..4 {
        let (mut client, ticket) = (worker.client().await, file.ticket());
        readers.push(tokio::spawn(async move { client.read(&ticket, 0, 8 * PAGE).await }));
    }
    for reader in readers {
        let answer = reader.await.unwrap();
        assert_eq!(answer.error_kind(), ErrorKind::Unavailable);
        assert!(answer.end.as_ref().unwrap_err().message.contains("on fire"), "{:?}", answer.end);
        assert!(answer.bytes == file.range(0, answer.bytes.len() as u64), "what came before is good");
    }
    store.clear_faults();
    let before = worker.fetched();
    let (ticket, mut client) = (file.ticket(), worker.client().await);
    let mut answer = client.read(&ticket, 0, 8 * PAGE).await;
    while answer.end.is_err() {
        // It joined a fetch that one of the readers had begun before.
        assert!(answer.end.as_ref().unwrap_err().message.contains("on fire"), "{:?}", answer.end);
        answer = client.read(&ticket, 0, 8 * PAGE).await;
    }
    assert!(answer.end.as_ref().unwrap().hit >= 3 * PAGE, "whole pages before the break are kept");
    assert!(answer.ok() == file.bytes);
    assert!(worker.fetched() - before <= 5 * PAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_a_conflict_and_never_a_mixture() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let old = TestFile::put(&store, 1, 16 * PAGE);
    let (old_ticket, mut client) = (old.ticket(), worker.client().await);
    assert!(client.read(&old_ticket, 0, 2 * PAGE).await.ok() == old.range(0, 2 * PAGE));
    let bytes = content(99, 20 * PAGE);
    let meta = store.insert(b"file-1", bytes.clone());
    let answer = client.read(&old_ticket, 0, 16 * PAGE).await;
    assert_eq!(answer.error_kind(), ErrorKind::Conflict);
    assert!(answer.bytes == old.range(0, 2 * PAGE), "only what was cached of the old version");
    let mut ticket = old.ticket.clone();
    (ticket.version, ticket.length, ticket.version_tag) = (2, 20 * PAGE, meta.tag.0);
    let new = TestFile { bytes, ticket };
    assert!(client.read(&new.ticket(), 0, 20 * PAGE).await.ok() == new.bytes);
    store.remove(b"file-1");
    assert_eq!(client.read(&old_ticket, 8 * PAGE, 1).await.error_kind(), ErrorKind::Conflict);
    assert!(client.read(&new.ticket(), 0, 20 * PAGE).await.ok() == new.bytes, "cached whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_errors_and_the_connection_goes_on() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, PAGE);
    let mut client = worker.client().await;
    let mut expired = file.ticket.clone();
    expired.expires_ms = 1;
    let mut for_writing = file.ticket.clone();
    (for_writing.read, for_writing.write) = (false, true);
    let mut odd = file.ticket.clone();
    odd.page_size = 12_345;
    for (ticket, kind) in [
        (expired.sign(KEY), ErrorKind::PermissionDenied),
        (file.ticket.sign(b"another key"), ErrorKind::PermissionDenied),
        (for_writing.sign(KEY), ErrorKind::PermissionDenied),
        (odd.sign(KEY), ErrorKind::InvalidArgument),
    ] {
        assert_eq!(client.read(&ticket, 0, 1).await.error_kind(), kind);
    }
    let mut unknown = file.ticket.clone();
    (unknown.mount, unknown.inode) = (99, 99);
    assert_eq!(client.read(&unknown.sign(KEY), 0, 1).await.error_kind(), ErrorKind::Unavailable);
    let too_long = client.read(&file.ticket(), 0, READ_LEN_MAX + 1).await;
    assert_eq!(too_long.error_kind(), ErrorKind::InvalidArgument);
    assert!(client.read(&file.ticket(), 0, PAGE).await.ok() == file.bytes);
    client.send_raw(b"GET / HTTP/1.1\r\nHost: worker:1234\r\n\r\n").await;
    assert!(client.frame().await.is_none(), "who speaks something else is cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_together_are_answered_in_order() {
    let store = store();
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 50 * PAGE);
    let mut client = worker.client().await;
    let offsets = [30 * PAGE, 0, 49 * PAGE, 5, 30 * PAGE];
    for offset in offsets {
        let head = ReadHead { ticket: file.ticket(), offset, length: 10_000, ..ReadHead::default() };
        client.send(forebay_proto::frame::Kind::Read, &head, &[]).await;
    }
    for offset in offsets {
        assert!(client.answer(offset).await.unwrap().ok() == file.range(offset, 10_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_of_readers_that_left_are_kept_or_not_begun() {
    let store = store();
    let worker = Setup::new(&store)
        .change(|settings| {
            settings.limits.gets_max = 1;
            settings.limits.get_len_max = ByteSize(PAGE);
        })
        .start()
        .await;
    let file = TestFile::put(&store, 1, 64 * PAGE);
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    store.set_faults(move |operation, _| match operation {
        Operation::Read => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let mut client = worker.client().await;
    let head = ReadHead { ticket: file.ticket(), offset: 0, length: 64 * PAGE, ..ReadHead::default() };
    client.send(forebay_proto::frame::Kind::Read, &head, &[]).await;
    eventually("the fetch has begun", || store.count(Operation::Read) == 1).await;
    drop(client);
    // The reader's absence is noticed when something is sent to it: with the first page that comes.
    gate.add_permits(1000);
    let (ticket, mut other) = (file.ticket(), worker.client().await);
    assert!(other.read(&ticket, 60 * PAGE, PAGE).await.ok() == file.range(60 * PAGE, PAGE));
    eventually("nothing is under way", || store.count(Operation::Read) == worker.fetched() / PAGE).await;
    assert!(worker.fetched() <= 64 * PAGE);
    assert!(other.read(&ticket, 0, 64 * PAGE).await.ok() == file.bytes);
    assert_eq!(worker.fetched(), 64 * PAGE, "what was fetched for the first reader was kept");
}
