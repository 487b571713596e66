//! Mounts a store.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::record::Mount;
use crate::reply::{Payload, Refusal};
use crate::tree::{self, Attributes, Site};
use bytes::Bytes;
use forebay_base::ErrorKind;

/// Mounts a store on a path, which must be missing or an empty directory, and not the root. Missing parents are made.
/// Reply: [`crate::reply::Payload::Mount`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AddMount {
    /// Where, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// What.
    #[prost(message, required, tag = "2")]
    pub spec: crate::record::MountSpec,
    /// Owner of the mount point, when it is made.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// Group of the mount point, when it is made.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Mode of the mount point, when it is made.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
}

/// Mounts at most: the table is held in memory, and renames and deletes look through it.
const MOUNTS_MAX: usize = 10_000;

impl AddMount {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_attributes(&self.owner, &self.group, self.mode)?;
        tree::check_mount_spec(&self.spec)?;
        let site = Site::find(tx, &self.path)?;
        self.check(tx, &site)?;
        let attributes = Attributes { owner: &self.owner, group: &self.group, mode: Some(self.mode) };
        let mut at = tree::make_directories(tx, &site, 0, attributes, false);
        tx.state.counters.mount_last += 1;
        let mount = Mount {
            id: tx.state.counters.mount_last,
            path: site.path.to_bytes(),
            inode: at.inode.id,
            spec: self.spec.clone(),
            created_ms: tx.now_ms(),
            revision: 1,
        };
        at.inode.mount = mount.id;
        at.inode.set_loaded(false);
        // A listing of what lay here before must not be applied to the new store.
        at.inode.generation += 1;
        keys::inode::put(&mut tx.pending, at.parent.0, &at.name, &at.inode);
        tx.put_mount(mount.clone());
        Ok(Payload::Mount(mount))
    }

    fn check(&self, tx: &Tx, site: &Site) -> Result<(), Stop> {
        if site.path.is_root() {
            return Err(Refusal::new(ErrorKind::InvalidArgument, "a store cannot be mounted on /")
                .hint("mount it on a directory, such as /lake")
                .into());
        }
        if tx.mounts.len() >= MOUNTS_MAX {
            let message = format!("there are {MOUNTS_MAX} mounts already, which is the most");
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
        }
        site.check_leads_through_directories()?;
        if let Some(step) = site.found() {
            if !step.inode.is_directory() || step.inode.is_mount_point() {
                return Err(site.already_exists().into());
            }
            if !keys::inode::is_empty(&tx.pending, step.inode.id)? {
                return Err(tree::not_empty(&site.path).into());
            }
        }
        tree::check_no_blocker(tx, site)?;
        tree::check_no_blocker_below(tx, site)
    }
}
