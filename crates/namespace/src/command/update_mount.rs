//! Changes a mount.

use crate::machine::{Stop, Tx};
use crate::reply::{Payload, Refusal};
use crate::tree;
use forebay_base::ErrorKind;

/// Replaces what a mount says. Reply: [`crate::reply::Payload::Mount`]. Conflict when `revision` is not the mount's.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateMount {
    /// Which mount.
    #[prost(uint32, tag = "1")]
    pub mount: u32,
    /// All of the new settings. The URI cannot change.
    #[prost(message, required, tag = "2")]
    pub spec: crate::record::MountSpec,
    /// The revision that the new settings were made from.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}

impl UpdateMount {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_mount_spec(&self.spec)?;
        let mut mount = tree::existing_mount(tx, self.mount)?;
        if mount.revision != self.revision {
            let message = format!("mount {} was changed by somebody else in the meantime", self.mount);
            return Err(Refusal::new(ErrorKind::Conflict, message).hint("look at it, then try again").into());
        }
        if mount.spec.uri != self.spec.uri {
            let message = format!("mount {} is of {}, which cannot be changed", self.mount, mount.spec.uri);
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).hint("remove it and add another").into());
        }
        mount.spec = self.spec.clone();
        mount.revision += 1;
        tx.put_mount(mount.clone());
        Ok(Payload::Mount(mount))
    }
}
