//! Reading, with workers that fail in every way they can: every byte is compared, and no fault reaches the caller that another
//! worker could mend.

use crate::fake::worker::Fault;
use crate::fake::{FakeCluster, content};
use forebay_base::ByteSize;
use forebay_client::{ClientConfig, ErrorKind, File};
use futures::TryStreamExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const BLOCK: u64 = 256 << 10;

async fn whole(file: &File) -> Vec<u8> {
    let chunks: Vec<_> = file.stream(..).try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test]
async fn positioned_reads_of_all_shapes() {
    let cluster = FakeCluster::start(3).await;
    let expected = cluster.put("/a", 1_000_003, BLOCK);
    for frame_len in [256 << 10, 100_000, 1] {
        for worker in &cluster.workers {
            worker.frame_len.store(frame_len, Ordering::Relaxed);
        }
        let file = cluster.client().await.open("/a").await.unwrap();
        assert_eq!(file.len(), 1_000_003);
        let reads = match frame_len {
            1 => vec![(0, 3), (16_383, 2), (BLOCK - 1, 2)],
            _ => vec![
                (0, 0),
                (0, 1),
                (0, 4096),
                (16_383, 2),
                (BLOCK - 1, 2),
                (BLOCK - 100_000, 700_000),
                (0, 1_000_003),
                (999_999, 100),
                (1_000_003, 10),
                (u64::MAX, 10),
            ],
        };
        for (offset, length) in reads {
            let got = file.read_at(offset, length).await.unwrap();
            let start = (offset as usize).min(expected.len());
            let end = start.saturating_add(length).min(expected.len());
            same!(got, expected[start..end], "{length} bytes at {offset}, frames of {frame_len}");
        }
    }
}

