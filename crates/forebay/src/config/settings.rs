//! Every setting, its meaning, unit and default. The doc comments are the user's documentation.

use forebay_base::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What one process of Forebay is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// What this process does: `master`, `worker` or both.
    pub(crate) roles: Vec<Role>,
    /// Directory of everything that this process keeps: the masters' log and metadata, the workers' cached pages.
    /// Default: `forebay` in the user's data directory (`$XDG_DATA_HOME`, else `~/.local/share`). A relative path in a file is relative to the
    /// file's directory, in a variable or a flag to the working directory.
    pub(crate) data_dir: PathBuf,
    /// Addresses (`host:port`) of the masters, for workers, clients, commands, and the masters themselves: those that are started with the same list of several
    /// and new data directories make a group, of which a majority must run. A master that has been in a group goes on in it, whatever the list says.
    pub(crate) masters: Vec<String>,
    /// What is written to standard error.
    pub(crate) log: LogSettings,
    /// The web port: metrics and health.
    pub(crate) web: WebSettings,
    /// The master role.
    pub(crate) master: MasterSettings,
    /// The worker role.
    pub(crate) worker: WorkerSettings,
    /// Backups of the masters' state at set times, made by the master that leads.
    pub(crate) backup: BackupSettings,
    /// Commands and programs that read and write.
    pub(crate) client: ClientSettings,
}

/// A part that a process can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Holds the namespace.
    Master,
    /// Holds cached pages and moves bytes.
    Worker,
}

/// The log's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct LogSettings {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,forebay_worker=debug`.
    pub(crate) level: String,
    /// How a line looks: `text` for people, `json` for machines.
    pub(crate) format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The web port's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct WebSettings {
    /// Address (`host:port`) of `/metrics`, `/healthz` and `/readyz`; port 0 takes a free one, `off` opens none.
    pub(crate) listen: String,
}

