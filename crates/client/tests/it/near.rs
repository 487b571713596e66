//! Reading through the descriptors of a worker on this host: right bytes or none, and the network for what they do not serve.

use crate::fake::FakeCluster;
use crate::fake::near::NearSide;
use forebay_client::{Client, ClientConfig, OpenOptions, ReadType};
use futures::TryStreamExt;
use std::sync::atomic::Ordering;

const BLOCK: u64 = 256 << 10;

async fn cluster() -> (FakeCluster, NearSide) {
    let cluster = FakeCluster::start(2).await;
    let near = NearSide::start(cluster.state.clone(), 0);
    (cluster, near)
}

async fn client(cluster: &FakeCluster) -> Client {
    Client::connect(ClientConfig { same_host: true, ..cluster.config() }).await.unwrap()
}

fn network_reads(cluster: &FakeCluster) -> usize {
    cluster.reads().iter().sum()
}

#[tokio::test]
async fn everything_is_read_through_descriptors_once_it_is_cached() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 1_000_003, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    let mut cold = 0;
    for round in 0..2 {
        for (offset, length) in
            [(0, 1), (0, 4096), (16_383, 2), (BLOCK - 1, 2), (100, 900_000), (0, 1_000_003), (1_000_000, 100)]
        {
            let got = file.read_at(offset, length).await.unwrap();
            let end = (offset as usize + length).min(expected.len());
            same!(got, expected[offset as usize..end], "{length} at {offset}, round {round}");
        }
        let chunks: Vec<_> = file.stream(..).try_collect().await.unwrap();
        assert!(chunks.concat() == expected);
        // Blocks that are asked for side by side while nothing is cached may come over the network.
        if round == 0 {
            cold = network_reads(&cluster);
        }
    }
    assert_eq!(network_reads(&cluster), cold);
    assert_eq!(near.opens.load(Ordering::Relaxed), 1);
    let fills = near.fills.lock().len();
    file.read_at(0, 1_000_003).await.unwrap();
    assert_eq!(near.fills.lock().len(), fills, "all of it is cached");
}

/// What a client reads without asking anybody is a hit of the worker, who is told within a second, and of the rest when the client ends.
#[tokio::test]
async fn what_is_read_through_descriptors_is_told_to_the_worker() {
    let (cluster, near) = cluster().await;
    cluster.put("/a", 1_000_000, 4 * BLOCK);
    let client = client(&cluster).await;
    let file = client.open("/a").await.unwrap();
    file.read_at(0, 500_000).await.unwrap();
    let filled: u64 = near.fills.lock().iter().map(|fill| fill.length).sum();
    assert_eq!((filled, near.read_bytes.load(Ordering::Relaxed)), (500_000, 0), "the worker was asked for these");
    for _ in 0..3 {
        file.read_at(100, 400_000).await.unwrap();
    }
    let told = async |bytes: u64| {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while near.read_bytes.load(Ordering::Relaxed) != bytes {
            let told = near.read_bytes.load(Ordering::Relaxed);
            assert!(tokio::time::Instant::now() < deadline, "{told} bytes are told of {bytes}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    told(1_200_000).await;
    let mut small = [0; 100];
    file.read_at_into(5, &mut small).await.unwrap();
    drop((file, client));
    told(1_200_100).await;
    assert!(near.closes.lock().iter().all(|file| file.inode.0 != 0));
}

#[tokio::test]
async fn a_small_file_that_is_read_whole_and_once_costs_one_request() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 100_000, BLOCK);
    let client = client(&cluster).await;
    for _ in 0..2 {
        let file = client.open("/a").await.unwrap();
        same!(file.read_at(0, 200_000).await.unwrap(), expected);
    }
    assert_eq!((network_reads(&cluster), near.opens.load(Ordering::Relaxed)), (2, 0));
    let file = client.open("/a").await.unwrap();
    same!(file.read_at(0, 100_000).await.unwrap(), expected);
    same!(file.read_at(0, 100_000).await.unwrap(), expected);
    assert_eq!(
        (network_reads(&cluster), near.opens.load(Ordering::Relaxed)),
        (3, 1),
        "one that is read on is worth them"
    );
    // Descriptors that are there serve at once.
    same!(client.open("/a").await.unwrap().read_at(0, 100_000).await.unwrap(), expected);
    assert_eq!((network_reads(&cluster), near.opens.load(Ordering::Relaxed)), (3, 1));
}

#[tokio::test]
async fn random_reads_fill_only_what_they_touch() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 10_000_000, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    for n in 1..20u64 {
        let offset = n * 480_007;
        same!(file.read_at(offset, 100).await.unwrap(), expected[offset as usize..][..100]);
    }
    let asked: u64 = near.fills.lock().iter().map(|fill| fill.length + fill.read_ahead).sum();
    assert_eq!(asked, 1900);
}