#[tokio::test]
async fn blocks_are_read_at_their_owners_and_connections_are_used_again() {
    let cluster = FakeCluster::start(3).await;
    let expected = cluster.put("/a", 64 * BLOCK as usize, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    same!(file.read_at(0, expected.len()).await.unwrap(), expected);
    let reads = cluster.reads();
    assert_eq!(reads.iter().sum::<usize>(), 64, "one request a block: {reads:?}");
    assert!(reads.iter().all(|reads| *reads > 10), "spread over the workers: {reads:?}");
    let before: usize = cluster.workers.iter().map(|w| w.connections.load(Ordering::Relaxed)).sum();
    for n in 0..1000u64 {
        let offset = n * 7919 % (expected.len() as u64 - 4096);
        let got = file.read_at(offset, 4096).await.unwrap();
        same!(got, expected[offset as usize..][..4096]);
    }
    let after: usize = cluster.workers.iter().map(|w| w.connections.load(Ordering::Relaxed)).sum();
    assert_eq!(before, after);
}

/// The workers call a new leader within seconds; until then it knows of none, and blocks stay where they are.
#[tokio::test]
async fn a_new_leader_that_knows_no_worker_yet_moves_no_block() {
    let cluster = FakeCluster::start(3).await;
    let expected = cluster.put("/a", 32 * BLOCK as usize, BLOCK);
    let client = cluster.client().await;
    let read = async || {
        let before = cluster.reads();
        let file = client.open("/a").await.unwrap();
        same!(file.read_at(0, expected.len()).await.unwrap(), expected);
        cluster.reads().iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>()
    };
    let placed = read().await;
    let all = std::mem::take(&mut *cluster.state.workers.lock());
    cluster.state.settling.store(true, Ordering::Relaxed);
    cluster.state.epoch.fetch_add(10, Ordering::Relaxed);
    assert_eq!(read().await, placed);
    // One has called, two are dead.
    cluster.state.workers.lock().push(all[1].clone());
    cluster.state.epoch.fetch_add(1, Ordering::Relaxed);
    assert_eq!(read().await, placed);
    cluster.state.settling.store(false, Ordering::Relaxed);
    cluster.state.epoch.fetch_add(1, Ordering::Relaxed);
    let after = read().await;
    assert!(after[0] == 0 && after[1] > placed[1] && after[2] == 0, "{after:?}");
}

#[tokio::test]
async fn a_fault_of_the_first_worker_is_no_error() {
    let faults = [
        Fault::Stall(0),
        Fault::Stall(100_001),
        Fault::Trickle(0),
        Fault::Trickle(100_001),
        Fault::Reset(0),
        Fault::Reset(70_000),
        Fault::Flip(50_000),
        Fault::FlipAlways(200_000),
        Fault::Garbage,
        Fault::Short(0),
        Fault::Short(100_000),
        Fault::Refuse(0, ErrorKind::Unavailable, "disk is full"),
        Fault::Refuse(65_536, ErrorKind::Internal, "a defect"),
        Fault::Refuse(0, ErrorKind::Corrupt, "store sent half a body"),
    ];
    for fault in faults {
        let cluster = FakeCluster::start(2).await;
        let expected = cluster.put("/a", BLOCK as usize, BLOCK);
        for worker in &cluster.workers {
            worker.frame_len.store(60_000, Ordering::Relaxed);
        }
        let file = cluster.client().await.open("/a").await.unwrap();
        file.read_at(0, 10).await.unwrap();
        let owner = cluster.reads().iter().position(|reads| *reads == 1).unwrap();
        *cluster.workers[owner].always.lock() = fault.clone();
        let got = file.read_at(0, expected.len()).await;
        same!(got.unwrap(), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn goes_on_from_the_byte_reached() {
    let cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", BLOCK as usize, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    for worker in &cluster.workers {
        worker.plan([Fault::Reset(100_000)]);
    }
    same!(file.read_at(5, expected.len()).await.unwrap(), expected[5..]);
    let reads: Vec<_> = cluster.workers.iter().flat_map(|w| w.reads.lock().clone()).collect();
    let mut offsets: Vec<u64> = reads.iter().map(|head| head.offset).collect();
    offsets.sort_unstable();
    // Whole pieces only: the first one ends at 16 KiB of the file.
    let first = (5 + 100_000) / 16_384 * 16_384;
    assert_eq!(offsets[..2], [5, first], "{offsets:?}");
    assert!(offsets[2..].iter().all(|offset| *offset > first), "{offsets:?}");
}

#[tokio::test]
async fn damaged_bytes_are_asked_again_with_verify_and_never_handed_out() {
    let cluster = FakeCluster::start(1).await;
    let expected = cluster.put("/a", 100_000, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    cluster.workers[0].plan([Fault::Flip(40_000)]);
    same!(file.read_at(0, 100_000).await.unwrap(), expected);
    let reads = cluster.workers[0].reads.lock().clone();
    let asked: Vec<_> = reads.iter().map(|head| (head.offset, head.verify)).collect();
    assert_eq!(asked, [(0, false), (32_768, true)]);

    *cluster.workers[0].always.lock() = Fault::FlipAlways(5);
    let error = file.read_at(0, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains("/a"), "{error}");
}

#[tokio::test]
async fn a_dead_worker_is_avoided_and_asked_again_later() {
    let mut cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", 16 * BLOCK as usize, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    cluster.workers[0].stop();
    let started = std::time::Instant::now();
    for _ in 0..3 {
        same!(file.read_at(0, expected.len()).await.unwrap(), expected);
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    // It comes back under another address, with a newer list of workers.
    cluster.state.workers.lock().remove(0);
    cluster.workers[0] = crate::fake::worker::FakeWorker::start(1, cluster.state.clone()).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while cluster.workers[0].reads.lock().is_empty() {
        let reopened = cluster.client().await.open("/a").await.unwrap();
        same!(reopened.read_at(0, expected.len()).await.unwrap(), expected);
        assert!(tokio::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_worker_that_stalled_takes_its_share_again() {
    let cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", 16 * BLOCK as usize, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    *cluster.workers[0].always.lock() = Fault::Stall(10);
    same!(file.read_at(0, expected.len()).await.unwrap(), expected);
    *cluster.workers[0].always.lock() = Fault::None;
    let before = cluster.reads()[0];
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while cluster.reads()[0] < before + 20 {
        same!(file.read_at(0, expected.len()).await.unwrap(), expected);
        assert!(tokio::time::Instant::now() < deadline, "{:?}", cluster.reads());
    }
}

#[tokio::test]
async fn idle_connections_that_were_closed_are_no_failure() {
    let cluster = FakeCluster::start(1).await;
    let expected = cluster.put("/a", 10_000, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    for _ in 0..5 {
        same!(file.read_at(0, 10_000).await.unwrap(), expected);
        cluster.workers[0].close_connections();
    }
    assert_eq!(cluster.workers[0].connections.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn no_worker_answers_until_the_deadline() {
    let cluster = FakeCluster::start(2).await;
    cluster.put("/a", 10_000, BLOCK);
    let mut config = cluster.config();
    config.deadlines.read = Duration::from_millis(700);
    let client = forebay_client::Client::connect(config).await.unwrap();
    let file = client.open("/a").await.unwrap();
    for worker in &cluster.workers {
        *worker.always.lock() = Fault::Stall(0);
    }
    let started = std::time::Instant::now();
    let error = file.read_at(0, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("/a") && error.message().contains("127.0.0.1"), "{error}");
    let took = started.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn expired_tickets_are_renewed_without_a_word() {
    let cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", 8 * BLOCK as usize, BLOCK);
    let file = cluster.client().await.open("/a").await.unwrap();
    file.read_at(0, 10).await.unwrap();
    let opens = cluster.state.opens.load(Ordering::Relaxed);
    cluster.state.tickets_from.store(opens + 1, Ordering::Relaxed);
    same!(file.read_at(0, expected.len()).await.unwrap(), expected);
    assert_eq!(cluster.state.opens.load(Ordering::Relaxed), opens + 1, "one open for all blocks");
}

/// Where old answers are allowed, what was seen once is the oldest that may come; and what is dropped or loaded is what is there now.
#[tokio::test]
async fn what_a_renewal_has_seen_is_remembered_and_what_is_dropped_is_no_old_version() {
    let cluster = FakeCluster::start(1).await;
    let expected = cluster.put("/a", 8 * BLOCK as usize, BLOCK);
    let config = ClientConfig { max_staleness: Duration::from_secs(3600), ..cluster.config() };
    let client = forebay_client::Client::connect(config).await.unwrap();
    let last_bound = || cluster.state.bounds.lock().last().copied().flatten();
    let file = client.open("/a").await.unwrap();
    assert_eq!(last_bound().map(|bound| bound.seen_index), Some(0));
    cluster.state.index.store(7, Ordering::Relaxed);
    cluster.state.tickets_from.store(cluster.state.opens.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    same!(file.read_at(0, expected.len()).await.unwrap(), expected);
    assert_eq!(last_bound(), None, "the renewal asks who leads");
    client.open("/a").await.unwrap();
    assert_eq!(last_bound().map(|bound| bound.seen_index), Some(7));

    // The workers here can do neither; the question is who is asked for the version.
    let _ = client.free("/a").await;
    assert_eq!(last_bound(), None);
    client.open("/a").await.unwrap();
    assert!(last_bound().is_some());
    let _ = client.load("/a", ..).await;
    assert_eq!(last_bound(), None);
}

#[tokio::test]
async fn deadlines_without_an_end_are_deadlines() {
    let cluster = FakeCluster::start(1).await;
    let expected = cluster.put("/d/a", 3 * BLOCK as usize, BLOCK);
    let config = cluster.config();
    let deadlines = forebay_client::Deadlines {
        connect: Duration::MAX,
        metadata: Duration::MAX,
        read: Duration::MAX,
        write: Duration::MAX,
        ..config.deadlines
    };
    let client = forebay_client::Client::connect(ClientConfig { deadlines, ..config }).await.unwrap();
    same!(client.open("/d/a").await.unwrap().read_at(0, expected.len()).await.unwrap(), expected);
    let listed: Vec<_> = client.list("/d").unwrap().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    client.make_directory("/e", forebay_client::MakeDirectoryOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_changed_file_is_turned_to_before_the_first_byte_and_a_conflict_after_it() {
    let cluster = FakeCluster::start(2).await;
    cluster.put("/a", 3 * BLOCK as usize, BLOCK);
    let client = cluster.client().await;
    let untouched = client.open("/a").await.unwrap();
    let streamed = client.open("/a").await.unwrap();
    let begun = client.open("/a").await.unwrap();
    begun.read_at(0, 1).await.unwrap();
    let newer = content(2 * BLOCK as usize + 77, 99);
    cluster.put_bytes("/a", newer.clone(), BLOCK);

    same!(untouched.read_at(0, 10 * BLOCK as usize).await.unwrap(), newer);
    assert_eq!(untouched.entry().version, 2);
    same!(whole(&streamed).await, newer);
    let error = begun.read_at(0, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(begun.entry().version, 1);

    cluster.state.files.lock().clear();
    let gone = untouched.read_at(0, 1).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

#[tokio::test]
async fn streams_bring_every_byte_in_order() {
    let cluster = FakeCluster::start(3).await;
    // Blocks shorter and longer than the stream's chunks and segments.
    for (length, block) in
        [(0, 64 << 10), (1, 64 << 10), (3_000_001, 64 << 10), (40_000_001, 4 << 20), (40_000_001, 64 << 20)]
    {
        let expected = cluster.put("/a", length, block);
        let file = cluster.client().await.open("/a").await.unwrap();
        same!(whole(&file).await, expected, "{length} bytes, blocks of {block}");
        if length > 2_000_000 {
            let part: Vec<_> = file.stream(777..=1_999_999).try_collect().await.unwrap();
            same!(part.concat(), expected[777..2_000_000]);
        }
    }
}

#[tokio::test]
async fn streams_live_through_faults() {
    let cluster = FakeCluster::start(3).await;
    let expected = cluster.put("/a", 50_000_000, 4 << 20);
    let file = cluster.client().await.open("/a").await.unwrap();
    for (n, worker) in cluster.workers.iter().enumerate() {
        worker.plan([
            Fault::None,
            Fault::Stall(1_000_000 + n),
            Fault::Flip(99_999),
            Fault::Reset(2_222_222),
            Fault::Short(0),
            Fault::None,
            Fault::FlipAlways(0),
        ]);
    }
    assert!(whole(&file).await == expected);
}

#[tokio::test]
async fn a_worker_dies_in_the_middle_of_a_stream() {
    let cluster = FakeCluster::start(3).await;
    let expected = cluster.put("/a", 50_000_000, 4 << 20);
    let file = cluster.client().await.open("/a").await.unwrap();
    let mut stream = file.stream(..);
    let mut got = Vec::new();
    while let Some(chunk) = stream.try_next().await.unwrap() {
        got.extend_from_slice(&chunk);
        if got.len() == 10 << 20 {
            cluster.workers[1].stop();
        }
    }
    assert!(got == expected);
}

/// With a bound of one chunk for all, several streams still come to their end, holding chunks while they wait for others.
#[tokio::test]
async fn the_memory_bound_slows_streams_but_does_not_stop_them() {
    let cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", 10_000_000, 1 << 20);
    let config = ClientConfig { buffer_memory: ByteSize::mib(1), ..cluster.config() };
    let client = forebay_client::Client::connect(config).await.unwrap();
    let file = client.open("/a").await.unwrap();
    let (mut first, mut second) = (file.stream(..), file.stream(..));
    let mut held = Vec::new();
    loop {
        let pair = (first.try_next().await.unwrap(), second.try_next().await.unwrap());
        match pair {
            (Some(one), Some(two)) => {
                assert_eq!(one, two);
                held.push(one);
            }
            (None, None) => break,
            _ => panic!("one stream is shorter"),
        }
    }
    assert!(held.concat() == expected);
}

#[tokio::test]
async fn a_slow_consumer_bounds_the_read_ahead() {
    let cluster = FakeCluster::start(2).await;
    cluster.put("/a", 100_000_000, 4 << 20);
    let config = ClientConfig { read_ahead_max: ByteSize::mib(8), ..cluster.config() };
    let client = forebay_client::Client::connect(config).await.unwrap();
    let file = client.open("/a").await.unwrap();
    let mut stream = file.stream(..);
    for _ in 0..20 {
        stream.try_next().await.unwrap().unwrap();
    }
    let asked = || {
        let reads = cluster.workers.iter().flat_map(|worker| worker.reads.lock().clone());
        reads.map(|head| head.offset + head.length).max().unwrap()
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while asked() < 24 << 20 {
        assert!(tokio::time::Instant::now() < deadline, "{}", asked());
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(asked() <= (20 + 8) << 20, "{}", asked());
}

#[tokio::test]
async fn the_reader_seeks_and_reads() {
    let cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", 5_000_000, 1 << 20);
    let file = cluster.client().await.open("/a").await.unwrap();
    let mut reader = file.reader();
    let mut buffer = vec![0; 100_000];
    reader.read_exact(&mut buffer).await.unwrap();
    same!(buffer, expected[..100_000]);
    for from in [4_999_990u64, 100_000, 200_000, 150_000, 0, 5_000_000, 6_000_000] {
        reader.seek(std::io::SeekFrom::Start(from)).await.unwrap();
        let mut rest = Vec::new();
        let read = (&mut reader).take(1_500_000).read_to_end(&mut rest).await.unwrap();
        let start = (from as usize).min(expected.len());
        same!(rest, expected[start..(start + read)], "from {from}");
        assert_eq!(read, (expected.len() - start).min(1_500_000));
    }
    assert_eq!(reader.seek(std::io::SeekFrom::End(-10)).await.unwrap(), 4_999_990);
    assert_eq!(reader.seek(std::io::SeekFrom::Current(-5)).await.unwrap(), 4_999_985);
    assert!(reader.seek(std::io::SeekFrom::Current(-5_000_000)).await.is_err());
}

/// Programs that read again after an error must not take a cut file for a whole one.
#[tokio::test]
async fn a_reader_that_failed_is_not_at_the_end() {
    let cluster = FakeCluster::start(2).await;
    let expected = cluster.put("/a", 20_000_000, 4 << 20);
    let mut reader = cluster.client().await.open("/a").await.unwrap().reader();
    let mut got = vec![0; 100_000];
    reader.read_exact(&mut got).await.unwrap();
    for worker in &cluster.workers {
        *worker.always.lock() = Fault::Refuse(0, ErrorKind::Internal, "a defect");
    }
    reader.read_to_end(&mut got).await.unwrap_err();
    assert!(got.len() < expected.len());
    reader.read(&mut [0; 10]).await.unwrap_err();
    for worker in &cluster.workers {
        *worker.always.lock() = Fault::None;
    }
    reader.read_to_end(&mut got).await.unwrap();
    assert!(got == expected);
}

#[tokio::test]
async fn sequential_reads_ask_for_read_ahead_and_random_ones_do_not() {
    let cluster = FakeCluster::start(1).await;
    cluster.put("/a", 1_000_000, 1 << 20);
    let file = cluster.client().await.open("/a").await.unwrap();
    for offset in [500_000, 100_000, 0, 4096, 8192, 12288] {
        file.read_at(offset, 4096).await.unwrap();
    }
    let reads = cluster.workers[0].reads.lock().clone();
    let ahead: Vec<u64> = reads.iter().map(|head| head.read_ahead).collect();
    assert_eq!(ahead, [0, 0, 0, 4096, 8192, 12288]);
}
