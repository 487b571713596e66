//! Writing: parts, resends, leases; every byte that the store ends up with is compared.

use crate::fake::worker::Fault;
use crate::fake::{FakeCluster, content};
use forebay_base::ByteSize;
use forebay_client::{Client, ClientConfig, CreateOptions, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::Duration;

const PART: usize = 1 << 20;

async fn cluster() -> FakeCluster {
    let cluster = FakeCluster::start(3).await;
    cluster.state.part_size.store(PART as u64, Ordering::Relaxed);
    cluster
}

fn stored(cluster: &FakeCluster, path: &str) -> Option<bytes::Bytes> {
    let files = cluster.state.files.lock();
    files.get(path.as_bytes()).map(|file| file.content.clone())
}

async fn write(client: &Client, path: &str, content: &[u8], piece: usize) -> forebay_client::Result<u64> {
    let mut writer = client.create(path, CreateOptions::default()).await?;
    for piece in content.chunks(piece) {
        writer.write(piece.to_vec()).await?;
    }
    Ok(writer.close().await?.length)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn files_of_all_lengths() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    for length in [0, 1, PART - 1, PART, PART + 1, 3 * PART, 7 * PART + 12_345] {
        for piece in [100_000, 3 * PART] {
            let path = format!("/f{length}-{piece}");
            let expected = content(length, 5);
            assert_eq!(write(&client, &path, &expected, piece).await.unwrap(), length as u64);
            assert!(stored(&cluster, &path).unwrap() == expected, "{path}");
        }
    }
    let parts: Vec<_> = cluster.workers.iter().flat_map(|w| w.parts.lock().clone()).collect();
    assert_eq!(parts.iter().filter(|part| part.whole).count(), 6, "files of one part are sent whole");
    assert!(cluster.workers.iter().all(|worker| !worker.parts.lock().is_empty()), "parts are spread");
}

#[tokio::test]
async fn nothing_is_visible_before_close_and_an_existing_file_is_not_replaced() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write(vec![1; 3 * PART]).await.unwrap();
    assert_eq!(writer.written(), 3 * PART as u64);
    assert!(stored(&cluster, "/a").is_none());
    writer.close().await.unwrap();
    let error = client.create("/a", CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = client.create("/a", options).await.unwrap();
    writer.write("new").await.unwrap();
    writer.close().await.unwrap();
    same!(stored(&cluster, "/a").unwrap(), "new");
}

#[tokio::test]
async fn parts_go_to_the_next_worker_when_one_fails() {
    for fault in [
        Fault::Stall(0),
        Fault::Reset(0),
        Fault::LoseAnswer,
        Fault::Refuse(0, ErrorKind::Unavailable, "disk is full"),
        Fault::Refuse(0, ErrorKind::Corrupt, "checksum"),
    ] {
        let cluster = cluster().await;
        *cluster.workers[1].always.lock() = fault.clone();
        let mut config = cluster.config();
        // A worker that is silent may be storing the part: it is left after half of the deadline.
        config.deadlines.write = Duration::from_secs(3);
        let client = Client::connect(config).await.unwrap();
        let expected = content(6 * PART + 99, 1);
        let result = write(&client, "/a", &expected, 500_000).await;
        result.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(stored(&cluster, "/a").unwrap() == expected, "{fault:?}");
    }
}

#[tokio::test]
async fn a_worker_dies_in_the_middle_of_a_write() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let expected = content(12 * PART + 5, 3);
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    for (n, piece) in expected.chunks(PART / 2).enumerate() {
        if n == 9 {
            cluster.workers[0].stop();
        }
        writer.write(piece.to_vec()).await.unwrap();
    }
    writer.close().await.unwrap();
    assert!(stored(&cluster, "/a").unwrap() == expected);
}

#[tokio::test]
async fn a_conflict_is_final_and_the_write_is_abandoned() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    for worker in &cluster.workers {
        *worker.always.lock() = Fault::Refuse(0, ErrorKind::Conflict, "somebody was faster");
    }
    let error = write(&client, "/a", &[1; 10], 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let parts: usize = cluster.workers.iter().map(|worker| worker.parts.lock().len()).sum();
    assert_eq!(parts, 1);
    until("abandoned", || cluster.state.abandoned.load(Ordering::Relaxed) == 1).await;
    assert!(stored(&cluster, "/a").is_none());
}

