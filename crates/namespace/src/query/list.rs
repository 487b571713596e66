//! The entries of one directory.

use super::Result;
use crate::{ApplyError, Inode, keys};
use forebay_base::{InodeId, Name};
use forebay_metastore::Read;

/// An entry of a directory.
pub type Entry = (Name, Inode);

/// Entries of a directory in the order of their names' bytes, after `start_after` (empty: from the first), at most `limit`.
pub fn list(read: &dyn Read, directory: InodeId, start_after: &[u8], limit: usize) -> Result<Vec<Entry>> {
    keys::inode::entries(read, directory.0, start_after)
        .take(limit)
        .map(|entry| {
            let (name, inode) = entry?;
            let name = Name::new(name).map_err(|error| ApplyError::Corrupt(error.to_string()))?;
            Ok((name, inode))
        })
        .collect()
}

/// The entry `name` of a directory.
pub fn lookup(read: &dyn Read, directory: InodeId, name: &[u8]) -> Result<Option<Inode>> {
    keys::inode::get(read, directory.0, name)
}