#[tokio::test]
async fn damaged_bytes_are_never_handed_out() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 300_000, BLOCK);
    let client = client(&cluster).await;
    let file = client.open("/a").await.unwrap();
    // Caches pages 0 and 1 without checking more than a chunk of each.
    file.read_at(65_530, 10).await.unwrap();
    near.damage(20_000);
    same!(file.read_at(0, 65_536).await.unwrap(), expected[..65_536]);
    assert!(near.fills.lock().iter().any(|fill| fill.verify));

    // A worker that cannot mend its copy: the network serves.
    near.damage(40_000);
    near.keeps_nothing.store(true, Ordering::Relaxed);
    let fresh = self::client(&cluster).await.open("/a").await.unwrap();
    same!(fresh.read_at(0, 65_536).await.unwrap(), expected[..65_536]);
    assert!(network_reads(&cluster) > 0);
}

#[tokio::test]
async fn what_cannot_be_cached_comes_over_the_network() {
    let (cluster, near) = cluster().await;
    near.keeps_nothing.store(true, Ordering::Relaxed);
    let expected = cluster.put("/a", 3_000_000, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    same!(file.read_at(0, 3_000_000).await.unwrap(), expected);
    let chunks: Vec<_> = file.stream(..).try_collect().await.unwrap();
    assert!(chunks.concat() == expected);
    assert!(network_reads(&cluster) > 0);
    assert!(near.fills.lock().len() < 30, "it is not asked each time: {}", near.fills.lock().len());
}

#[tokio::test]
async fn reads_that_must_not_be_cached_fill_nothing() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 100_000, BLOCK);
    let options = OpenOptions { read_type: Some(ReadType::NoCache), ..OpenOptions::default() };
    let file = client(&cluster).await.open_with("/a", options).await.unwrap();
    same!(file.read_at(0, 100_000).await.unwrap(), expected);
    assert!(near.fills.lock().is_empty());
    assert!(cluster.workers.iter().all(|worker| worker.reads.lock().iter().all(|head| head.no_cache)));
}

/// The worker ends, and when its grace is over the files that we hold open are punched: not one zero may be handed out.
#[tokio::test]
async fn bytes_of_a_lost_lease_are_not_believed() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 300_000, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    same!(file.read_at(0, 300_000).await.unwrap(), expected);
    near.break_connections();
    let retired = near.retire();
    let grace_over = std::time::Instant::now() + forebay_cache::LEASE_GRACE;
    let mut punched = false;
    while !punched || near.opens.load(Ordering::Relaxed) < 2 {
        same!(file.read_at(1000, 100_000).await.unwrap(), expected[1000..101_000]);
        if !punched && std::time::Instant::now() >= grace_over {
            near.punch(&retired);
            punched = true;
        }
    }
    same!(file.read_at(0, 300_000).await.unwrap(), expected);
}

