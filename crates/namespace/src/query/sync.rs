//! What guards the comparison with a store.

use super::{Result, resolve};
use crate::keys;
use crate::record::Blockers;
use forebay_base::{InodeId, MountId, NsPath};
use forebay_metastore::Read;

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
    let resolved = resolve(read, directory)?;
    let inode = &resolved.deepest().inode;
    Ok(inode.is_directory().then_some(SyncBase { inode: inode.inode_id(), generation: inode.generation }))
}

/// What blocks a key of a mount: objects at or above it are being deleted or renamed. None: it may be loaded and created.
pub fn blockers(read: &dyn Read, mount: MountId, key: &[u8]) -> Result<Option<Blockers>> {
    keys::blocker::at_or_above(read, mount.0, key)
}
