//! Changes attributes of files and directories.

use crate::keys::{self, directory::Top};
use crate::machine::{Stop, Tx};
use crate::query::{self, Step};
use crate::record::{Inode, Xattr};
use crate::reply::{Done, InodeReply, Payload, Refusal};
use crate::tree::{self, Site};
use bytes::Bytes;
use forebay_base::InodeId;
use std::collections::HashMap;

/// A file or directory by its place.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Target {
    /// Its directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Its name there.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// What it must be, else it is left alone.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
}

/// What to change; what is not given stays.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AttributeChanges {
    /// The new owner.
    #[prost(string, optional, tag = "1")]
    pub owner: Option<String>,
    /// The new group.
    #[prost(string, optional, tag = "2")]
    pub group: Option<String>,
    /// The new permission bits.
    #[prost(uint32, optional, tag = "3")]
    pub mode: Option<u32>,
    /// The new modification time.
    #[prost(uint64, optional, tag = "4")]
    pub modified_ms: Option<u64>,
    /// The new access time.
    #[prost(uint64, optional, tag = "5")]
    pub accessed_ms: Option<u64>,
    /// Extended attributes to set.
    #[prost(message, repeated, tag = "6")]
    pub set_xattrs: Vec<crate::record::Xattr>,
    /// Extended attributes to take away; no error when one is not there.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub remove_xattrs: Vec<Bytes>,
}

/// Changes attributes of one path, or of a batch of inodes (a part of a recursive change), at most [`crate::BATCH_MAX`].
/// Reply: [`crate::reply::Payload::Inode`] for a path, [`crate::reply::Payload::Done`] for a batch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetAttributes {
    /// Whose, in normal form; empty when there are `targets`.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Whose, in a batch.
    #[prost(message, repeated, tag = "2")]
    pub targets: Vec<Target>,
    /// What.
    #[prost(message, required, tag = "3")]
    pub changes: AttributeChanges,
}

impl SetAttributes {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.targets.len())?;
        self.changes.check()?;
        let changes = Prepared::new(&self.changes);
        if self.path.is_empty() {
            let mut guard = Guard::new(tx);
            for target in &self.targets {
                apply_to_target(tx, &mut guard, &changes, target)?;
            }
            return Ok(Payload::Done(Done {}));
        }
        let site = Site::find(tx, &self.path)?;
        let step = site.existing()?;
        tree::check_writable(&site)?;
        Ok(Payload::Inode(InodeReply {
            inode: changes.apply_to(tx, step)?,
            mount: site.mount_number(),
            replaced_version: 0,
        }))
    }
}

fn apply_to_target(tx: &mut Tx, guard: &mut Guard, changes: &Prepared<'_>, target: &Target) -> Result<(), Stop> {
    let parent = InodeId(target.parent);
    let found = query::lookup(&tx.pending, parent, &target.name)?;
    let Some(inode) = found.filter(|inode| inode.id == target.inode) else {
        return Ok(());
    };
    if !guard.is_writable(tx, &inode, target.parent)? {
        return Ok(());
    }
    let step = Step { parent, name: target.name.clone(), inode };
    changes.apply_to(tx, &step)?;
    Ok(())
}

/// Tells which targets of a batch may be changed. The answer for a directory is kept: most targets of a batch share theirs.
struct Guard {
    /// Whether a mount is read-only, by its inode.
    read_only: HashMap<u64, bool>,
    /// Whether the nearest mount of what lies in a directory is read-only; none for directories that are not in the tree.
    directories: HashMap<u64, Option<bool>>,
}

impl Guard {
    fn new(tx: &Tx) -> Guard {
        let read_only = tx.mounts.values().map(|mount| (mount.inode, mount.spec.read_only)).collect();
        Guard { read_only, directories: HashMap::new() }
    }

    /// Whether an inode lies in the tree (not in the trash), and not in a read-only mount.
    fn is_writable(&mut self, tx: &Tx, inode: &Inode, parent: u64) -> Result<bool, Stop> {
        let Some(above) = self.is_read_only(tx, parent)? else {
            return Ok(false);
        };
        Ok(!self.read_only.get(&inode.id).copied().unwrap_or(above))
    }

    fn is_read_only(&mut self, tx: &Tx, directory: u64) -> Result<Option<bool>, Stop> {
        if let Some(known) = self.directories.get(&directory) {
            return Ok(*known);
        }
        let (chain, top) = keys::directory::chain(&tx.pending, directory)?;
        let nearest = chain.iter().find_map(|(id, _)| self.read_only.get(id).copied());
        let found = (top == Top::Root).then(|| nearest.unwrap_or(false));
        self.directories.insert(directory, found);
        Ok(found)
    }
}

impl AttributeChanges {
    /// Refuses what no inode can have. Whoever proposes a command checks it first: nothing larger shall come into the log.
    pub fn check(&self) -> Result<(), Refusal> {
        let owner = self.owner.as_deref().unwrap_or_default();
        let group = self.group.as_deref().unwrap_or_default();
        tree::check_attributes(owner, group, self.mode.unwrap_or_default())?;
        tree::check_xattrs(&self.set_xattrs)?;
        tree::check_xattr_names(&self.remove_xattrs)
    }
}

/// Changes with their extended attributes in order, for many inodes.
struct Prepared<'a> {
    changes: &'a AttributeChanges,
    /// By name, each once: the last one given.
    set: Vec<&'a Xattr>,
    /// In order.
    remove: Vec<&'a Bytes>,
}

impl<'a> Prepared<'a> {
    fn new(changes: &'a AttributeChanges) -> Prepared<'a> {
        let mut set: Vec<&Xattr> = changes.set_xattrs.iter().rev().collect();
        set.sort_by(|a, b| a.name.cmp(&b.name));
        set.dedup_by(|later, first| later.name == first.name);
        let mut remove: Vec<&Bytes> = changes.remove_xattrs.iter().collect();
        remove.sort();
        Prepared { changes, set, remove }
    }

    /// Changes an inode and stores it.
    fn apply_to(&self, tx: &mut Tx, step: &Step) -> Result<Inode, Stop> {
        let mut inode = step.inode.clone();
        if let Some(owner) = &self.changes.owner {
            inode.owner.clone_from(owner);
        }
        if let Some(group) = &self.changes.group {
            inode.group.clone_from(group);
        }
        if let Some(mode) = self.changes.mode {
            inode.set_mode(mode);
        }
        let accessed_ms = self.changes.accessed_ms.unwrap_or(inode.accessed_ms());
        let modified_ms = self.changes.modified_ms.unwrap_or(inode.modified_ms);
        inode.set_times(modified_ms, accessed_ms, tx.now_ms());
        self.change_xattrs(&mut inode.xattrs);
        tree::check_xattrs(&inode.xattrs)?;
        keys::inode::put(&mut tx.pending, step.parent.0, &step.name, &inode);
        Ok(inode)
    }

    fn change_xattrs(&self, xattrs: &mut Vec<Xattr>) {
        let goes = |name: &Bytes| {
            self.remove.binary_search(&name).is_ok() || self.set.binary_search_by(|new| new.name.cmp(name)).is_ok()
        };
        xattrs.retain(|xattr| !goes(&xattr.name));
        xattrs.extend(self.set.iter().copied().cloned());
        // Two runs in order: sorting merges them.
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    }
}