/// The master role's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct MasterSettings {
    /// Address (`host:port`) on which clients and workers are served; port 0 takes a free one.
    pub(crate) listen: String,
    /// Address (`host:port`) by which clients, workers and the other masters reach this one, as it is in `masters`; empty: `master.listen`.
    pub(crate) advertise: String,
    /// Time between two signs of life that the leader of several masters gives the others.
    #[schemars(with = "String")]
    pub(crate) heartbeat_interval: HumanDuration,
    /// How long the leader may be silent, after a lease of one and a half of this time, before the other masters choose another one. The same for all masters: those with another one take nothing from each other.
    #[schemars(with = "String")]
    pub(crate) election_timeout: HumanDuration,
    /// How much faster the clock of one master may run than that of another, in percent: so much shorter is the time in which the leader answers reads without asking the others. 100: it always asks.
    pub(crate) clock_drift_percent: u32,
    /// Bytes a second that the leader sends at most of a snapshot, which a new master or one that was away long gets, and of a backup.
    #[schemars(with = "String")]
    pub(crate) snapshot_rate: ByteSize,
    /// A file of the masters' log is closed when it is this long, 1 GiB at most; old ones go whole.
    #[schemars(with = "String")]
    pub(crate) log_segment: ByteSize,
    /// After so many bytes of log the metadata is written to the store's files: a restart does no more than this again.
    #[schemars(with = "String")]
    pub(crate) log_flush: ByteSize,
    /// Newest entries of the log that stay when the metadata is in the store's files, for masters that were away: those get a snapshot when they lack more.
    pub(crate) log_keep: u64,
    /// Memory for blocks of the metadata store that are read often.
    #[schemars(with = "String")]
    pub(crate) block_cache: ByteSize,
    /// Memory for inodes and other records in front of the store, about 250 bytes each; the least useful go and are read from the store again.
    #[schemars(with = "String")]
    pub(crate) namespace_cache: ByteSize,
    /// Memory for metadata that is not in the store's files yet; three such buffers at most, then changes wait for the disk.
    #[schemars(with = "String")]
    pub(crate) write_buffer: ByteSize,
    /// Requests that read (stat, list, open) served at the same time; further ones wait.
    pub(crate) reads_max: u32,
    /// Requests that change something served at the same time; further ones wait.
    pub(crate) writes_max: u32,
    /// Requests of one class that wait for a place; further ones are refused with `unavailable`, and clients try again.
    pub(crate) waiting_max: u32,
    /// Directories that are listed from stores at the same time; further ones wait.
    pub(crate) listings_max: u32,
    /// How long a request waits for a path whose objects are still being deleted or renamed in the store, before it is refused with `unavailable`.
    #[schemars(with = "String")]
    pub(crate) blocked_wait: HumanDuration,
    /// How long a worker may be silent before reads go to others.
    #[schemars(with = "String")]
    pub(crate) worker_timeout: HumanDuration,
    /// How long a writer may be silent before its unfinished file is removed.
    #[schemars(with = "String")]
    pub(crate) write_lease: HumanDuration,
    /// How long a client may read or write with one ticket; it gets the next by itself.
    #[schemars(with = "String")]
    pub(crate) ticket_lifetime: HumanDuration,
    /// How long a client that no worker serves may read a file from its store by one signed URL; it gets the next by itself.
    #[schemars(with = "String")]
    pub(crate) direct_grant_lifetime: HumanDuration,
    /// Bytes of the first parts of an upload, cut to a divisor of the block size; at most 64MiB. A writer holds `client.parts_in_flight` of them. Stores allow 10,000 parts, so their size doubles every 500 parts up to 64MiB: 16MiB is good for files of 585GiB, 64MiB for 625GiB, which is the most. A mount's option `part_size` goes before it.
    #[schemars(with = "String")]
    #[serde(deserialize_with = "part_size")]
    pub(crate) part_size: ByteSize,
    /// Objects that one rename in an object store copies at the same time; the others wait.
    pub(crate) rename_copies: u32,
    /// Objects that the background removes from the store of each mount a second at most; deletes that are more wait, gone from the tree already.
    pub(crate) purge_rate: u32,
    /// Paths of which is remembered when they were last compared with their store, about 200 bytes each; the least used are compared again.
    pub(crate) freshness_entries: u32,
    /// Whether new behaviour is taken into use as soon as all masters run a release that knows it, after which no older release can run in the cluster any more; else `forebay masters upgrade` does it.
    pub(crate) auto_upgrade: bool,
}

/// The worker role's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct WorkerSettings {
    /// Address (`host:port`) of the data plane; port 0 takes a free one.
    pub(crate) listen: String,
    /// Address (`host:port`) of the control port (gRPC); port 0 takes a free one.
    pub(crate) control_listen: String,
    /// Host name or address under which others reach this worker; empty: the one it listens on, or the host's name when it listens on all.
    pub(crate) advertise_host: String,
    /// The tiers of the cache, the fastest first. Default: 1GiB on `/dev/shm` (a quarter of memory when that is less) and 10GiB below `data_dir`. Each directory is of one tier alone, and not `data_dir` itself; relative paths are as for `data_dir`. What lies there after a stop is the cache of the next start; a directory may be removed while no server uses it.
    pub(crate) tiers: Vec<TierSettings>,
    /// Bytes of file data in flight between stores, cache and clients at most; readers wait at the bound.
    #[schemars(with = "String")]
    pub(crate) memory_limit: ByteSize,
    /// Largest range asked of a store in one request.
    #[schemars(with = "String")]
    pub(crate) fetch_size: ByteSize,
    /// Requests to stores at the same time; further ones wait.
    pub(crate) fetch_concurrency: u32,
    /// Connections from clients at the same time; further ones are refused with `unavailable`.
    pub(crate) connections_max: u32,
    /// How far ahead of a sequential reader the worker fetches at most, whatever the reader asks; never more than a twentieth of the cache.
    #[schemars(with = "String")]
    pub(crate) read_ahead_max: ByteSize,
    /// Loads (`forebay fs load`) at the same time; further ones are refused with `unavailable`, and clients try again.
    pub(crate) loads_max: u32,
    /// A data connection without a request for so long is closed.
    #[schemars(with = "String")]
    pub(crate) idle_timeout: HumanDuration,
    /// A peer that takes or sends nothing for so long in the middle of a request is cut off.
    #[schemars(with = "String")]
    pub(crate) stall_timeout: HumanDuration,
}