/// A request that is under way when the deadline passes has heard nothing, in no time at all.
#[tokio::test]
async fn what_a_worker_has_said_is_told_at_the_deadline() {
    let cluster = cluster().await;
    let mut config = cluster.config();
    config.deadlines.write = Duration::from_millis(600);
    for (length, path) in [(10, "/small"), (3 * PART, "/large")] {
        for worker in &cluster.workers {
            let full = Fault::Refuse(0, ErrorKind::Unavailable, "no space left on device");
            worker.faults.lock().extend([full]);
            *worker.always.lock() = Fault::Stall(0);
        }
        let client = Client::connect(config.clone()).await.unwrap();
        let error = write(&client, path, &content(length, 1), PART).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("no space left on device"), "{path}: {error}");
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_of_access_is_final() {
    let cluster = cluster().await;
    let mut config = cluster.config();
    // Longer than the test may take.
    config.deadlines.write = Duration::from_secs(3600);
    for worker in &cluster.workers {
        *worker.always.lock() = Fault::Refuse(0, ErrorKind::PermissionDenied, "access denied");
    }
    let client = Client::connect(config).await.unwrap();
    for (length, path) in [(10, "/small"), (3 * PART, "/large")] {
        let error = write(&client, path, &content(length, 1), PART).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("access denied"), "{error}");
    }
    // Each worker may be let in by its store in another way than the others; two rounds, in each of which the first one is asked again with a new ticket.
    let asked = cluster.workers.iter().map(|worker| worker.parts.lock().len()).sum::<usize>();
    assert!(asked <= 4 * 2 * (cluster.workers.len() + 1), "asked {asked} times");
}

/// The master aborts the upload when it hears of the end: a part that came to the store later would stay there.
#[tokio::test]
async fn parts_under_way_end_before_the_write_is_given_up() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    for worker in &cluster.workers {
        *worker.always.lock() = Fault::Slow(Duration::from_millis(200));
    }
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write(content(3 * PART, 1)).await.unwrap();
    let parts = || cluster.workers.iter().map(|worker| worker.parts.lock().len()).sum::<usize>();
    until("parts are under way", || parts() > 0).await;
    drop(writer);
    until("abandoned", || cluster.state.abandoned.load(Ordering::Relaxed) == 1).await;
    // A fake worker panics when it stores a part of no write.
    let stored = cluster.state.stored_parts.load(Ordering::Relaxed);
    assert_eq!(stored, parts() as u64, "all that had begun were stored before the write was given up");
    assert!(stored > 0);
}

#[tokio::test]
async fn a_dropped_or_abandoned_writer_leaves_nothing() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut dropped = client.create("/a", CreateOptions::default()).await.unwrap();
    dropped.write(vec![0; 2 * PART + 1]).await.unwrap();
    drop(dropped);
    until("abandoned", || cluster.state.abandoned.load(Ordering::Relaxed) == 1).await;
    let abandoned = client.create("/a", CreateOptions::default()).await.unwrap();
    abandoned.abandon().await.unwrap();
    assert_eq!(cluster.state.abandoned.load(Ordering::Relaxed), 2);
    assert!(stored(&cluster, "/a").is_none() && cluster.state.writes.lock().is_empty());
}

#[tokio::test]
async fn the_lease_is_kept_while_the_writer_waits_and_a_lost_one_is_an_error() {
    let cluster = cluster().await;
    cluster.state.lease_ms.store(150, Ordering::Relaxed);
    let client = cluster.client().await;
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write("some").await.unwrap();
    let renewals = || cluster.state.writes.lock().values().next().unwrap().renewals;
    until("renewed", || renewals() >= 4).await;
    for write in cluster.state.writes.lock().values_mut() {
        write.lost = true;
    }
    let error = loop {
        // A part must be sent for the writer to look.
        if let Err(error) = writer.write(vec![0; 2 * PART]).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(writer.close().await.is_err());
}

#[tokio::test]
async fn a_file_that_was_removed_while_its_writer_waited_is_not_stored() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write("some").await.unwrap();
    let begun = tokio::time::Instant::now();
    for write in cluster.state.writes.lock().values_mut() {
        write.lost = true;
    }
    // The lease is far from its renewal. What the masters said when the write began is believed for a moment only.
    until("the beginning is a while ago", || begun.elapsed() > Duration::from_millis(600)).await;
    let error = writer.close().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("was given up"), "{error}");
    assert!(cluster.workers.iter().all(|worker| worker.parts.lock().is_empty()), "nothing was sent");
}

