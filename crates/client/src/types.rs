//! What calls take and return.

mod backup;
mod cluster;
mod entry;
mod masters;
mod masters_seen;
mod mount;
mod options;

pub use backup::{BackupMade, BackupProgress, BackupStatus, BackupTarget};
pub use cluster::{
    CachedRange, ClusterStatus, LoadProgress, Location, MasterStatus, TierStatus, WorkerInfo, WorkerStatus,
};
pub(crate) use entry::bad_reply;
pub use entry::{ContentSummary, Entry, EntryKind, Xattr};
pub use masters::{MasterGroup, MasterMember, MasterSnapshot};
pub use masters_seen::{MasterAnswer, MasterSeen, MastersSeen};
pub use mount::{AddedMount, Mount, MountChanges, MountSpec};
pub use options::{
    AttributeChanges, CreateOptions, DeleteOptions, ListOptions, MakeDirectoryOptions, OpenOptions, ReadType,
    RenameOptions, StatOptions, SyncMode, WriteType,
};
