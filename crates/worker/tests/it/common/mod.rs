//! A vocabulary for the tests: a worker over a memory store, files with known bytes, and a client that speaks frames.
#![allow(unreachable_pub)]

pub mod wire;

use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_cache::{DirSettings, TierKind, TierSettings};
use forebay_proto::frame::ReadHead;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::{ClusterView, MountSpec, WorkerMount};
use forebay_testkit::scratch::Scratch;
use forebay_ufs::memory::MemoryUfs;
use forebay_ufs::{Ufs, UfsResult};
use forebay_worker::{OpenStore, RunningWorker, Settings, Worker};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const KEY: &[u8] = b"the cluster's key";
pub const MOUNT: u32 = 3;
pub const PAGE: u64 = 64 << 10;
pub const BLOCK: u64 = 1 << 20;
pub const MIB: u64 = 1 << 20;

/// Bytes that differ from place to place and from seed to seed.
pub fn content(seed: u64, len: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(len as usize + 8);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while (out.len() as u64) < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len as usize);
    out
}

/// Every mount is the one store.
struct OneStore(Arc<MemoryUfs>);

impl OpenStore for OneStore {
    fn open(&self, _: &MountSpec) -> UfsResult<Arc<dyn Ufs>> {
        Ok(self.0.clone())
    }
}

pub fn mounts() -> Vec<WorkerMount> {
    vec![WorkerMount { mount: MOUNT, spec: Some(MountSpec { uri: "memory://test".into(), ..MountSpec::default() }) }]
}

/// A view of these workers.
pub fn view(epoch: u64, workers: &[&TestWorker]) -> ClusterView {
    ClusterView {
        epoch,
        workers: workers.iter().map(|worker| worker.running.address().clone()).collect(),
        mounts: mounts(),
        ticket_keys: vec![Bytes::from_static(KEY)],
        heartbeat_ms: 0,
        settling: false,
    }
}

/// A worker with directories of its own.
pub struct TestWorker {
    pub running: RunningWorker,
    pub store: Arc<MemoryUfs>,
    pub dir: Scratch,
}

/// How a test's worker differs from the usual one.
pub struct Setup {
    store: Arc<MemoryUfs>,
    quota: u64,
    change: Box<dyn FnOnce(&mut Settings)>,
}

impl Setup {
    pub fn new(store: &Arc<MemoryUfs>) -> Setup {
        Setup { store: store.clone(), quota: 1 << 30, change: Box::new(|_| {}) }
    }

    pub fn quota(mut self, bytes: u64) -> Setup {
        self.quota = bytes;
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut Settings) + 'static) -> Setup {
        self.change = Box::new(change);
        self
    }

    /// Starts it without telling it anything of the cluster.
    pub async fn start_alone(self) -> TestWorker {
        self.start_alone_in(Scratch::make().unwrap()).await
    }

    async fn start_alone_in(self, dir: Scratch) -> TestWorker {
        let mut settings = self.settings(dir.path());
        (self.change)(&mut settings);
        let running = Worker::start(settings).await.unwrap();
        TestWorker { running, store: self.store, dir }
    }

    /// Starts it as the only worker of a cluster.
    pub async fn start(self) -> TestWorker {
        self.start_in(Scratch::make().unwrap()).await
    }

    /// The same in a directory that another may have left.
    pub async fn start_in(self, dir: Scratch) -> TestWorker {
        let worker = self.start_alone_in(dir).await;
        worker.running.set_view(&view(1, &[&worker]));
        worker
    }

    /// As they are without changes.
    pub fn settings(&self, dir: &Path) -> Settings {
        let tier = TierSettings {
            kind: TierKind::Ssd,
            dirs: vec![DirSettings { path: dir.join("cache"), quota: ByteSize(self.quota) }],
        };
        let mut cache = forebay_cache::Settings::new(vec![tier]);
        cache.keep_free = ByteSize(0);
        let mut settings = Settings::new(dir.join("data"), cache);
        settings.unix_socket = Some(dir.join("socket"));
        settings.stores = Arc::new(OneStore(self.store.clone()));
        settings.limits.get_len_max = ByteSize(8 * PAGE);
        settings.limits.window = ByteSize(32 * PAGE);
        settings.limits.peer_idle_timeout = Duration::from_millis(500);
        settings.limits.peer_connect_timeout = Duration::from_millis(500);
        settings.limits.stall_timeout = Duration::from_secs(5);
        settings
    }
}

impl TestWorker {
    pub async fn client(&self) -> wire::Client {
        wire::Client::tcp(self.running.addresses().data).await
    }

    pub async fn local_client(&self) -> wire::Client {
        wire::Client::unix(self.running.addresses().unix_socket.as_ref().unwrap()).await
    }

    /// Bytes read from the store so far.
    pub fn fetched(&self) -> u64 {
        self.running.counted().fetched_bytes
    }

    /// Waits until the page store has a range: readers have it before.
    pub async fn keeps(&self, file: &TestFile, offset: u64, len: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let head = ReadHead { ticket: file.ticket(), offset, length: len, cached_only: true, ..ReadHead::default() };
        let expected = file.range(offset, len);
        let mut client = self.client().await;
        while client.read_with(head.clone()).await.ok() != expected {
            assert!(Instant::now() < deadline, "not in time: {len} bytes at {offset} are cached");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Makes the kernel forget what it has in memory of the page store, where the file system allows that.
    pub fn drop_from_page_cache(&self) {
        for path in self.cache_files() {
            let file = std::fs::File::open(path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }

    /// The data files of the page store, as they lie on disk.
    pub fn cache_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().join("cache")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

/// A file in the store and the ticket for it.
pub struct TestFile {
    pub bytes: Vec<u8>,
    pub ticket: Ticket,
}

impl TestFile {
    pub fn put(store: &MemoryUfs, inode: u64, len: u64) -> TestFile {
        let bytes = content(inode, len);
        let key = Bytes::from(format!("file-{inode}"));
        let meta = store.insert(&key, bytes.clone());
        let ticket = Ticket {
            inode,
            version: 1,
            length: len,
            page_size: PAGE as u32,
            block_size: BLOCK,
            mount: MOUNT,
            key,
            version_tag: meta.tag.0,
            read: true,
            expires_ms: u64::MAX,
            ..Ticket::default()
        };
        TestFile { bytes, ticket }
    }

    pub fn ticket(&self) -> Bytes {
        self.ticket.sign(KEY)
    }

    pub fn range(&self, offset: u64, len: u64) -> &[u8] {
        let at = |n: u64| n.min(self.bytes.len() as u64) as usize;
        &self.bytes[at(offset)..at(offset.saturating_add(len))]
    }
}

/// Waits until `holds` does, or fails the test.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
