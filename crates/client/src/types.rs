//! What calls take and return.

mod cluster;
mod entry;
mod mount;
mod options;

pub use cluster::{
    CachedRange, ClusterStatus, LoadProgress, Location, MasterStatus, TierStatus, WorkerInfo, WorkerStatus,
};
pub(crate) use entry::bad_reply;
pub use entry::{ContentSummary, Entry, EntryKind, Xattr};
pub use mount::{Mount, MountChanges, MountSpec};
pub use options::{
    AttributeChanges, CreateOptions, DeleteOptions, ListOptions, MakeDirectoryOptions, OpenOptions, RenameOptions,
    StatOptions, SyncMode, WriteType,
};
