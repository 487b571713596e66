//! Reading the namespace from any snapshot of its store: no locks, no changes.
//!
//! Take one snapshot for one request ([`forebay_metastore::Store::snapshot`]), ask it as often as needed, drop it.

use crate::record::{Blockers, Inode, Mount, RenameIntent, TrashEntry, Write};
use crate::{ApplyError, Request};
use bytes::Bytes;
use forebay_base::{InodeId, MountId, Name, NsPath};
use forebay_metastore::Read;

/// The result of a query.
pub type Result<T> = std::result::Result<T, ApplyError>;

/// One step of a path: an inode and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The directory that holds it; the root's is [`InodeId`] 0.
    pub parent: InodeId,
    /// Its name there; the root's is empty.
    pub name: Bytes,
    /// It.
    pub inode: Inode,
}

/// How far a path exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// From the root down to the deepest existing inode on the path. Never empty.
    pub steps: Vec<Step>,
    /// How many names of the path do not exist. When the last step is a file, the path leads through it.
    pub missing: usize,
}

impl Resolved {
    /// The inode of the whole path, if it exists.
    pub fn found(&self) -> Option<&Step> {
        self.steps.last().filter(|_| self.missing == 0)
    }

    /// The deepest inode that exists.
    pub fn deepest(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }

    /// The mount that the deepest inode lies in.
    pub fn mount(&self) -> Option<MountId> {
        let mount = self
            .steps
            .iter()
            .rev()
            .find(|step| step.inode.is_mount_point());
        mount.map(|step| MountId(step.inode.mount))
    }
}

/// Walks a path from the root as far as it exists.
pub fn resolve(read: &dyn Read, path: &NsPath) -> Result<Resolved> {
    let _ = (read, path);
    unimplemented!()
}

/// An entry of a directory.
pub type Entry = (Name, Inode);

/// Entries of a directory in the order of their names' bytes, after `start_after` (empty: from the first), at most `limit`.
pub fn list(
    read: &dyn Read,
    directory: InodeId,
    start_after: &[u8],
    limit: usize,
) -> Result<Vec<Entry>> {
    let _ = (read, directory, start_after, limit);
    unimplemented!()
}

/// The entry `name` of a directory.
pub fn lookup(read: &dyn Read, directory: InodeId, name: &[u8]) -> Result<Option<Inode>> {
    let _ = (read, directory, name);
    unimplemented!()
}

/// The path of the entry `name` of a directory; none when the directory is gone or lies in the trash.
pub fn path_of(read: &dyn Read, directory: InodeId, name: &[u8]) -> Result<Option<NsPath>> {
    let _ = (read, directory, name);
    unimplemented!()
}

/// Every mount, by number.
pub fn mounts(read: &dyn Read) -> Result<Vec<Mount>> {
    let _ = read;
    unimplemented!()
}

/// The mount that a path lies in, whether the path exists or not, and the key of the path in that mount's store (empty for the mount point).
pub fn mount_of(read: &dyn Read, path: &NsPath) -> Result<Option<(Mount, Bytes)>> {
    let _ = (read, path);
    unimplemented!()
}

/// What must not have changed for a listing of the store to be applied: see [`crate::command::SyncApply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncBase {
    /// The deepest directory that exists on the path.
    pub inode: InodeId,
    /// Its generation.
    pub generation: u64,
}

/// The base of a comparison of `directory` with its store; none when the path leads through a file.
pub fn sync_base(read: &dyn Read, directory: &NsPath) -> Result<Option<SyncBase>> {
    let _ = (read, directory);
    unimplemented!()
}

/// A write by its number, abandoned ones included.
pub fn write(read: &dyn Read, write: u64) -> Result<Option<Write>> {
    let _ = (read, write);
    unimplemented!()
}

/// Writes from number `from` on, at most `limit`; page on with the last number plus one.
pub fn writes(read: &dyn Read, from: u64, limit: usize) -> Result<Vec<Write>> {
    let _ = (read, from, limit);
    unimplemented!()
}

/// Writes whose lease has ended by `log_time_ms` and that are not abandoned yet, at most `limit`.
pub fn expired_writes(read: &dyn Read, log_time_ms: u64, limit: usize) -> Result<Vec<Write>> {
    let _ = (read, log_time_ms, limit);
    unimplemented!()
}

/// Abandoned writes whose upload is to be aborted in the store, then [`crate::command::ForgetWrites`]; at most `limit`.
pub fn abandoned_writes(read: &dyn Read, limit: usize) -> Result<Vec<Write>> {
    let _ = (read, limit);
    unimplemented!()
}

/// Writes going on at or below a key of a mount (empty key: in the whole mount), at most `limit`.
pub fn writes_below(
    read: &dyn Read,
    mount: MountId,
    key: &[u8],
    limit: usize,
) -> Result<Vec<Write>> {
    let _ = (read, mount, key, limit);
    unimplemented!()
}

/// What blocks a key of a mount: objects at or above it are being deleted or renamed. None: it may be loaded and created.
pub fn blockers(read: &dyn Read, mount: MountId, key: &[u8]) -> Result<Option<Blockers>> {
    let _ = (read, mount, key);
    unimplemented!()
}

/// Trash entries with numbers greater than `after` (0: from the first), at most `limit`.
pub fn trash(read: &dyn Read, after: u64, limit: usize) -> Result<Vec<TrashEntry>> {
    let _ = (read, after, limit);
    unimplemented!()
}

/// One inode of a trash entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// Its place, for [`crate::command::PurgeTrash`].
    pub parent: InodeId,
    /// Its name there.
    pub name: Bytes,
    /// It.
    pub inode: Inode,
    /// Its key in the store of the entry's mount.
    pub key: Bytes,
}

/// The first inodes of a trash entry in the order of purging, children before their directory: at most `limit`. The last
/// of all is the entry's own inode; nothing when the entry is gone. Memory is bounded by `limit` and the depth.
pub fn trash_page(read: &dyn Read, trash: u64, limit: usize) -> Result<Vec<Trashed>> {
    let _ = (read, trash, limit);
    unimplemented!()
}

/// Every rename in progress.
pub fn rename_intents(read: &dyn Read) -> Result<Vec<RenameIntent>> {
    let _ = read;
    unimplemented!()
}

/// What the state machine holds about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files and directories that are stored, the root and what lies in the trash included.
    pub inodes: u64,
    /// Trash entries: deleted files and whole subtrees that are not purged yet.
    pub trash_entries: u64,
    /// Writes, abandoned ones included.
    pub writes: u64,
    /// The greatest time that a command carried.
    pub log_time_ms: u64,
    /// See [`crate::command::SetClusterVersion`].
    pub cluster_version: u32,
}

/// What the state machine holds about itself.
pub fn summary(read: &dyn Read) -> Result<Summary> {
    let _ = read;
    unimplemented!()
}

/// The reply that a request got, if it was answered and the reply is not forgotten.
pub fn reply_of(read: &dyn Read, request: &Request) -> Result<Option<Bytes>> {
    let _ = (read, request);
    unimplemented!()
}

/// What lies in a subtree, its top counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSummary {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of the files.
    pub length: u64,
}
