//! A cluster in this process that speaks the real protocols and fails on demand: stalls in the middle of a body, sends wrong bytes,
//! breaks connections, refuses tickets. What a real worker does right is tested against a real one.

#![allow(unreachable_pub)]

pub mod master;
pub mod near;
pub mod worker;

pub(crate) use crate::content::content;
use bytes::Bytes;
use forebay_client::{Client, ClientConfig, Deadlines};
use forebay_proto::ticket::Ticket;
use forebay_ufs::Ufs;
use forebay_ufs::local::LocalUfs;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
    /// Its mark in the store that clients may read themselves.
    pub tag: String,
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
    /// The master leads since a moment.
    pub settling: AtomicBool,
    pub next: AtomicU64,
    pub opens: AtomicU64,
    /// How old the answers of these might be.
    pub bounds: Mutex<Vec<Option<forebay_proto::v1::ReadBound>>>,
    /// Of the log, in answers to them.
    pub index: AtomicU64,
    /// Tickets of before this number of opens are refused.
    pub tickets_from: AtomicU64,
    pub abandoned: AtomicU64,
    pub stored_parts: AtomicU64,
    /// (client, sequence) of each mutation, in order of arrival.
    pub mutations: Mutex<Vec<forebay_proto::v1::RequestMeta>>,
    /// How many of the next calls to the master fail as unavailable, after they took effect.
    pub lose_replies: AtomicU64,
    pub part_size: AtomicU64,
    /// 0: as many as one likes.
    pub parts_max: AtomicU32,
    pub lease_ms: AtomicU64,
    /// How often clients renewed writes.
    pub renewals: AtomicU64,
    /// They get no answer.
    pub renewals_hang: AtomicBool,
    /// Where files lie that clients may read themselves; none: they may not.
    pub store: Mutex<Option<PathBuf>>,
    /// By which URL clients read it, whatever it is; none: as files.
    pub url: Mutex<Option<String>>,
    /// How often clients asked for the right to.
    pub grants: AtomicU64,
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
            tag: String::new(),
        };
        files.insert(Bytes::copy_from_slice(path.as_bytes()), file);
    }

    /// As [`put`](FakeCluster::put), in a directory from which clients may read it themselves.
    pub async fn put_in(&self, store: &Path, path: &str, length: usize, seed: u64) -> Bytes {
        let content = content(length, seed);
        let key = path.trim_start_matches('/');
        std::fs::write(store.join(key), &content).unwrap();
        self.put_bytes(path, content.clone(), 256 << 10);
        let stat = LocalUfs::new(store).stat(key.as_bytes()).await.unwrap().unwrap();
        self.state.files.lock().get_mut(path.as_bytes()).unwrap().tag = stat.tag.0;
        *self.state.store.lock() = Some(store.to_owned());
        content
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
