//! Takes deleted inodes out of the trash for good.

use crate::TRASH;
use crate::keys::{self, directory::Top};
use crate::machine::{Stop, Tx};
use crate::query;
use crate::record::{Blocker, Inode, TrashEntry};
use crate::reply::{Payload, Purged};
use crate::tree;
use bytes::Bytes;
use forebay_base::InodeId;
use std::collections::HashSet;

/// One inode in the trash.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TrashedName {
    /// Its directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Its name there.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Takes inodes for good that lie in the trash and have no entries, in the order given: children before their directory, as [`crate::query::trash_page`] gives
/// them. Others are left alone. With the entry's own inode the entry ends. At most [`crate::BATCH_MAX`] at once. Reply: [`crate::reply::Payload::Purged`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PurgeTrash {
    /// Which trash entry.
    #[prost(uint64, tag = "1")]
    pub trash: u64,
    /// What to take.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<TrashedName>,
}

impl PurgeTrash {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.entries.len())?;
        let Some(entry) = keys::trash::get(&tx.pending, self.trash)? else {
            return Ok(Payload::Purged(Purged { removed: 0, done: true }));
        };
        let mut purge = Purge { entry, inside: HashSet::new(), purged: Purged::default() };
        for at in &self.entries {
            purge.remove(tx, at)?;
        }
        Ok(Payload::Purged(purge.purged))
    }
}

struct Purge {
    entry: TrashEntry,
    /// Directories known to lie in the entry.
    inside: HashSet<u64>,
    purged: Purged,
}

impl Purge {
    fn remove(&mut self, tx: &mut Tx, at: &TrashedName) -> Result<(), Stop> {
        let Some(inode) = query::lookup(&tx.pending, InodeId(at.parent), &at.name)? else {
            return Ok(());
        };
        let is_top = at.parent == TRASH.0 && inode.id == self.entry.id;
        if !is_top && !self.holds(tx, at.parent)? {
            return Ok(());
        }
        if inode.is_directory() && !keys::inode::is_empty(&tx.pending, inode.id)? {
            return Ok(());
        }
        remove_inode(tx, at, &inode)?;
        self.purged.removed += 1;
        if is_top {
            self.end(tx)?;
        }
        Ok(())
    }

    /// Whether a directory lies in the trash entry.
    fn holds(&mut self, tx: &Tx, directory: u64) -> Result<bool, Stop> {
        if self.inside.contains(&directory) {
            return Ok(true);
        }
        if directory == TRASH.0 {
            return Ok(false);
        }
        let (chain, top) = keys::directory::chain(&tx.pending, directory)?;
        let inside = top == Top::Trash(self.entry.id);
        if inside {
            // Purging goes up: the directories above come next.
            self.inside.extend(chain.iter().map(|(id, _)| id));
        }
        Ok(inside)
    }

    /// The entry is purged: its key is free again, for listings that begin from now on.
    fn end(&mut self, tx: &mut Tx) -> Result<(), Stop> {
        let entry = &self.entry;
        keys::trash::delete(&mut tx.pending, entry.id);
        tx.state.counters.trash_entries -= 1;
        if entry.purge_store {
            let blocker = Blocker::Trash(entry.id);
            let freed = keys::blocker::remove(&mut tx.pending, entry.mount, &entry.key, blocker)?;
            tx.state.counters.blocked_keys -= freed;
            tree::bump_generation_of_key(tx, entry.mount, &entry.key)?;
        }
        self.purged.done = true;
        Ok(())
    }
}

fn remove_inode(tx: &mut Tx, at: &TrashedName, inode: &Inode) -> Result<(), Stop> {
    if inode.write != 0 {
        tree::release_write(tx, inode.write)?;
    }
    keys::inode::delete(&mut tx.pending, at.parent, &at.name);
    if inode.is_directory() {
        keys::directory::delete(&mut tx.pending, inode.id);
    }
    tx.state.counters.inodes -= 1;
    Ok(())
}
