//! Taking things out of the tree.

use super::{parse_path, release_write};
use crate::TRASH;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query::{self, Step};
use crate::record::{Blocker, TrashEntry, Write};

/// What became of something taken out of the tree.
pub(crate) struct Discarded {
    /// The trash entry; 0 when nothing is left to be done.
    pub(crate) trash: u64,
    /// The write of the file that was given up.
    pub(crate) abandoned: Option<Write>,
}

/// What happens in the store to something taken out of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purge {
    /// Nothing.
    Nothing,
    /// What was there at the time is deleted, also what nobody had looked at yet.
    AsItWas,
    /// The known version is deleted and nothing else.
    KnownVersion,
}

/// Takes a file or directory out of the tree in one step. When its objects, at `key` of `mount`, are to be deleted, the
/// key is blocked until they are. What has nothing below and nothing in a store is gone at once.
pub(crate) fn discard(tx: &mut Tx, step: &Step, mount: u32, key: &[u8], purge: Purge) -> Result<Discarded, Stop> {
    let purge_store = purge != Purge::Nothing;
    let mut inode = step.inode.clone();
    let abandoned = match inode.write {
        0 => None,
        write => release_write(tx, write)?,
    };
    let was_being_written = std::mem::take(&mut inode.write) != 0;
    keys::inode::delete(&mut tx.pending, step.parent.0, &step.name);
    if !purge_store && !inode.is_directory() {
        tx.state.counters.inodes -= 1;
        return Ok(Discarded { trash: 0, abandoned });
    }
    let name = inode.id.to_be_bytes();
    keys::inode::put(&mut tx.pending, TRASH.0, &name, &inode);
    if inode.is_directory() {
        keys::directory::put(&mut tx.pending, inode.id, TRASH.0, &name);
    }
    let entry = TrashEntry {
        id: inode.id,
        mount,
        key: bytes::Bytes::copy_from_slice(key),
        purge_store,
        deleted_ms: tx.now_ms(),
        was_being_written,
        only_version: purge == Purge::KnownVersion,
        purged_to: None,
    };
    keys::trash::put(&mut tx.pending, &entry);
    tx.state.counters.trash_entries += 1;
    if purge_store {
        let blocker = Blocker::Trash(entry.id);
        tx.state.counters.blocked_keys += keys::blocker::add(&mut tx.pending, mount, key, blocker)?;
    }
    Ok(Discarded { trash: entry.id, abandoned })
}

/// Makes listings of a store from before stale on the way to a key: in the deepest directory of it that exists now.
pub(crate) fn bump_generation_of_key(tx: &mut Tx, mount: u32, key: &[u8]) -> Result<(), Stop> {
    let Some(mount) = tx.mounts.get(&mount) else {
        return Ok(());
    };
    let path = [&mount.path[..], b"/", key].concat();
    let Some(parent) = parse_path(&path.into())?.parent() else {
        return Ok(());
    };
    let resolved = query::resolve(&tx.pending, &parent)?;
    let deepest = resolved.steps.iter().rev().find(|step| step.inode.is_directory());
    if let Some(directory) = deepest {
        let mut inode = directory.inode.clone();
        inode.generation += 1;
        keys::inode::put(&mut tx.pending, directory.parent.0, &directory.name, &inode);
    }
    Ok(())
}
