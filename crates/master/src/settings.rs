//! Settings of a master, with the reason for each default.

use crate::admission::Limits;
use forebay_base::{ByteSize, Clock, SystemClock};
use forebay_consensus::{Member, MemberId};
use forebay_ufs::OpenOptions;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a master runs.
#[derive(Clone)]
pub struct Settings {
    /// Where state, log and keys lie.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What others are told to reach it by; empty: the address it listens on, or the host's name when it listens on all.
    pub advertise: String,
    /// The masters that make a group; none or just this one: a group of one.
    pub masters: Vec<String>,
    /// How the group of masters works.
    pub group: Group,
    /// How much of the log is kept.
    pub log: Log,
    /// Places of each class of request.
    pub limits: Limits,
    /// A write that is not renewed for this long is abandoned. 60 s: a client renews every 20 s, so two lost calls cost nothing.
    pub write_lease: Duration,
    /// How long a ticket is good. One hour: a reader opens again without noticing, and a key that leaked is soon worth nothing.
    pub ticket_lifetime: Duration,
    /// How long a client that no worker serves may read a file from its store by one right. Five minutes: enough to read on without asking, and a URL that
    /// leaked is soon worth nothing.
    pub direct_grant_lifetime: Duration,
    /// How often workers call.
    pub heartbeat: Duration,
    /// A worker silent for this long gets no more work. 10 s: three lost heartbeats are no reason yet.
    pub worker_timeout: Duration,
    /// How often the background looks for ended leases and silent workers.
    pub tick: Duration,
    /// Paths whose last comparison with the store is remembered: about 200 bytes each.
    pub freshness_entries: usize,
    /// Directories listed from stores at a time; one more waits.
    pub listings_max: usize,
    /// How long a request waits for a path whose objects are still being deleted or renamed.
    pub blocked_wait: Duration,
    /// Block size of files where the mount says none.
    pub block_size: ByteSize,
    /// Page size of files where the mount says none.
    pub page_size: ByteSize,
    /// Part size of uploads: the memory of a writer is parts in flight times this. Cut to a divisor of the block size. 16 MiB: with 10,000
    /// parts, which S3 allows, a file of 156 GiB.
    pub part_size: ByteSize,
    /// Objects deleted per second in the background, so that a large delete leaves the store to others.
    pub purge_objects_per_second: u32,
    /// Objects copied at a time by one rename in an object store.
    pub rename_copies: usize,
    /// Memory of the state store's block cache.
    pub store_cache: ByteSize,
    /// Memory of changes that are not in the state store's files yet; three such buffers at most.
    pub store_write_buffer: ByteSize,
    /// Memory of inodes and other records in front of the store. 64 MiB: about 250,000 inodes with short names.
    pub namespace_cache: ByteSize,
    /// The cluster's version is raised without being asked, when all masters know a newer one. Off: there is no way back to an older release then.
    pub auto_upgrade: bool,
    /// Backups at set times, made by the master that leads.
    pub backup: Option<BackupSchedule>,
    /// Where the state comes from, of a master that has none yet.
    pub restore: Option<RestoreFrom>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Backups at set times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSchedule {
    /// The directory of a store: `s3://bucket/prefix`, `file:///directory`.
    pub to: String,
    /// How the store is reached, as of a mount.
    pub options: BTreeMap<String, String>,
    /// Between two backups.
    pub every: Duration,
    /// The newest so many stay; 0: all.
    pub keep: u32,
}

/// A backup to begin with.
#[derive(Clone, Debug)]
pub struct RestoreFrom {
    /// The directory of a store in which it lies.
    pub uri: String,
    /// How the store is reached.
    pub options: OpenOptions,
    /// Which one; none: the newest.
    pub backup: Option<String>,
    /// A copy of the old cluster's `secret.key`, without which the credentials that are stored with mounts are lost.
    pub secret_key: Option<PathBuf>,
}

impl Settings {
    /// The defaults, on `data_dir`, listening on a free port of the loopback.
    pub fn new(data_dir: impl Into<PathBuf>) -> Settings {
        Settings {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: String::new(),
            masters: Vec::new(),
            group: Group::default(),
            log: Log::default(),
            limits: Limits::default(),
            write_lease: Duration::from_secs(60),
            ticket_lifetime: Duration::from_secs(3600),
            direct_grant_lifetime: Duration::from_secs(300),
            heartbeat: Duration::from_secs(2),
            worker_timeout: Duration::from_secs(10),
            tick: Duration::from_secs(1),
            freshness_entries: 200_000,
            listings_max: 64,
            blocked_wait: Duration::from_secs(30),
            block_size: ByteSize::mib(64),
            page_size: ByteSize::mib(1),
            part_size: ByteSize::mib(16),
            purge_objects_per_second: 2000,
            rename_copies: 16,
            store_cache: ByteSize::mib(256),
            store_write_buffer: ByteSize::mib(32),
            namespace_cache: ByteSize::mib(64),
            auto_upgrade: false,
            backup: None,
            restore: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// How much of the log is kept, and how; the log's settings have the reasons for the defaults.
#[derive(Clone, Debug)]
pub struct Log {
    /// A file of the log is closed when it is this long.
    pub segment_bytes: ByteSize,
    /// After so many bytes of log the state is written to the store's files, and what that makes dispensable goes.
    pub flush_bytes: ByteSize,
    /// Newest entries that stay for masters that were away.
    pub retained_entries: u64,
}

impl Default for Log {
    fn default() -> Self {
        let log = forebay_consensus::Settings::new(Member { id: MemberId(1), address: String::new() });
        Log { segment_bytes: log.segment_bytes, flush_bytes: log.flush_bytes, retained_entries: log.retained_entries }
    }
}

/// How a group of masters works; the log's settings have the reasons for the defaults.
#[derive(Clone, Debug)]
pub struct Group {
    /// Time between two signs of life of the leader.
    pub heartbeat_interval: Duration,
    /// Silence of the leader, after its lease, at which another one is chosen; the lease is one and a half of it.
    pub election_timeout: Duration,
    /// How much faster one clock may run than another.
    pub clock_drift_percent: u32,
    /// Of a snapshot for another master.
    pub snapshot_bytes_per_second: ByteSize,
}

impl Default for Group {
    fn default() -> Self {
        let none = Member { id: MemberId(1), address: String::new() };
        let log = forebay_consensus::Settings::new(none);
        Group {
            heartbeat_interval: log.heartbeat_interval,
            election_timeout: log.election_timeout,
            clock_drift_percent: log.clock_drift_percent,
            snapshot_bytes_per_second: log.snapshot_bytes_per_second,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
