//! A master and workers in this process, over a store in memory, and clients of them.

#![allow(unreachable_pub)]

pub(crate) use crate::content::content;
use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_cache::{DirSettings, TierKind, TierSettings};
use forebay_client::{Client, ClientConfig, Deadlines, MountSpec};
use forebay_master::{Master, RunningMaster};
use forebay_testkit::scratch::Scratch;
use forebay_ufs::memory::MemoryUfs;
use forebay_worker::{RunningWorker, Worker};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub const PART: usize = 1 << 20;
/// Small, so that files have many blocks.
pub const BLOCK: usize = 2 << 20;

pub struct Cluster {
    pub store: Arc<MemoryUfs>,
    pub master: Option<RunningMaster>,
    pub address: SocketAddr,
    pub workers: Vec<Option<RunningWorker>>,
    pub write_lease: Duration,
    /// Changes the settings of each worker.
    change: fn(&mut forebay_worker::Settings),
    // Goes after those who write into it.
    home: Scratch,
}

impl Cluster {
    /// One master and `workers` workers, with a store in memory mounted at `/m`.
    pub async fn start(workers: usize) -> Cluster {
        Cluster::start_with(workers, Duration::from_secs(60), |_| {}).await
    }

    pub async fn start_with(
        workers: usize,
        write_lease: Duration,
        change: fn(&mut forebay_worker::Settings),
    ) -> Cluster {
        let name = format!("client-{:016x}", rand::random::<u64>());
        let mut cluster = Cluster {
            store: MemoryUfs::shared(&name),
            master: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            workers: Vec::new(),
            write_lease,
            change,
            home: Scratch::make().unwrap(),
        };
        cluster.start_master().await;
        for index in 0..workers {
            cluster.workers.push(None);
            cluster.start_worker(index).await;
        }
        let client = cluster.client().await;
        until("all workers are known", async || client.workers().await.unwrap().len() == workers).await;
        // To each other too: one that knows of fewer takes blocks for its own that are not.
        until("all workers know each other", async || {
            let mut epochs = cluster.workers.iter().flatten().map(RunningWorker::epoch);
            let first = epochs.next();
            epochs.all(|epoch| Some(epoch) == first)
        })
        .await;
        let spec = MountSpec {
            uri: format!("memory://{name}"),
            sync_interval: "never".to_owned(),
            options: [("block_size", "2MiB"), ("page_size", "64KiB")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..MountSpec::default()
        };
        client.add_mount("/m", spec, false).await.unwrap();
        cluster
    }

    pub async fn start_master(&mut self) {
        let mut settings = forebay_master::Settings::new(self.home.path().join("master"));
        settings.listen = self.address;
        settings.part_size = ByteSize(PART as u64);
        settings.write_lease = self.write_lease;
        settings.tick = Duration::from_millis(50);
        settings.heartbeat = Duration::from_millis(100);
        // Longer than a busy machine stalls: no test waits for it, workers that stop sign off.
        settings.worker_timeout = Duration::from_secs(20);
        settings.store_cache = ByteSize::mib(16);
        let master = Master::start(settings).await.unwrap();
        self.address = master.address();
        self.master = Some(master);
    }

    pub async fn stop_master(&mut self) {
        self.master.take().unwrap().shutdown().await;
    }

    pub async fn start_worker(&mut self, index: usize) {
        let home = self.home.path().join(format!("worker-{index}"));
        let dirs = vec![DirSettings { path: home.join("cache"), quota: ByteSize::mib(256) }];
        let mut cache = forebay_cache::Settings::new(vec![TierSettings { kind: TierKind::Ssd, dirs }]);
        cache.open_files_max = 64;
        let mut settings = forebay_worker::Settings::new(home.join("data"), cache);
        settings.unix_socket = Some(home.join("socket"));
        settings.masters = vec![self.address.to_string()];
        settings.limits.heartbeat_interval = Duration::from_millis(100);
        settings.limits.drain_timeout = Duration::from_millis(200);
        settings.limits.peer_connect_timeout = Duration::from_secs(10);
        settings.limits.peer_idle_timeout = Duration::from_secs(20);
        (self.change)(&mut settings);
        let worker = Worker::start(settings).await.unwrap();
        until("the worker knows the cluster", async || worker.epoch() > 0).await;
        self.workers[index] = Some(worker);
    }

    /// Ends a worker, its connections cut off.
    pub async fn stop_worker(&mut self, index: usize) {
        self.workers[index].take().unwrap().shutdown().await;
    }

    pub fn config(&self, same_host: bool) -> ClientConfig {
        ClientConfig {
            same_host,
            deadlines: Deadlines {
                connect: Duration::from_secs(20),
                metadata: Duration::from_secs(30),
                read: Duration::from_secs(30),
                write: Duration::from_secs(30),
                worker_connect: Duration::from_secs(5),
                worker_silence: Duration::from_secs(20),
            },
            ..ClientConfig::new([self.address.to_string()])
        }
    }

    /// A client that reads over TCP.
    pub async fn client(&self) -> Client {
        Client::connect(self.config(false)).await.unwrap()
    }

    /// A client that uses descriptors.
    pub async fn near_client(&self) -> Client {
        Client::connect(self.config(true)).await.unwrap()
    }

    /// Puts an object into the store, as another program does.
    pub fn put(&self, key: &str, length: usize) -> Bytes {
        let content = content(length, key.len() as u64);
        self.store.insert(key.as_bytes(), content.clone());
        content
    }

    pub fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.store.bytes(key.as_bytes())
    }

    /// Bytes that the workers read from the store.
    pub fn fetched(&self) -> u64 {
        self.workers.iter().flatten().map(|worker| worker.counted().fetched_bytes).sum()
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
