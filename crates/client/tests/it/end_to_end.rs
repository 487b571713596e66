//! The client against real masters and workers: every byte is compared, while parts of the cluster come and go.

use crate::real::{BLOCK, Cluster, PART, content, until};
use forebay_base::ByteSize;
use forebay_cache::{DirSettings, TierKind, TierSettings};
use forebay_client::{
    AttributeChanges, Client, CreateOptions, DeleteOptions, ErrorKind, MakeDirectoryOptions, OpenOptions, ReadType,
    RenameOptions, StatOptions, SyncMode, WriteType, Xattr,
};
use futures::TryStreamExt;
use std::time::Duration;

async fn read(client: &Client, path: &str) -> Vec<u8> {
    let file = client.open(path).await.unwrap();
    let chunks: Vec<_> = file.stream(..).try_collect().await.unwrap();
    chunks.concat()
}

async fn write(client: &Client, path: &str, bytes: &[u8], options: CreateOptions) -> forebay_client::Result<()> {
    let mut writer = client.create(path, options).await?;
    for piece in bytes.chunks(700_000) {
        writer.write(piece.to_vec()).await?;
    }
    writer.close().await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_serve_a_large_file() {
    let cluster = Cluster::start(3).await;
    let length = 20 * BLOCK + 12_345;
    let expected = cluster.put("large", length);
    for client in [cluster.client().await, cluster.near_client().await] {
        for _ in 0..2 {
            assert!(read(&client, "/m/large").await == expected);
        }
        let file = client.open("/m/large").await.unwrap();
        assert!(file.read_at(0, length).await.unwrap() == expected);
        for n in 0..500u64 {
            let offset = n * 7_919_993 % (length as u64 - 5000);
            let got = file.read_at(offset, 4096 + n as usize % 900).await.unwrap();
            assert!(got == expected[offset as usize..][..got.len()] && got.len() >= 4096);
        }
    }
    // Each page came from the store once: owners answer the others.
    assert_eq!(cluster.fetched(), length as u64);
    let locations = cluster.client().await.location("/m/large").await.unwrap();
    assert_eq!(locations.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reads_fetch_only_the_pages_they_touch() {
    let cluster = Cluster::start(2).await;
    let expected = cluster.put("large", 20 * BLOCK);
    for client in [cluster.client().await, cluster.near_client().await] {
        let before = cluster.fetched();
        let file = client.open("/m/large").await.unwrap();
        for n in [3usize, 17, 9, 30, 22] {
            let offset = n * 1_234_567 + if client.config().same_host { 500_000 } else { 0 };
            let got = file.read_at(offset as u64, 4096).await.unwrap();
            assert!(got == expected[offset..][..4096]);
        }
        let fetched = cluster.fetched() - before;
        assert!(fetched <= 10 * (64 << 10), "{fetched}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stops_in_the_middle_of_a_read_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let length = 30 * BLOCK;
    let expected = cluster.put("large", length);
    for near in [false, true] {
        let client = if near { cluster.near_client().await } else { cluster.client().await };
        let file = client.open("/m/large").await.unwrap();
        let mut stream = file.stream(..);
        let mut got = Vec::new();
        while let Some(chunk) = stream.try_next().await.unwrap() {
            got.extend_from_slice(&chunk);
            if got.len() / (10 << 20) != (got.len() - chunk.len()) / (10 << 20) {
                match got.len() / (10 << 20) {
                    1 => cluster.stop_worker(1).await,
                    4 => cluster.start_worker(1).await,
                    _ => {}
                }
            }
        }
        assert!(got == expected);
        until("the list is whole again", async || client.workers().await.unwrap().len() == 3).await;
    }
    // Its cache is as it was.
    let before = cluster.fetched();
    assert!(read(&cluster.client().await, "/m/large").await == expected);
    assert!(cluster.fetched() - before < length as u64 / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_all_lengths_are_written_and_read_back() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    for length in [0, 1, 100_000, PART - 1, PART, PART + 1, 2 * BLOCK, 5 * BLOCK + 77_777] {
        for write_type in [WriteType::CacheThrough, WriteType::Through] {
            let name = format!("dir/{length}-{write_type:?}");
            let path = format!("/m/{name}");
            let expected = content(length, 3);
            let options = CreateOptions { parents: true, write_type, ..CreateOptions::default() };
            write(&client, &path, &expected, options).await.unwrap();
            assert!(cluster.stored(&name).unwrap() == expected, "{path}");
            let before = cluster.fetched();
            assert!(read(&client, &path).await == expected, "{path}");
            assert!(read(&cluster.near_client().await, &path).await == expected, "{path}");
            if write_type == WriteType::CacheThrough {
                assert_eq!(cluster.fetched(), before, "{path} was cached when it was written");
            }
            let entry = client.stat(&path).await.unwrap();
            assert_eq!((entry.length, entry.complete, entry.persisted), (length as u64, true, true));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_file_is_replaced_only_when_asked_and_never_mixed() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let (old, new) = (content(3 * BLOCK, 1), content(2 * BLOCK + 5, 2));
    write(&client, "/m/a", &old, CreateOptions::default()).await.unwrap();
    let error = write(&client, "/m/a", &new, CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");

    let begun = client.open("/m/a").await.unwrap();
    begun.read_at(0, 1).await.unwrap();
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let mut writer = client.create("/m/a", options).await.unwrap();
    writer.write(new.clone()).await.unwrap();
    assert!(read(&client, "/m/a").await == old, "until the new one is complete");
    writer.close().await.unwrap();
    assert!(read(&client, "/m/a").await == new);
    // A reader of the old version gets its bytes out of the cache, or a conflict.
    match begun.read_at(0, 3 * BLOCK).await {
        Ok(bytes) => assert!(bytes == old),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_in_its_store_is_turned_to_or_a_conflict() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    cluster.put("a", 3 * BLOCK);
    let untouched = client.open("/m/a").await.unwrap();
    let begun = client.open("/m/a").await.unwrap();
    begun.read_at(0, 1).await.unwrap();
    let newer = content(4 * BLOCK + 1, 77);
    cluster.store.insert(b"a", newer.clone());
    // The mount never compares by itself: only the store's refusal tells.
    assert!(untouched.read_at(BLOCK as u64, 10).await.unwrap() == newer[BLOCK..BLOCK + 10]);
    assert!(untouched.read_at(0, 5 * BLOCK).await.unwrap() == newer);
    let error = begun.read_at(2 * BLOCK as u64, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let options = OpenOptions { sync: SyncMode::Now, ..OpenOptions::default() };
    assert_eq!(client.open_with("/m/a", options).await.unwrap().len(), newer.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stops_in_the_middle_of_a_write() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let expected = content(12 * BLOCK + 99, 4);
    let mut writer = client.create("/m/a", CreateOptions::default()).await.unwrap();
    for (n, piece) in expected.chunks(BLOCK / 2).enumerate() {
        if n == 9 {
            cluster.stop_worker(0).await;
        }
        writer.write(piece.to_vec()).await.unwrap();
    }
    writer.close().await.unwrap();
    assert!(cluster.stored("a").unwrap() == expected);
    assert!(read(&client, "/m/a").await == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_dropped_or_dies_leaves_nothing() {
    let cluster = Cluster::start_with(2, Duration::from_secs(3), |_| {}).await;
    let client = cluster.client().await;
    // One that lives longer than its lease, because it renews it.
    let mut slow = client.create("/m/slow", CreateOptions::default()).await.unwrap();
    slow.write(content(BLOCK, 9)).await.unwrap();
    let mut dropped = client.create("/m/dropped", CreateOptions::default()).await.unwrap();
    dropped.write(content(3 * BLOCK, 1)).await.unwrap();
    drop(dropped);
    // Its runtime ends, and with it all that it would have sent: like a program that is killed.
    let config = cluster.config(false);
    let died = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let writer = runtime.block_on(async {
            let client = Client::connect(config).await.unwrap();
            let mut writer = client.create("/m/died", CreateOptions::default()).await.unwrap();
            writer.write(content(3 * BLOCK, 1)).await.unwrap();
            writer
        });
        drop(runtime);
        drop(writer);
    });
    died.join().unwrap();
    until("nothing is left", async || {
        let gone = async |path| matches!(client.stat(path).await, Err(error) if error.kind() == ErrorKind::NotFound);
        gone("/m/dropped").await && gone("/m/died").await
    })
    .await;
    // Leases that began after its own have ended.
    slow.write(content(BLOCK, 10)).await.unwrap();
    slow.close().await.unwrap();
    until("the uploads are aborted", async || uploads(&cluster).await == 0).await;
    assert_eq!(cluster.store.keys(), [b"slow".to_vec()]);
    assert!(cluster.stored("slow").unwrap() == [content(BLOCK, 9), content(BLOCK, 10)].concat());
}

async fn uploads(cluster: &Cluster) -> usize {
    use forebay_ufs::Ufs;
    cluster.store.list_uploads(b"", None, 100).await.unwrap().uploads.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_master_under_readers_and_writers_is_a_pause() {
    let mut cluster = Cluster::start(2).await;
    let expected = cluster.put("a", 8 * BLOCK);
    let client = cluster.client().await;
    let file = client.open("/m/a").await.unwrap();
    let mut writer = client.create("/m/new", CreateOptions::default()).await.unwrap();
    writer.write(expected.slice(..3 * BLOCK)).await.unwrap();
    // Both workers have heard of the mount once they have served another file of it: 32 blocks leave neither out.
    let other = cluster.put("other", 32 * BLOCK);
    assert!(read(&client, "/m/other").await == other);
    cluster.stop_master().await;
    // Who has a ticket needs no master.
    assert!(file.read_at(0, 8 * BLOCK).await.unwrap() == expected);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            let made = client.make_directory("/m/d", MakeDirectoryOptions::default()).await;
            (made, client.stat("/m/a").await)
        })
    };
    cluster.start_master().await;
    let (made, stat) = waiting.await.unwrap();
    assert_eq!((made.unwrap().is_directory(), stat.unwrap().length), (true, 8 * BLOCK as u64));
    writer.write(expected.slice(3 * BLOCK..)).await.unwrap();
    writer.close().await.unwrap();
    assert!(cluster.stored("new").unwrap() == expected);
    until("the workers are back", async || client.workers().await.unwrap().len() == 2).await;
    assert!(read(&client, "/m/new").await == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_all_kinds() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    for n in 0..2500 {
        cluster.store.insert(format!("d/{n:04}").as_bytes(), "x");
    }
    let names: Vec<_> = client.list("/m/d").unwrap().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(names.len(), 2500);
    assert!(names.iter().zip(0..).all(|(entry, n)| entry.path.to_string() == format!("/m/d/{n:04}")));
    let summary = client.content_summary("/m/d").await.unwrap();
    assert_eq!((summary.files, summary.directories, summary.length), (2500, 1, 2500));

    client.rename("/m/d/0000", "/m/d/renamed", RenameOptions::default()).await.unwrap();
    assert_eq!(client.stat("/m/d/0000").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(read(&client, "/m/d/renamed").await == b"x");
    let error = client.delete("/m/d", DeleteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEmpty);
    client.delete("/m/d", DeleteOptions { recursive: true, ..DeleteOptions::default() }).await.unwrap();
    assert_eq!(client.stat("/m/d").await.unwrap_err().kind(), ErrorKind::NotFound);
    until("the objects are deleted", async || cluster.store.keys().is_empty()).await;

    cluster.put("behind", 5);
    let options = StatOptions { sync: SyncMode::Now, ..StatOptions::default() };
    assert_eq!(client.stat_with("/m/behind", options).await.unwrap().length, 5);
    let status = client.status().await.unwrap();
    assert_eq!((status.workers.len(), status.mounts.len()), (1, 1));
    assert_eq!(client.mounts().await.unwrap()[0].path.to_string(), "/m");
    let missing = client.open("/m/missing").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    let directory = client.open("/m").await.unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::IsADirectory, "{directory}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_location_and_free() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let length = 6 * BLOCK + 1000;
    let expected = cluster.put("a", length);
    let progress: Vec<_> = client.load("/m/a", ..).await.unwrap().try_collect().await.unwrap();
    let last = progress.last().unwrap();
    assert_eq!((last.total, last.loaded, last.fetched), (length as u64, length as u64, length as u64));
    assert!(progress.is_sorted_by_key(|progress| progress.loaded));
    let cached = async || {
        let locations = client.location("/m/a").await.unwrap();
        locations.iter().flat_map(|location| &location.ranges).map(|range| range.length).sum::<u64>()
    };
    assert_eq!(cached().await, length as u64);
    assert!(read(&client, "/m/a").await == expected);
    assert_eq!(cluster.fetched(), length as u64);
    assert!(client.free("/m/a").await.unwrap() >= length as u64);
    assert_eq!(cached().await, 0);
    assert!(read(&client, "/m/a").await == expected);
}

/// Workers that take one load at a time make clients wait, and send none of them to a worker that is not the block's.
#[tokio::test(flavor = "multi_thread")]
async fn loads_wait_for_the_owner() {
    let change = |settings: &mut forebay_worker::Settings| settings.limits.loads_max = 1;
    let cluster = Cluster::start_with(2, Duration::from_secs(60), change).await;
    let client = cluster.client().await;
    let names = ["a", "bb", "ccc", "dddd"];
    let mut loads = Vec::new();
    for name in names {
        cluster.put(name, 6 * BLOCK);
        let load = client.load(format!("/m/{name}").as_str(), ..).await.unwrap();
        loads.push(load.try_collect::<Vec<_>>());
    }
    futures::future::try_join_all(loads).await.unwrap();
    for name in names {
        let locations = client.location(format!("/m/{name}").as_str()).await.unwrap();
        let lengths = locations.iter().flat_map(|location| &location.ranges).map(|range| range.length);
        assert_eq!(lengths.sum::<u64>(), 6 * BLOCK as u64, "{name} is cached once: {locations:?}");
    }
    assert_eq!(cluster.fetched(), 4 * 6 * BLOCK as u64);
}

/// A small fast tier over a large slow one: what is read again and again moves up, unless the reader does not want that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_again_moves_to_the_fast_tier() {
    let change = |settings: &mut forebay_worker::Settings| {
        let home = settings.data_dir.parent().unwrap().to_owned();
        let tier = |kind, name, mib| TierSettings {
            kind,
            dirs: vec![DirSettings { path: home.join(name), quota: ByteSize::mib(mib) }],
        };
        settings.cache.tiers = vec![tier(TierKind::Mem, "fast", 16), tier(TierKind::Hdd, "slow", 256)];
    };
    let cluster = Cluster::start_with(1, Duration::from_secs(60), change).await;
    let client = cluster.client().await;
    let names: Vec<String> = (0..20).map(|n| format!("f{}", "x".repeat(n))).collect();
    for name in &names {
        let expected = cluster.put(name, BLOCK);
        assert!(read(&client, &format!("/m/{name}")).await == expected);
    }
    let in_slow = async |name: &str| {
        let locations = client.location(format!("/m/{name}").as_str()).await.unwrap();
        let ranges = locations.iter().flat_map(|location| &location.ranges);
        ranges.filter(|range| range.tier == "HDD").map(|range| range.length).sum::<u64>()
    };
    let mut cold = None;
    until("the slow tier has a file whole", async || {
        for name in &names {
            if in_slow(name).await == BLOCK as u64 {
                cold = Some(name.clone());
            }
        }
        cold.is_some()
    })
    .await;
    let name = cold.unwrap();
    let path = format!("/m/{name}");
    let stays = OpenOptions { read_type: Some(ReadType::Cache), ..OpenOptions::default() };
    for _ in 0..10 {
        let file = client.open_with(path.as_str(), stays.clone()).await.unwrap();
        file.read_at(0, BLOCK).await.unwrap();
    }
    assert_eq!(in_slow(&name).await, BLOCK as u64, "nobody asked for it");
    until("it is in the fast tier", async || {
        read(&client, &path).await;
        in_slow(&name).await == 0
    })
    .await;
}

/// Descriptors stay good while the store needs their space, and when the worker has gone.
#[tokio::test(flavor = "multi_thread")]
async fn descriptors_outlive_eviction_and_the_worker() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.near_client().await;
    let expected = cluster.put("a", 4 * BLOCK);
    let file = client.open("/m/a").await.unwrap();
    assert!(file.read_at(0, 4 * BLOCK).await.unwrap() == expected);
    client.free("/m/a").await.unwrap();
    // More than the cache holds.
    for n in 0..40 {
        let other = cluster.put(&format!("other-{n}"), 4 * BLOCK);
        assert!(read(&client, &format!("/m/other-{n}")).await == other);
        let offset = n * 199_999;
        assert!(file.read_at(offset as u64, 10_000).await.unwrap() == expected[offset..][..10_000]);
    }
    cluster.stop_worker(0).await;
    cluster.start_worker(0).await;
    for n in 0..40 {
        let offset = n * 199_999;
        assert!(file.read_at(offset as u64, 10_000).await.unwrap() == expected[offset..][..10_000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_answers_is_written_once() {
    use forebay_ufs::memory::{Fault, Operation};
    use std::sync::atomic::{AtomicU32, Ordering};
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    for (name, length) in [("small", 10_000), ("large", 3 * BLOCK + 1)] {
        let left = AtomicU32::new(2);
        let store = std::sync::Arc::downgrade(&cluster.store);
        cluster.store.set_faults(move |operation, _| {
            let put = matches!(operation, Operation::Put | Operation::PutPart);
            let lose = put && left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            match store.upgrade() {
                Some(store) if lose => Fault::FailAfter(store.error(forebay_ufs::UfsError::Unavailable, "answer lost")),
                _ => Fault::None,
            }
        });
        let expected = content(length, 6);
        let path = format!("/m/{name}");
        write(&client, &path, &expected, CreateOptions::default()).await.unwrap();
        cluster.store.clear_faults();
        assert!(cluster.stored(name).unwrap() == expected);
        assert!(read(&client, &path).await == expected);
    }
}

/// A slow store is no dead worker: nobody is asked twice, and nothing is fetched twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_is_waited_for() {
    use forebay_ufs::memory::{Fault, Operation};
    let cluster = Cluster::start(2).await;
    let expected = cluster.put("a", BLOCK);
    for near in [false, true] {
        let mut config = cluster.config(near);
        config.deadlines.worker_silence = Duration::from_secs(5);
        let client = Client::connect(config).await.unwrap();
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let held = gate.clone();
        cluster.store.set_faults(move |operation, _| match operation {
            Operation::Read => Fault::Hold(held.clone()),
            _ => Fault::None,
        });
        let before = cluster.fetched();
        let file = client.open("/m/a").await.unwrap();
        let reading = tokio::spawn(async move { file.read_at(0, BLOCK).await });
        // More than a silent worker is given.
        tokio::time::sleep(client.config().deadlines.worker_silence + Duration::from_secs(1)).await;
        gate.add_permits(1000);
        assert!(reading.await.unwrap().unwrap() == expected);
        assert_eq!(cluster.fetched() - before, BLOCK as u64);
        cluster.store.clear_faults();
        client.free("/m/a").await.unwrap();
    }
}

/// Two hosts: one client reads through descriptors of a worker beside it, the other one knows workers by their connections alone. What one of them was
/// told of, whether content or metadata, the other one sees in what it asks next.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_was_told_others_see() {
    let cluster = Cluster::start(2).await;
    let (here, there) = (cluster.near_client().await, cluster.client().await);
    for (round, (writer, reader)) in [(&here, &there), (&there, &here), (&here, &there)].into_iter().enumerate() {
        let expected = content(2 * BLOCK + round, round as u64);
        let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
        write(writer, "/m/file", &expected, options).await.unwrap();
        assert!(read(reader, "/m/file").await == expected, "round {round}: closed, and not read by the next opener");
        let (old, new) = (format!("/m/d{round}"), format!("/m/e{round}"));
        writer.make_directory(old.as_str(), MakeDirectoryOptions::default()).await.unwrap();
        assert!(reader.stat(old.as_str()).await.unwrap().is_directory());
        writer.rename(old.as_str(), new.as_str(), RenameOptions::default()).await.unwrap();
        assert_eq!(reader.stat(old.as_str()).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(reader.stat(new.as_str()).await.unwrap().is_directory());
        writer.delete(new.as_str(), DeleteOptions::default()).await.unwrap();
        assert_eq!(reader.stat(new.as_str()).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    // Under way at the same time: a reader never sees less than had been acknowledged when it asked, nor less than it has seen before.
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let numbers = async {
        for number in 1..=300 {
            let mark = Xattr { name: "number".into(), value: number.to_string().into() };
            let changes = AttributeChanges { set_xattrs: vec![mark], ..AttributeChanges::default() };
            here.set_attributes("/m/file", changes).await.unwrap();
            acknowledged.store(number, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let looks = async {
        let mut seen = 0;
        while seen < 300 {
            let at_least = acknowledged.load(std::sync::atomic::Ordering::SeqCst).max(seen);
            let options = StatOptions { with_xattrs: true, ..StatOptions::default() };
            let entry = there.stat_with("/m/file", options).await.unwrap();
            let number = entry.xattrs.iter().find(|xattr| xattr.name == "number");
            seen = number.map_or(0, |xattr| String::from_utf8_lossy(&xattr.value).parse().unwrap());
            assert!(seen >= at_least, "{seen} was seen after {at_least}");
        }
    };
    tokio::join!(numbers, looks);
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_set_of_one_path_or_of_all_below_it() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    cluster.put("d/sub/a", 5);
    cluster.put("d/b", 7);
    let with_xattrs = || StatOptions { with_xattrs: true, ..StatOptions::default() };
    let xattr = |name: &'static str, value: &'static str| Xattr { name: name.into(), value: value.into() };
    let changes = AttributeChanges {
        owner: Some("ada".to_owned()),
        group: Some("engine".to_owned()),
        mode: Some(0o2750),
        modified: Some(forebay_base::TimestampMs(1_000)),
        accessed: Some(forebay_base::TimestampMs(2_000)),
        set_xattrs: vec![xattr("user.a", "1"), xattr("user.b", "2")],
        ..AttributeChanges::default()
    };
    let told = client.set_attributes("/m/d/b", changes).await.unwrap();
    let entry = client.stat_with("/m/d/b", with_xattrs()).await.unwrap();
    assert_eq!(told, entry);
    assert_eq!((entry.owner.as_str(), entry.group.as_str(), entry.mode, entry.length), ("ada", "engine", 0o2750, 7));
    assert_eq!((entry.modified.0, entry.accessed.0), (1_000, 2_000));
    assert_eq!(entry.xattrs, [xattr("user.a", "1"), xattr("user.b", "2")]);
    // What is not named stays.
    let changes = AttributeChanges {
        remove_xattrs: vec!["user.a".into(), "user.none".into()],
        set_xattrs: vec![xattr("user.b", "3")],
        ..AttributeChanges::default()
    };
    client.set_attributes("/m/d/b", changes).await.unwrap();
    let entry = client.stat_with("/m/d/b", with_xattrs()).await.unwrap();
    assert_eq!((entry.xattrs, entry.owner.as_str(), entry.mode), (vec![xattr("user.b", "3")], "ada", 0o2750));
    let changes = AttributeChanges { group: Some("all".to_owned()), recursive: true, ..AttributeChanges::default() };
    client.set_attributes("/m/d", changes).await.unwrap();
    for path in ["/m/d", "/m/d/b", "/m/d/sub", "/m/d/sub/a"] {
        assert_eq!(client.stat(path).await.unwrap().group, "all", "{path}");
    }
    assert_eq!(client.stat("/m/d/b").await.unwrap().owner, "ada");
    let bad = AttributeChanges { mode: Some(0o10000), ..AttributeChanges::default() };
    let error = client.set_attributes("/m/d/b", bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let error = client.set_attributes("/m/none", AttributeChanges::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
