//! Changes attributes of files and directories.

use crate::keys::{self, directory::Top};
use crate::machine::{Stop, Tx};
use crate::query::{self, Step};
use crate::record::{Inode, Xattr};
use crate::reply::{Done, InodeReply, Payload, Refusal};
use crate::tree::{self, Site};
use bytes::Bytes;
use forebay_base::InodeId;

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
        if self.path.is_empty() {
            for target in &self.targets {
                self.apply_to_target(tx, target)?;
            }
            return Ok(Payload::Done(Done {}));
        }
        let site = Site::find(tx, &self.path)?;
        let step = site.existing()?;
        tree::check_writable(&site)?;
        Ok(Payload::Inode(InodeReply {
            inode: self.changes.apply_to(tx, step)?,
            mount: site.mount_number(),
            replaced_version: 0,
        }))
    }

    fn apply_to_target(&self, tx: &mut Tx, target: &Target) -> Result<(), Stop> {
        let parent = InodeId(target.parent);
        let found = query::lookup(&tx.pending, parent, &target.name)?;
        let Some(inode) = found.filter(|inode| inode.id == target.inode) else {
            return Ok(());
        };
        if !is_writable(tx, &inode, target.parent)? {
            return Ok(());
        }
        let step = Step { parent, name: target.name.clone(), inode };
        self.changes.apply_to(tx, &step)?;
        Ok(())
    }
}

/// Whether an inode lies in the tree (not in the trash), and not below a read-only mount.
fn is_writable(tx: &Tx, inode: &Inode, parent: u64) -> Result<bool, Stop> {
    let (directories, top) = keys::directory::chain(&tx.pending, parent)?;
    if top != Top::Root {
        return Ok(false);
    }
    let nearest = [inode.id].into_iter().chain(directories.iter().map(|(id, _)| *id)).find_map(|id| {
        let mut mounts = tx.mounts.values();
        mounts.find(|mount| mount.inode == id)
    });
    Ok(nearest.is_none_or(|mount| !mount.spec.read_only))
}

impl AttributeChanges {
    fn check(&self) -> Result<(), Refusal> {
        let owner = self.owner.as_deref().unwrap_or_default();
        let group = self.group.as_deref().unwrap_or_default();
        tree::check_attributes(owner, group, self.mode.unwrap_or_default())
    }

    /// Changes an inode and stores it.
    fn apply_to(&self, tx: &mut Tx, step: &Step) -> Result<Inode, Stop> {
        let mut inode = step.inode.clone();
        if let Some(owner) = &self.owner {
            inode.owner.clone_from(owner);
        }
        if let Some(group) = &self.group {
            inode.group.clone_from(group);
        }
        if let Some(mode) = self.mode {
            inode.set_mode(mode);
        }
        let accessed_ms = self.accessed_ms.unwrap_or(inode.accessed_ms());
        let modified_ms = self.modified_ms.unwrap_or(inode.modified_ms);
        inode.set_times(modified_ms, accessed_ms, tx.now_ms());
        self.change_xattrs(&mut inode.xattrs);
        tree::check_xattrs(&inode.xattrs)?;
        keys::inode::put(&mut tx.pending, step.parent.0, &step.name, &inode);
        Ok(inode)
    }

    fn change_xattrs(&self, xattrs: &mut Vec<Xattr>) {
        xattrs.retain(|xattr| !self.remove_xattrs.contains(&xattr.name));
        for new in &self.set_xattrs {
            match xattrs.binary_search_by(|xattr| xattr.name.cmp(&new.name)) {
                Ok(at) => xattrs[at] = new.clone(),
                Err(at) => xattrs.insert(at, new.clone()),
            }
        }
    }
}
