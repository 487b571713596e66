//! Deletes a file or directory.

use crate::machine::{Stop, Tx};
use crate::query::Step;
use crate::reply::{Deleted, Payload, Reason, Refusal};
use crate::tree::{self, Entries, Purge, Site};
use bytes::Bytes;
use forebay_base::ErrorKind;

/// Deletes a file or directory: one step into the trash, however much lies below. Mount points, and directories with one below, are refused.
/// Reply: [`crate::reply::Payload::Deleted`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Delete {
    /// What, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Without it a directory must be empty.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Forget the metadata and leave the store alone.
    #[prost(bool, tag = "3")]
    pub namespace_only: bool,
    /// When not 0: only this inode; another at the path, or one that is being written, is a conflict.
    #[prost(uint64, tag = "4")]
    pub expected_inode: u64,
    /// The version that the expected inode must have; 0 for a directory.
    #[prost(uint64, tag = "5")]
    pub expected_version: u64,
}

impl Delete {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let site = Site::find(tx, &self.path)?;
        let step = site.existing()?;
        self.check(tx, &site, step)?;
        let discarded = tree::discard(tx, step, site.mount_number(), &site.key, self.purge(&site))?;
        let mut parent = site.parent().clone();
        if self.namespace_only && site.mount.is_some() {
            // The store has it still: it is loaded again when asked for.
            parent.inode.set_loaded(false);
        }
        tree::touch(tx, &parent, Entries::Removed);
        Ok(Payload::Deleted(Deleted {
            trash: discarded.trash,
            directory: step.inode.is_directory(),
            abandoned: discarded.abandoned,
        }))
    }

    fn purge(&self, site: &Site) -> Purge {
        match (self.namespace_only || site.mount.is_none(), self.expected_inode) {
            (true, _) => Purge::Nothing,
            (false, 0) => Purge::AsItWas,
            (false, _) => Purge::KnownVersion,
        }
    }

    fn check(&self, tx: &Tx, site: &Site, step: &Step) -> Result<(), Stop> {
        if site.path.is_root() {
            return Err(Refusal::new(ErrorKind::InvalidArgument, "the root directory cannot be deleted").into());
        }
        self.check_expected(site, step)?;
        tree::check_no_mount_at_or_below(tx, &site.path)?;
        if !self.namespace_only {
            tree::check_writable(site)?;
        }
        tree::check_no_blocker(tx, site)?;
        tree::check_no_rename_at_or_below(tx, site)?;
        match step.inode.is_directory() && !self.recursive {
            true => tree::check_empty(tx, &site.path, &step.inode),
            false => Ok(()),
        }
    }

    fn check_expected(&self, site: &Site, step: &Step) -> Result<(), Refusal> {
        let inode = &step.inode;
        if self.expected_inode == 0 {
            return Ok(());
        }
        if (inode.id, inode.version) != (self.expected_inode, self.expected_version) {
            let message = format!("{} is not the version any more that was to be deleted", site.path);
            return Err(Refusal::new(ErrorKind::Conflict, message));
        }
        match inode.write {
            0 => Ok(()),
            _ => Err(Refusal::new(ErrorKind::Conflict, format!("{} is being written", site.path))
                .because(Reason::BeingWritten)),
        }
    }
}