/// One tier of the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TierSettings {
    /// `mem`, `ssd` or `hdd`: how the tier is named in reports.
    pub(crate) kind: TierKind,
    /// Its directories.
    pub(crate) directories: Vec<DirectorySettings>,
}

/// The kind of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TierKind {
    /// Memory (a directory on tmpfs).
    Mem,
    /// Solid-state disk.
    Ssd,
    /// Rotating disk.
    Hdd,
}

/// One directory of a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectorySettings {
    /// Where.
    pub(crate) path: PathBuf,
    /// Bytes that the cache may use there.
    #[schemars(with = "String")]
    pub(crate) quota: ByteSize,
}

/// Settings of backups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct BackupSettings {
    /// Directory of a store in which backups are made at set times: `s3://bucket/prefix` or `file:///directory`, a directory that every master has; empty: none are made. Commands use it when they are not told another one.
    pub(crate) to: String,
    /// How the store is reached, as of a mount: `["endpoint=http://10.0.0.9:9000", "region=eu-west-3"]`.
    pub(crate) options: Vec<String>,
    /// Time from one backup to the next.
    #[schemars(with = "String")]
    pub(crate) every: HumanDuration,
    /// Backups of this cluster that stay there; older ones are removed after each new one. 0: all stay.
    pub(crate) keep: u32,
}

/// Settings of commands and programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ClientSettings {
    /// How long one call may take, retries and a master's restart included: 30m at most, since the masters know for an hour what was asked.
    #[schemars(with = "String")]
    pub(crate) deadline: HumanDuration,
    /// How long a new program or command waits for a first answer of a master, if `deadline` is longer.
    #[schemars(with = "String")]
    pub(crate) connect_timeout: HumanDuration,
    /// How long a worker may be silent in the middle of a read before the next one is asked.
    #[schemars(with = "String")]
    pub(crate) read_timeout: HumanDuration,
    /// Bytes that one program's readers and writers may hold at most; further reads and writes wait.
    #[schemars(with = "String")]
    pub(crate) memory_limit: ByteSize,
    /// Whether a worker on the same host is read through descriptors instead of TCP.
    pub(crate) same_host: bool,
    /// Whether what no worker serves is read from its store itself, as far as the mount allows it (its option `direct`). `false`: such a read fails when the deadline has passed.
    pub(crate) direct_reads: bool,
    /// How old what the commands that read (`fs ls`, `stat`, `cat`, …) are told of files and directories may be, e.g. `5s`, `1d` at most: any master may answer then, also while none leads, and not just the one that leads. `0s`: only that one, with what is true now. `--max-staleness` says it for one command.
    #[schemars(with = "String")]
    pub(crate) max_staleness: HumanDuration,
    /// How far one sequential reader reads ahead at most.
    #[schemars(with = "String")]
    pub(crate) read_ahead_max: ByteSize,
    /// What reading does to the cache: `CACHE` keeps what had to be fetched, `CACHE_PROMOTE` also moves what is read again and again from a slower tier to the fastest, `NO_CACHE` keeps nothing.
    pub(crate) read_type: ReadType,
    /// Parts of one file that a writer has under way; further writes wait.
    pub(crate) parts_in_flight: u32,
    /// Data connections to one worker; at the bound reads wait for one to become free.
    pub(crate) connections_per_worker: u32,
    /// Files of workers on the same host that are kept open, two descriptors each; the longest unused are closed first.
    pub(crate) local_files: u32,
}

