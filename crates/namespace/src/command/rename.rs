//! Renames a file or directory.

use crate::Inode;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query::Step;
use crate::reply::Reason;
use crate::reply::{Payload, Refusal, Renamed};
use crate::tree::{self, Entries, Site};
use bytes::Bytes;
use forebay_base::ErrorKind;

/// Renames a file or directory by the rules of POSIX `rename(2)`, at once, however much lies below.
/// A mount point, a directory above one, and a file or directory with a write going on at or below it are refused, and so is leaving the mount.
/// Reply: [`crate::reply::Payload::Renamed`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Rename {
    /// What, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub from: Bytes,
    /// Its new path, in normal form.
    #[prost(bytes = "bytes", tag = "2")]
    pub to: Bytes,
    /// Fail when the target exists.
    #[prost(bool, tag = "3")]
    pub no_replace: bool,
    /// For a file: the store's mark of the object at its new place; empty: as before. The content, and so the version, is the same.
    #[prost(string, tag = "4")]
    pub tag: String,
    /// For a file: its modification time in the store at the new place; 0: as before.
    #[prost(uint64, tag = "5")]
    pub modified_ms: u64,
}

impl Rename {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let rename = Checked::new(tx, &self.from, &self.to, self.no_replace)?;
        let renamed = rename.carry_out(tx, &self.tag, self.modified_ms)?;
        Ok(Payload::Renamed(renamed))
    }
}

/// A rename that the rules of `rename(2)` and of mounts allow.
pub(super) struct Checked {
    pub(super) from: Site,
    pub(super) to: Site,
}

impl Checked {
    /// Checks them all, blockers last: whoever waits for those must have no other reason to be refused.
    pub(super) fn new(tx: &Tx, from: &Bytes, to: &Bytes, no_replace: bool) -> Result<Checked, Stop> {
        let rename = Checked::but_for_blockers(tx, from, to, no_replace)?;
        tree::check_no_blocker(tx, &rename.from)?;
        tree::check_no_blocker(tx, &rename.to)?;
        Ok(rename)
    }

    fn but_for_blockers(tx: &Tx, from: &Bytes, to: &Bytes, no_replace: bool) -> Result<Checked, Stop> {
        let from = Site::find(tx, from)?;
        let to = Site::find(tx, to)?;
        let source = from.existing()?.inode.clone();
        to.existing_parent()?;
        check_places(&from, &to)?;
        if no_replace && to.found().is_some() {
            return Err(to.already_exists().into());
        }
        let rename = Checked { from, to };
        if rename.is_same() {
            return Ok(rename);
        }
        rename.check_mounts(tx)?;
        rename.check_target(tx, &source)?;
        tree::check_no_blocker_below(tx, &rename.from)?;
        tree::check_no_blocker_below(tx, &rename.to)?;
        tree::check_no_write_at_or_below(tx, &rename.from)?;
        Ok(rename)
    }

    /// Whether both names are one: then there is nothing to do.
    pub(super) fn is_same(&self) -> bool {
        self.from.path == self.to.path
    }

    fn check_target(&self, tx: &Tx, source: &Inode) -> Result<(), Stop> {
        let Some(target) = self.to.found() else {
            return Ok(());
        };
        match (source.is_directory(), target.inode.is_directory()) {
            (false, false) => Ok(()),
            (false, true) => Err(self.to.is_a_directory().into()),
            (true, false) => {
                let message = format!("{} is a file: a directory cannot replace it", self.to.path);
                Err(Refusal::new(ErrorKind::NotADirectory, message).into())
            }
            (true, true) => tree::check_empty(tx, &self.to.path, &target.inode),
        }
    }

    fn check_mounts(&self, tx: &Tx) -> Result<(), Stop> {
        tree::check_no_mount_at_or_below(tx, &self.from.path)?;
        if self.to.found().is_some() {
            tree::check_no_mount_at_or_below(tx, &self.to.path)?;
        }
        if self.from.mount_number() != self.to.mount_number() {
            let message = format!("{} and {} lie in different mounts", self.from.path, self.to.path);
            return Err(Refusal::new(ErrorKind::InvalidArgument, message)
                .because(Reason::CrossMount)
                .hint("copy it, then delete the original")
                .into());
        }
        tree::check_writable(&self.from)?;
        Ok(())
    }

    /// Renames in the namespace.
    pub(super) fn carry_out(&self, tx: &mut Tx, tag: &str, modified_ms: u64) -> Result<Renamed, Stop> {
        let source = self.from.existing()?.clone();
        if self.is_same() {
            return Ok(Renamed { inode: source.inode, replaced_inode: 0, abandoned: None });
        }
        let mut renamed = Renamed::default();
        if let Some(target) = self.to.found() {
            renamed.replaced_inode = target.inode.id;
            renamed.abandoned = remove_target(tx, target)?;
        }
        renamed.inode = self.move_inode(tx, source, tag, modified_ms)?;
        self.touch_parents(tx)?;
        Ok(renamed)
    }

    fn move_inode(&self, tx: &mut Tx, source: Step, tag: &str, modified_ms: u64) -> Result<Inode, Stop> {
        let mut inode = source.inode;
        let (modified_ms, accessed_ms) = match modified_ms {
            0 => (inode.modified_ms, inode.accessed_ms()),
            given_ms => (given_ms, inode.accessed_ms()),
        };
        inode.set_times(modified_ms, accessed_ms, tx.now_ms());
        if !tag.is_empty() {
            inode.tag = tag.to_owned();
        }
        let parent = self.to.existing_parent()?.inode.id;
        let name = self.to.path.file_name().map(|name| name.to_bytes()).unwrap_or_default();
        keys::inode::delete(&mut tx.pending, source.parent.0, &source.name);
        keys::inode::put(&mut tx.pending, parent, &name, &inode);
        if inode.is_directory() {
            keys::directory::put(&mut tx.pending, inode.id, parent, &name);
        }
        Ok(inode)
    }

    fn touch_parents(&self, tx: &mut Tx) -> Result<(), Stop> {
        let from = self.from.parent();
        tree::touch(tx, from, Entries::Removed);
        let to = self.to.existing_parent()?;
        if to.inode.id != from.inode.id {
            tree::touch(tx, to, Entries::Added);
        }
        Ok(())
    }
}

/// The rules that need the two paths alone.
fn check_places(from: &Site, to: &Site) -> Result<(), Refusal> {
    if from.path.is_root() || to.path.is_root() {
        let message = "the root directory cannot be renamed or replaced";
        return Err(Refusal::new(ErrorKind::InvalidArgument, message).because(Reason::MountPoint));
    }
    if from.path != to.path && to.path.starts_with(&from.path) {
        let message = format!("{} cannot be moved into itself, to {}", from.path, to.path);
        return Err(Refusal::new(ErrorKind::InvalidArgument, message).because(Reason::IntoItself));
    }
    Ok(())
}

/// Takes away what a rename replaces: a file, or an empty directory.
fn remove_target(tx: &mut Tx, target: &Step) -> Result<Option<crate::Write>, Stop> {
    let abandoned = match target.inode.write {
        0 => None,
        write => tree::release_write(tx, write)?,
    };
    keys::inode::delete(&mut tx.pending, target.parent.0, &target.name);
    if target.inode.is_directory() {
        keys::directory::delete(&mut tx.pending, target.inode.id);
    }
    tx.state.counters.inodes -= 1;
    Ok(abandoned)
}