/// A client that slept through the grace looks before it believes.
#[tokio::test]
async fn a_lease_that_was_lost_while_the_client_slept_is_noticed() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 300_000, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    same!(file.read_at(0, 300_000).await.unwrap(), expected);
    near.break_connections();
    let retired = near.retire();
    tokio::task::yield_now().await;
    // Nothing of the client runs meanwhile: all is on this thread.
    std::thread::sleep(forebay_cache::LEASE_GRACE);
    near.punch(&retired);
    same!(file.read_at(0, 300_000).await.unwrap(), expected);
}

#[tokio::test]
async fn a_silent_socket_costs_one_wait() {
    let (cluster, near) = cluster().await;
    near.silent.store(true, Ordering::Relaxed);
    let expected = cluster.put("/a", 300_000, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    for _ in 0..30 {
        same!(file.read_at(0, 300_000).await.unwrap(), expected);
    }
    let asked = near.ignored.load(Ordering::Relaxed);
    assert!((1..5).contains(&asked), "asked {asked} times in 30 reads");
    assert!(network_reads(&cluster) > 0);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_no_failure() {
    let (cluster, near) = cluster().await;
    drop(near);
    let expected = cluster.put("/a", 300_000, BLOCK);
    let file = client(&cluster).await.open("/a").await.unwrap();
    same!(file.read_at(0, 300_000).await.unwrap(), expected);
}

#[tokio::test]
async fn descriptors_are_bounded_and_given_back() {
    let (cluster, near) = cluster().await;
    let config = ClientConfig { same_host: true, local_files_max: 5, ..cluster.config() };
    let client = Client::connect(config).await.unwrap();
    let mut files = Vec::new();
    for n in 0..30 {
        let expected = cluster.put(&format!("/{n}"), 10_000 + n, BLOCK);
        let file = client.open(format!("/{n}")).await.unwrap();
        // In two steps: a small file that is read whole at once needs no descriptors.
        same!(file.read_at(0, 5_000).await.unwrap(), expected[..5_000]);
        same!(file.read_at(0, 20_000).await.unwrap(), expected);
        files.push((file, expected));
        assert!(open_descriptors(&near) <= 2 * 5, "{}", open_descriptors(&near));
    }
    for (file, expected) in files.iter().rev() {
        same!(file.read_at(0, 20_000).await.unwrap(), expected);
    }
    assert_eq!(network_reads(&cluster), 0);
    let (opens, closes) = (near.opens.load(Ordering::Relaxed), near.closes.lock().len());
    assert!(opens >= 55 && closes + 5 + 12 >= opens, "{opens} opened, {closes} given back");
}

/// Descriptors of cached files in this process that are neither of the fake worker's own.
fn open_descriptors(near: &NearSide) -> usize {
    let ours =
        std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let cached = ours.filter(|path| path.starts_with(near.directory.path()) && path.extension().is_some());
    let mut paths: Vec<_> = cached.collect();
    paths.sort();
    let all = paths.len();
    paths.dedup();
    all - paths.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_costs_its_readers_one_wait() {
    let (cluster, near) = cluster().await;
    let expected = cluster.put("/a", 1_000_003, BLOCK);
    let client = client(&cluster).await;
    let file = client.open("/a").await.unwrap();
    same!(file.read_at(0, 1_000_003).await.unwrap(), expected);
    let disk = forebay_cache::testing::hang(near.directory.path());
    for n in 0..50 {
        let at = n * 20_000;
        same!(file.read_at(at as u64, 1000).await.unwrap(), expected[at..at + 1000], "at {at}");
    }
    // Whoever opens the file anew does not wait either.
    let again = client.open("/a").await.unwrap();
    same!(again.read_at(5, 1000).await.unwrap(), expected[5..1005]);
    // Each wait is of a thread, and a thread stays until the disk answers.
    assert!(disk.waiting() <= 2, "{} threads wait", disk.waiting());
    drop(disk);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let before = network_reads(&cluster);
        same!(file.read_at(70_000, 1000).await.unwrap(), expected[70_000..71_000]);
        if network_reads(&cluster) == before {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still over the network");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