/// What reading does to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ReadType {
    /// What had to be fetched is kept.
    Cache,
    /// The same, and what is read again and again moves to the fastest tier.
    CachePromote,
    /// What had to be fetched is not kept.
    NoCache,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            roles: vec![Role::Master, Role::Worker],
            data_dir: default_data_dir(),
            masters: vec!["127.0.0.1:7400".into()],
            log: LogSettings::default(),
            web: WebSettings::default(),
            master: MasterSettings::default(),
            worker: WorkerSettings::default(),
            backup: BackupSettings::default(),
            client: ClientSettings::default(),
        }
    }
}

/// `forebay` in the user's data directory (XDG Base Directory Specification), else below the working directory.
fn default_data_dir() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("."))
        .join("forebay")
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: "info".into(), format: LogFormat::Text }
    }
}

impl Default for WebSettings {
    fn default() -> Self {
        WebSettings { listen: "127.0.0.1:7480".into() }
    }
}

/// A part is sent as one body.
fn part_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    let max = forebay_proto::parts::PART_SIZE_MAX;
    match (1..=max).contains(&size.0) {
        true => Ok(size),
        false => Err(serde::de::Error::custom(format!(
            "a part of {size} cannot be sent: 1B to {} are allowed",
            ByteSize(max)
        ))),
    }
}

impl Default for MasterSettings {
    fn default() -> Self {
        MasterSettings {
            listen: "127.0.0.1:7400".into(),
            advertise: String::new(),
            heartbeat_interval: HumanDuration(Duration::from_millis(150)),
            election_timeout: HumanDuration(Duration::from_millis(700)),
            clock_drift_percent: 10,
            snapshot_rate: ByteSize::mib(128),
            log_segment: ByteSize::mib(32),
            log_flush: ByteSize::mib(32),
            log_keep: 10_000,
            block_cache: ByteSize::mib(256),
            namespace_cache: ByteSize::mib(64),
            write_buffer: ByteSize::mib(32),
            reads_max: 1024,
            writes_max: 1024,
            waiting_max: 8192,
            listings_max: 64,
            blocked_wait: HumanDuration::secs(30),
            worker_timeout: HumanDuration::secs(10),
            write_lease: HumanDuration::secs(60),
            ticket_lifetime: HumanDuration::secs(3600),
            direct_grant_lifetime: HumanDuration::secs(300),
            part_size: ByteSize::mib(16),
            rename_copies: 16,
            purge_rate: 2000,
            freshness_entries: 200_000,
            auto_upgrade: false,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        WorkerSettings {
            listen: "127.0.0.1:7410".into(),
            control_listen: "127.0.0.1:7411".into(),
            advertise_host: String::new(),
            tiers: Vec::new(),
            memory_limit: ByteSize::mib(512),
            fetch_size: ByteSize::mib(8),
            fetch_concurrency: 32,
            connections_max: 4096,
            read_ahead_max: ByteSize::mib(64),
            loads_max: 64,
            idle_timeout: HumanDuration::secs(300),
            stall_timeout: HumanDuration::secs(30),
        }
    }
}

impl Default for BackupSettings {
    fn default() -> Self {
        BackupSettings { to: String::new(), options: Vec::new(), every: HumanDuration::secs(24 * 3600), keep: 7 }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            deadline: HumanDuration::secs(60),
            connect_timeout: HumanDuration::secs(10),
            read_timeout: HumanDuration::secs(10),
            memory_limit: ByteSize::mib(256),
            same_host: true,
            direct_reads: true,
            max_staleness: HumanDuration::secs(0),
            read_ahead_max: ByteSize::mib(32),
            read_type: ReadType::CachePromote,
            parts_in_flight: 4,
            connections_per_worker: 64,
            local_files: 512,
        }
    }
}
