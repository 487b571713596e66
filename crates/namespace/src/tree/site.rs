//! A path of a command, and what is there.

use crate::machine::{Stop, Tx};
use crate::query::{self, Resolved, Step};
use crate::record::Mount;
use crate::reply::Refusal;
use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};
use std::sync::Arc;

/// A path, how far it exists, and the mount that governs it.
pub(crate) struct Site {
    pub(crate) path: NsPath,
    pub(crate) resolved: Resolved,
    /// The mount that the path lies in, or would.
    pub(crate) mount: Option<Arc<Mount>>,
    /// The path's key in that mount's store; the path without its first slash when there is no mount.
    pub(crate) key: Bytes,
}

impl Site {
    /// Looks a path up.
    pub(crate) fn find(tx: &Tx, path: &Bytes) -> Result<Site, Stop> {
        let path = parse_path(path)?;
        let resolved = query::resolve(&tx.pending, &path)?;
        let mount = resolved.mount().and_then(|mount| tx.mounts.get(&mount.0).cloned());
        let key = match &mount {
            Some(mount) => query::key_in(mount, &path),
            None => path.to_bytes().slice(1..),
        };
        Ok(Site { path, resolved, mount, key })
    }

    /// The number of the mount; 0 when there is none.
    pub(crate) fn mount_number(&self) -> u32 {
        self.mount.as_ref().map_or(0, |mount| mount.id)
    }

    /// Whether the directory that holds the path lies in a mount.
    pub(crate) fn is_below_other_mount(&self) -> bool {
        let above = self.resolved.steps.len().saturating_sub(1);
        let mut steps = self.resolved.steps[..above].iter();
        steps.any(|step| step.inode.is_mount_point())
    }

    /// The inode of the path.
    pub(crate) fn found(&self) -> Option<&Step> {
        self.resolved.found()
    }

    /// The inode of the path, which must exist.
    pub(crate) fn existing(&self) -> Result<&Step, Refusal> {
        self.found().ok_or_else(|| self.missing_refusal())
    }

    /// The directory that holds the existing inode of the path; for the root, the root.
    pub(crate) fn parent(&self) -> &Step {
        let steps = &self.resolved.steps;
        &steps[steps.len().saturating_sub(2)]
    }

    /// The directory that the path would be made in when just its last name is missing.
    pub(crate) fn existing_parent(&self) -> Result<&Step, Refusal> {
        if self.resolved.missing > 1 {
            return Err(self.missing_refusal());
        }
        let parent = match self.resolved.missing {
            0 => self.parent(),
            _ => self.resolved.deepest(),
        };
        match parent.inode.is_directory() {
            true => Ok(parent),
            false => Err(self.not_a_directory()),
        }
    }

    /// Refuses a path that leads through a file.
    pub(crate) fn check_leads_through_directories(&self) -> Result<(), Refusal> {
        match self.resolved.missing > 0 && !self.resolved.deepest().inode.is_directory() {
            true => Err(self.not_a_directory()),
            false => Ok(()),
        }
    }

    /// Why nothing is there.
    fn missing_refusal(&self) -> Refusal {
        if let Err(refusal) = self.check_leads_through_directories() {
            return refusal;
        }
        Refusal::new(ErrorKind::NotFound, format!("{} does not exist", self.path))
    }

    fn not_a_directory(&self) -> Refusal {
        let message = format!("{}: a name on the way is a file, not a directory", self.path);
        Refusal::new(ErrorKind::NotADirectory, message)
    }

    /// The refusal of something that must not exist yet.
    pub(crate) fn already_exists(&self) -> Refusal {
        Refusal::new(ErrorKind::AlreadyExists, format!("{} exists already", self.path))
    }

    /// The refusal of a directory where a file was needed.
    pub(crate) fn is_a_directory(&self) -> Refusal {
        Refusal::new(ErrorKind::IsADirectory, format!("{} is a directory", self.path))
    }
}

/// The path in a command, checked again: the log is not the only place where a command can be wrong.
pub(crate) fn parse_path(path: &Bytes) -> Result<NsPath, Refusal> {
    NsPath::parse(path).map_err(|error| Refusal::new(ErrorKind::InvalidArgument, error.to_string()))
}
