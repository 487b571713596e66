//! Unmounts a store.

use crate::machine::{Stop, Tx};
use crate::record::Mount;
use crate::reply::{Payload, Reason, Refusal};
use crate::tree::{self, Entries, Site};
use forebay_base::ErrorKind;

/// Takes a mount out of the tree, and forgets the metadata below it; nothing in the store is touched. Refused while another mount lies below, and, without `discard`, while
/// files below are being written. Reply: [`crate::reply::Payload::Mount`] as it was.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RemoveMount {
    /// Which mount.
    #[prost(uint32, tag = "1")]
    pub mount: u32,
    /// Give up unfinished writes below.
    #[prost(bool, tag = "2")]
    pub discard: bool,
}

impl RemoveMount {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let mount = tree::existing_mount(tx, self.mount)?;
        let site = Site::find(tx, &mount.path)?;
        self.check(tx, &mount, &site)?;
        for intent in tree::intents_of_mount(tx, mount.id)? {
            tree::end_intent(tx, &intent)?;
        }
        let mut step = site.existing()?.clone();
        step.inode.mount = 0;
        tree::discard(tx, &step, mount.id, b"", tree::Purge::Nothing)?;
        let mut parent = site.parent().clone();
        if site.is_below_other_mount() {
            // What the store around it has under this name is seen again.
            parent.inode.set_loaded(false);
        }
        tree::touch(tx, &parent, Entries::Removed);
        tx.delete_mount(mount.id);
        Ok(Payload::Mount(mount))
    }

    fn check(&self, tx: &Tx, mount: &Mount, site: &Site) -> Result<(), Stop> {
        if tree::has_mount_below(tx, &site.path) {
            let message = format!("another store is mounted below {}", site.path);
            return Err(Refusal::new(ErrorKind::InvalidArgument, message)
                .because(Reason::MountPoint)
                .hint("remove that mount first")
                .into());
        }
        if self.discard {
            return Ok(());
        }
        if tree::has_write_at_or_below(tx, mount.id, b"")? {
            let message = format!("files below {} are being written", site.path);
            return Err(Refusal::new(ErrorKind::Conflict, message)
                .because(Reason::BeingWritten)
                .hint("wait for the writers, or give their data up with --discard")
                .into());
        }
        tree::check_no_rename_at_or_below(tx, site)
    }
}
