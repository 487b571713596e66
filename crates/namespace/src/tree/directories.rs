//! Making directories, and what a change of its entries does to a directory.

use super::Site;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query::Step;
use crate::record::{Inode, Kind};
use crate::reply::Refusal;
use bytes::Bytes;
use forebay_base::{ErrorKind, InodeId, NsPath};

/// Owner, group and mode of what is made.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) owner: &'a str,
    pub(crate) group: &'a str,
    /// None: the usual one of the kind.
    pub(crate) mode: Option<u32>,
}

impl Attributes<'_> {
    /// A new inode with these attributes.
    pub(crate) fn inode(&self, tx: &mut Tx, kind: Kind) -> Inode {
        let mut inode = Inode::new(tx.new_inode_number(), kind, tx.now_ms());
        inode.owner = self.owner.to_owned();
        inode.group = self.group.to_owned();
        if let Some(mode) = self.mode {
            inode.set_mode(mode);
        }
        inode
    }
}

/// Makes those directories of a path that are missing but the last `but` names, and gives the last one made, or the deepest that
/// existed. The existing one gets its new times; the last name of the path counts as loaded when `loaded`, and all do when there is no store to load
/// from. That the store has nothing at the last name says nothing of what else it has in the directories on the way.
pub(crate) fn make_directories(tx: &mut Tx, site: &Site, but: usize, attributes: Attributes<'_>, loaded: bool) -> Step {
    let deepest = site.resolved.deepest();
    let missing = site.resolved.missing;
    if missing <= but {
        return deepest.clone();
    }
    touch(tx, deepest, Entries::Added);
    let names: Vec<Bytes> = site.path.names().map(|name| name.to_bytes()).collect();
    let first = names.len() - missing;
    let mut at = deepest.clone();
    for (at_name, name) in names.iter().enumerate().take(names.len() - but).skip(first) {
        let mut inode = attributes.inode(tx, Kind::Directory);
        let is_last = at_name + 1 == names.len();
        inode.set_loaded(loaded && is_last || site.mount.is_none());
        inode.set_made();
        let parent = at.inode.id;
        keys::inode::put(&mut tx.pending, parent, name, &inode);
        keys::directory::put(&mut tx.pending, inode.id, parent, name);
        at = Step { parent: InodeId(parent), name: name.clone(), inode };
    }
    at
}

/// How the entries of a directory changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entries {
    /// One came.
    Added,
    /// One went, by a user's doing: listings of the store from before are stale.
    Removed,
}

/// Gives a directory whose entries changed its new times and generation, and gives it back as it is now.
pub(crate) fn touch(tx: &mut Tx, directory: &Step, entries: Entries) -> Inode {
    let mut inode = directory.inode.clone();
    let now_ms = tx.now_ms();
    inode.set_times(now_ms, inode.accessed_ms(), now_ms);
    if entries == Entries::Removed {
        inode.generation += 1;
    }
    keys::inode::put(&mut tx.pending, directory.parent.0, &directory.name, &inode);
    inode
}

/// Refuses a directory that has entries, or may have some that are not loaded.
pub(crate) fn check_empty(tx: &Tx, path: &NsPath, directory: &Inode) -> Result<(), Stop> {
    if !keys::inode::is_empty(&tx.pending, directory.id)? {
        return Err(not_empty(path).into());
    }
    if !directory.is_loaded() {
        let message = format!("whether {path} is empty is not known: its entries have not been loaded from the store");
        return Err(Refusal::new(ErrorKind::Conflict, message).hint("list it, then try again").into());
    }
    Ok(())
}

/// The refusal of a directory that must be empty.
pub(crate) fn not_empty(path: &NsPath) -> Refusal {
    Refusal::new(ErrorKind::NotEmpty, format!("{path} is not empty"))
}
