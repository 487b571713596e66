//! The servers and what they hold.

use crate::error::Result;
use crate::types::backup::BackupStatus;
use crate::types::mount::Mount;
use forebay_base::{ByteSize, TimestampMs, WorkerId};
use forebay_proto::v1;

/// Where a worker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Who.
    pub id: WorkerId,
    /// `host:port` of the data plane.
    pub data: String,
    /// `host:port` of the control plane.
    pub control: String,
    /// Its socket for clients on its host.
    pub unix_socket: String,
    /// Equal for all on one host.
    pub host_id: String,
    /// Its share in placement.
    pub weight: u64,
}

/// A storage tier of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierStatus {
    /// `MEM`, `SSD`, `HDD`.
    pub name: String,
    /// Bytes that it may use now: less than the quota when its disks have no room for more.
    pub capacity: ByteSize,
    /// Bytes that it may use as it is set.
    pub quota: ByteSize,
    /// Bytes of other data on its disks.
    pub other: ByteSize,
    /// Bytes in use.
    pub used: ByteSize,
    /// Directories.
    pub directories: u32,
    /// Directories that are out of use for writing.
    pub broken_directories: u32,
}

/// How a worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Where it is reached.
    pub worker: WorkerInfo,
    /// Whether the masters count on it.
    pub live: bool,
    /// When it was last heard of.
    pub last_heartbeat: TimestampMs,
    /// Its tiers, fastest first.
    pub tiers: Vec<TierStatus>,
    /// Bytes served out of the cache since it started.
    pub hit_bytes: u64,
    /// Bytes that had to be fetched for a reader.
    pub miss_bytes: u64,
    /// Bytes read from under stores.
    pub fetched_bytes: u64,
    /// When it started.
    pub started: TimestampMs,
    /// Its release.
    pub version: String,
}

/// How a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterStatus {
    /// Who.
    pub id: u64,
    /// `host:port`.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// Position in the log up to which it has applied.
    pub applied_index: u64,
    /// Its release.
    pub version: String,
    /// When it started.
    pub started: TimestampMs,
}

/// The whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Its identity.
    pub cluster_id: String,
    /// The masters.
    pub masters: Vec<MasterStatus>,
    /// The workers, also those that were lost lately.
    pub workers: Vec<WorkerStatus>,
    /// The mounts.
    pub mounts: Vec<Mount>,
    /// Files and directories known.
    pub inodes: u64,
    /// Deleted files whose objects are still to be removed from their stores.
    pub pending_deletes: u64,
    /// When this was so, by the clock that [`WorkerStatus::last_heartbeat`] is of.
    pub now: TimestampMs,
    /// How backups go; none if there is no schedule and none was made.
    pub backup: Option<BackupStatus>,
}

/// How far the loading of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LoadProgress {
    /// Bytes asked for.
    pub total: u64,
    /// Bytes cached so far.
    pub loaded: u64,
    /// Bytes of these that were fetched from the store.
    pub fetched: u64,
    /// The cache is so full that it drops pages: what was loaded may be gone again. [`Client::location`](crate::Client::location) tells what is there.
    pub pressed: bool,
}

/// What one worker has cached of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The worker.
    pub worker: WorkerInfo,
    /// What it has, in file order.
    pub ranges: Vec<CachedRange>,
}

/// A cached range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedRange {
    /// Its first byte.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// The tier that holds it.
    pub tier: String,
}

impl From<v1::WorkerAddress> for WorkerInfo {
    fn from(address: v1::WorkerAddress) -> WorkerInfo {
        WorkerInfo {
            id: WorkerId(address.worker),
            data: address.data,
            control: address.control,
            unix_socket: address.unix_socket,
            host_id: address.host_id,
            weight: address.weight,
        }
    }
}

impl From<v1::TierStatus> for TierStatus {
    fn from(tier: v1::TierStatus) -> TierStatus {
        TierStatus {
            name: tier.name,
            capacity: ByteSize(tier.capacity),
            quota: ByteSize(tier.quota),
            other: ByteSize(tier.other_bytes),
            used: ByteSize(tier.used),
            directories: tier.directories,
            broken_directories: tier.broken_directories,
        }
    }
}

impl From<v1::WorkerStatus> for WorkerStatus {
    fn from(status: v1::WorkerStatus) -> WorkerStatus {
        WorkerStatus {
            worker: status.address.unwrap_or_default().into(),
            live: status.live,
            last_heartbeat: TimestampMs(status.last_heartbeat_ms),
            tiers: status.tiers.into_iter().map(TierStatus::from).collect(),
            hit_bytes: status.hit_bytes,
            miss_bytes: status.miss_bytes,
            fetched_bytes: status.fetched_bytes,
            started: TimestampMs(status.started_ms),
            version: status.version,
        }
    }
}

impl From<v1::MasterStatus> for MasterStatus {
    fn from(status: v1::MasterStatus) -> MasterStatus {
        MasterStatus {
            id: status.id,
            address: status.address,
            leader: status.leader,
            applied_index: status.applied_index,
            version: status.version,
            started: TimestampMs(status.started_ms),
        }
    }
}

impl TryFrom<v1::StatusReply> for ClusterStatus {
    type Error = crate::error::Error;

    fn try_from(reply: v1::StatusReply) -> Result<ClusterStatus> {
        let mounts = reply.mounts.into_iter().map(|mount| Mount::from_wire(Some(mount)));
        Ok(ClusterStatus {
            cluster_id: reply.cluster_id,
            masters: reply.masters.into_iter().map(MasterStatus::from).collect(),
            workers: reply.workers.into_iter().map(WorkerStatus::from).collect(),
            mounts: mounts.collect::<Result<_>>()?,
            inodes: reply.inodes,
            pending_deletes: reply.pending_deletes,
            now: TimestampMs(reply.now_ms),
            backup: reply.backup.map(BackupStatus::from),
        })
    }
}

impl From<v1::CachedRange> for CachedRange {
    fn from(range: v1::CachedRange) -> CachedRange {
        CachedRange { offset: range.offset, length: range.length, tier: range.tier }
    }
}
