//! Backups of the masters.

use forebay_base::TimestampMs;
use forebay_proto::v1;
use std::collections::BTreeMap;
use std::fmt;

/// Where backups go: a directory of a store, reached as that of a mount.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BackupTarget {
    /// `s3://bucket/prefix`, `file:///directory`.
    pub uri: String,
    /// How the store is reached.
    pub options: BTreeMap<String, String>,
    /// Access keys, if they are given outright; the masters do not keep them.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for BackupTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupTarget").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the backup.
    pub total: u64,
    /// Bytes that were sent.
    pub sent: u64,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupMade {
    /// Its name.
    pub id: String,
    /// The cluster that it is of.
    pub cluster: String,
    /// When it was made.
    pub created: TimestampMs,
    /// The last entry of the log that it has.
    pub index: u64,
    /// Files and directories of its namespace.
    pub inodes: u64,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the target did not have.
    pub sent_files: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Older backups that were taken away.
    pub removed_backups: u64,
}

impl From<v1::BackupMade> for BackupMade {
    fn from(made: v1::BackupMade) -> BackupMade {
        BackupMade {
            id: made.id,
            cluster: made.cluster,
            created: TimestampMs(made.created_ms),
            index: made.index,
            inodes: made.inodes,
            files: made.files,
            bytes: made.bytes,
            sent_files: made.sent_files,
            sent_bytes: made.sent_bytes,
            removed_backups: made.removed_backups,
        }
    }
}

/// How the backups of a cluster go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupStatus {
    /// Where the scheduled ones go; empty if there is no schedule.
    pub to: String,
    /// Milliseconds between two.
    pub every_ms: u64,
    /// How many stay; 0: all.
    pub keep: u32,
    /// One is being made.
    pub running: bool,
    /// The newest that is known; empty: none.
    pub last: String,
    /// When it was made.
    pub last_made: TimestampMs,
    /// When the next one is due; 0: not known.
    pub next: TimestampMs,
    /// How many have failed since.
    pub failures: u32,
    /// Why the last one was not made.
    pub failure: String,
}

impl From<v1::BackupStatus> for BackupStatus {
    fn from(status: v1::BackupStatus) -> BackupStatus {
        BackupStatus {
            to: status.to,
            every_ms: status.every_ms,
            keep: status.keep,
            running: status.running,
            last: status.last,
            last_made: TimestampMs(status.last_ms),
            next: TimestampMs(status.next_ms),
            failures: status.failures,
            failure: status.failure,
        }
    }
}
