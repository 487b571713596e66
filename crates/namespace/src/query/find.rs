//! From the number of an inode to where it lies.

use super::{Result, Step};
use crate::keys;
use forebay_base::InodeId;
use forebay_metastore::Read;

/// The inode of a number. A directory is found at once; of files no index is kept: all entries are read until it comes.
pub fn find(read: &dyn Read, id: InodeId) -> Result<Option<Step>> {
    let step = |parent: u64, name, inode| Step { parent: InodeId(parent), name, inode };
    if let Some((parent, name)) = keys::directory::get(read, id.0)? {
        let inode = keys::inode::get(read, parent, &name)?;
        return Ok(inode.map(|inode| step(parent, name, inode)));
    }
    for row in keys::inode::all(read) {
        let (parent, name, inode) = row?;
        if inode.id == id.0 {
            return Ok(Some(step(parent, name, inode)));
        }
    }
    Ok(None)
}