/// The renewal that is under way has a whole lease; who closes the file has no such time.
#[tokio::test]
async fn a_renewal_without_an_answer_holds_nobody_longer_than_its_own_deadline() {
    let cluster = cluster().await;
    cluster.state.lease_ms.store(6000, Ordering::Relaxed);
    cluster.state.renewals_hang.store(true, Ordering::Relaxed);
    let mut config = cluster.config();
    config.deadlines.write = Duration::from_millis(500);
    let client = Client::connect(config).await.unwrap();
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write("some").await.unwrap();
    until("the lease is renewed", || cluster.state.renewals.load(Ordering::Relaxed) > 0).await;
    let error = writer.close().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
}

#[tokio::test]
async fn a_small_file_that_is_written_at_once_costs_no_renewal() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let begun = tokio::time::Instant::now();
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write("some").await.unwrap();
    writer.close().await.unwrap();
    let at_once = begun.elapsed() < Duration::from_millis(500);
    assert!(!at_once || cluster.state.renewals.load(Ordering::Relaxed) == 0);
}

#[tokio::test]
async fn a_lost_reply_to_complete_is_asked_for_again() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let mut writer = client.create("/a", CreateOptions::default()).await.unwrap();
    writer.write("content").await.unwrap();
    cluster.state.lose_replies.store(1, Ordering::Relaxed);
    let entry = writer.close().await.unwrap();
    assert_eq!(entry.path.to_string(), "/a");
    same!(stored(&cluster, "/a").unwrap(), "content");
    let metas = cluster.state.mutations.lock().clone();
    assert_eq!(metas.iter().map(|meta| meta.sequence).collect::<Vec<_>>(), [1, 2, 2]);
}

/// Writers share a bound that is smaller than what each would like.
#[tokio::test]
async fn the_memory_bound_slows_writers_but_does_not_stop_them() {
    let cluster = cluster().await;
    let config = ClientConfig { buffer_memory: ByteSize::mib(2), ..cluster.config() };
    let client = Client::connect(config).await.unwrap();
    let expected = content(9 * PART + 1, 8);
    let writes = (0..4).map(|n| {
        let (client, expected) = (client.clone(), expected.clone());
        tokio::spawn(async move { write(&client, &format!("/{n}"), &expected, 300_000).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    for n in 0..4 {
        assert!(stored(&cluster, &format!("/{n}")).unwrap() == expected);
    }
}

#[tokio::test]
async fn parts_grow_with_the_file() {
    use forebay_proto::parts::{PARTS_OF_A_SIZE, PartSizes};
    const FIRST: u64 = 4096;
    let cluster = cluster().await;
    cluster.state.part_size.store(FIRST, Ordering::Relaxed);
    let client = cluster.client().await;
    let sizes = PartSizes::new(FIRST);
    let length = sizes.offset_of(PARTS_OF_A_SIZE + 4) + 17;
    let expected = content(usize::try_from(length).unwrap(), 9);
    assert_eq!(write(&client, "/grown", &expected, 1_000_000).await.unwrap(), length);
    assert!(stored(&cluster, "/grown").unwrap() == expected);
    let parts: Vec<_> = cluster.workers.iter().flat_map(|w| w.parts.lock().clone()).collect();
    assert_eq!(parts.iter().map(|part| part.number).max(), Some(PARTS_OF_A_SIZE + 4));
    assert!(parts.iter().all(|part| part.offset == sizes.offset_of(part.number)));
}

#[tokio::test]
async fn what_the_store_cannot_take_is_refused_before_it_is_sent() {
    let cluster = cluster().await;
    cluster.state.part_size.store(4096, Ordering::Relaxed);
    cluster.state.parts_max.store(10, Ordering::Relaxed);
    let client = cluster.client().await;
    let mut writer = client.create("/large", CreateOptions::default()).await.unwrap();
    writer.check_length(40_960).unwrap();
    let error = writer.check_length(40_961).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("/large") && error.to_string().contains("40KiB"), "{error}");
    writer.write(vec![0; 40_960]).await.unwrap();
    assert_eq!(writer.write(vec![0; 1]).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
