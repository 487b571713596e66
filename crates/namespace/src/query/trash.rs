//! What was deleted and is not purged yet.

use super::{Result, Step, Walk, join_key};
use crate::record::{Blockers, TrashEntry};
use crate::{Inode, TRASH, keys};
use bytes::Bytes;
use forebay_base::{InodeId, MountId};
use forebay_metastore::Read;

/// Trash entries with numbers greater than `after` (0: from the first), at most `limit`.
pub fn trash(read: &dyn Read, after: u64, limit: usize) -> Result<Vec<TrashEntry>> {
    let from = after.saturating_add(1);
    keys::trash::scan(read, from).take(limit).collect()
}

/// The trash entries of a mount whose objects are to be deleted, by their keys in its store: those of the keys after `after`, of about `limit` keys.
pub fn trash_of_mount(read: &dyn Read, mount: MountId, after: Option<&[u8]>, limit: usize) -> Result<Vec<TrashEntry>> {
    let mut entries = Vec::new();
    for blocked in keys::blocker::scan(read, mount.0, after).filter(holds_trash).take(limit) {
        for id in blocked?.1.trash {
            entries.extend(keys::trash::get(read, id)?);
        }
    }
    Ok(entries)
}

/// Whether something below a key of a mount lies in the trash by itself: it was deleted before what lay above it.
pub fn trash_below(read: &dyn Read, mount: MountId, key: &[u8]) -> Result<bool> {
    let below = [key, b"/"].concat();
    match keys::blocker::scan(read, mount.0, Some(&below)).take_while(|row| starts_with(row, &below)).find(holds_trash)
    {
        None => Ok(false),
        Some(row) => row.map(|_| true),
    }
}

fn starts_with(blocked: &Result<(Bytes, Blockers)>, prefix: &[u8]) -> bool {
    blocked.as_ref().map_or(true, |(key, _)| key.starts_with(prefix))
}

fn holds_trash(blocked: &Result<(Bytes, Blockers)>) -> bool {
    blocked.as_ref().map_or(true, |(_, blockers)| !blockers.trash.is_empty())
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
    let Some(entry) = keys::trash::get(read, trash)? else {
        return Ok(Vec::new());
    };
    let name = trash.to_be_bytes();
    let Some(top) = keys::inode::get(read, TRASH.0, &name)? else {
        return Ok(Vec::new());
    };
    let mut page = Vec::new();
    if top.is_directory() {
        let mut walk = Walk::post_order(read, top.inode_id());
        while page.len() < limit {
            let Some(walked) = walk.next() else { break };
            page.push(trashed(&entry, &walk, walked?.step));
        }
    }
    if page.len() < limit {
        page.push(Trashed { parent: TRASH, name: Bytes::copy_from_slice(&name), inode: top, key: entry.key });
    }
    Ok(page)
}

/// `walk` stands in the directory of `step`: a directory is given after its entries, when its own level is left.
fn trashed(entry: &TrashEntry, walk: &Walk<'_>, step: Step) -> Trashed {
    let directory = match walk.path() {
        b"" => entry.key.clone(),
        path => join_key(&entry.key, path),
    };
    Trashed { key: join_key(&directory, &step.name), parent: step.parent, name: step.name, inode: step.inode }
}
