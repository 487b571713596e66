//! From a path to inodes, and back.

use super::{Result, lookup};
use crate::keys::{self, directory::Top};
use crate::{ApplyError, Inode};
use bytes::Bytes;
use forebay_base::{InodeId, MountId, Name, NsPath};
use forebay_metastore::Read;

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
        let mount = self.steps.iter().rev().find(|step| step.inode.is_mount_point());
        mount.map(|step| MountId(step.inode.mount))
    }
}

/// Walks a path from the root as far as it exists.
pub fn resolve(read: &dyn Read, path: &NsPath) -> Result<Resolved> {
    let root = keys::inode::get(read, 0, b"")?
        .ok_or_else(|| ApplyError::Corrupt("the root directory is missing".to_owned()))?;
    let mut at = InodeId::ROOT;
    let mut steps = Vec::with_capacity(8);
    steps.push(Step { parent: InodeId(0), name: Bytes::new(), inode: root });
    let mut names = path.names();
    for name in names.by_ref() {
        // A file has no entries: its number is no directory's, so nothing is found below it.
        let Some(inode) = lookup(read, at, name.as_bytes())? else {
            let missing = 1 + names.count();
            return Ok(Resolved { steps, missing });
        };
        let next = inode.inode_id();
        steps.push(Step { parent: at, name: name.to_bytes(), inode });
        at = next;
    }
    Ok(Resolved { steps, missing: 0 })
}

/// The path of the entry `name` of a directory; none when the directory is gone, lies in the trash, or lies so deep that its path
/// is longer than a path may be.
pub fn path_of(read: &dyn Read, directory: InodeId, name: &[u8]) -> Result<Option<NsPath>> {
    let (directories, top) = keys::directory::chain(read, directory.0)?;
    if top != Top::Root {
        return Ok(None);
    }
    let mut path = NsPath::root();
    let names = directories.iter().rev().map(|(_, (_, name))| name.clone());
    for name in names.chain([Bytes::copy_from_slice(name)]) {
        let Ok(longer) = Name::new(name).and_then(|name| path.join(&name)) else {
            return Ok(None);
        };
        path = longer;
    }
    Ok(Some(path))
}
