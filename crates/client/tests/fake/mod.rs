//! A cluster in this process that speaks the real protocols and fails on demand: stalls in the middle of a body, sends wrong bytes,
//! breaks connections, refuses tickets. What a real worker does right is tested against a real one.

// Each test file uses its share of this.
#![allow(dead_code, unused_macros, unreachable_pub, missing_docs, clippy::unwrap_used)]

/// Compares bytes; a failure does not print them all.
macro_rules! same {
    ($got:expr, $expected:expr) => {
        same!($got, $expected, "other bytes were read")
    };
    ($got:expr, $expected:expr, $($message:tt)*) => {
        assert!($got == $expected, $($message)*)
    };
}

#[path = "../content/mod.rs"]
mod bytes_of_files;
pub mod master;
pub mod near;
pub mod worker;

use bytes::Bytes;
pub use bytes_of_files::content;
use forebay_client::{Client, ClientConfig, Deadlines};
use forebay_proto::ticket::Ticket;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use worker::FakeWorker;

pub const KEY: &[u8] = b"the key of the fake cluster";
pub const PAGE: u32 = 64 << 10;

/// A file as the fake store has it.
#[derive(Clone, Debug)]
pub struct FakeFile {
    pub inode: u64,
    pub version: u64,
    pub content: Bytes,
    pub block_size: u64,
}

/// A write under way.
#[derive(Clone, Debug, Default)]
pub struct FakeWrite {
    pub path: Bytes,
    pub inode: u64,
    pub upload: bool,
    pub parts: BTreeMap<u32, Bytes>,
    pub whole: Option<Bytes>,
    pub renewals: u64,
    pub lost: bool,
}

/// What master and workers share.
#[derive(Debug, Default)]
pub struct State {
    pub files: Mutex<BTreeMap<Bytes, FakeFile>>,
    pub writes: Mutex<HashMap<u64, FakeWrite>>,
    pub workers: Mutex<Vec<forebay_proto::v1::WorkerAddress>>,
    pub epoch: AtomicU64,
    pub next: AtomicU64,
    pub opens: AtomicU64,
    /// Tickets of before this number of opens are refused.
    pub tickets_from: AtomicU64,
    pub abandoned: AtomicU64,
    /// (client, sequence) of each mutation, in order of arrival.
    pub mutations: Mutex<Vec<forebay_proto::v1::RequestMeta>>,
    /// How many of the next calls to the master fail as unavailable, after they took effect.
    pub lose_replies: AtomicU64,
    pub part_size: AtomicU64,
    /// 0: as many as one likes.
    pub parts_max: AtomicU32,
    pub lease_ms: AtomicU64,
}

pub struct FakeCluster {
    pub state: Arc<State>,
    pub master: master::FakeMaster,
    pub workers: Vec<FakeWorker>,
}

impl FakeCluster {
    pub async fn start(workers: usize) -> FakeCluster {
        let state = Arc::new(State::default());
        state.epoch.store(1, Ordering::Relaxed);
        state.next.store(100, Ordering::Relaxed);
        state.part_size.store(5 << 20, Ordering::Relaxed);
        state.lease_ms.store(60_000, Ordering::Relaxed);
        let mut cluster =
            FakeCluster { master: master::FakeMaster::start(state.clone()).await, workers: Vec::new(), state };
        for id in 0..workers {
            let worker = FakeWorker::start(id as u64 + 1, cluster.state.clone()).await;
            cluster.workers.push(worker);
        }
        cluster
    }

    /// Impatient settings, so that tests are quick.
    pub fn config(&self) -> ClientConfig {
        ClientConfig {
            same_host: false,
            deadlines: Deadlines {
                connect: Duration::from_secs(5),
                metadata: Duration::from_secs(5),
                read: Duration::from_secs(20),
                write: Duration::from_secs(20),
                worker_connect: Duration::from_millis(500),
                worker_silence: Duration::from_millis(200),
            },
            ..ClientConfig::new([self.master.address.clone()])
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }

    /// Puts a file there, with content that tells each position apart.
    pub fn put(&self, path: &str, length: usize, block_size: u64) -> Bytes {
        let content = content(length, path.len() as u64);
        self.put_bytes(path, content.clone(), block_size);
        content
    }

    pub fn put_bytes(&self, path: &str, content: Bytes, block_size: u64) {
        let mut files = self.state.files.lock();
        let old = files.get(path.as_bytes());
        let file = FakeFile {
            inode: old.map_or_else(|| self.state.next.fetch_add(1, Ordering::Relaxed), |old| old.inode),
            version: old.map_or(1, |old| old.version + 1),
            content,
            block_size,
        };
        files.insert(Bytes::copy_from_slice(path.as_bytes()), file);
    }

    /// How many `Read` requests each worker got.
    pub fn reads(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.reads.lock().len()).collect()
    }
}

impl State {
    pub fn by_ticket(&self, ticket: &Ticket) -> Option<FakeFile> {
        let files = self.files.lock();
        files.values().find(|file| file.inode == ticket.inode).cloned()
    }
}
