//! Raises the version of behaviour that the whole cluster has.

use crate::machine::{Stop, Tx};
use crate::reply::{Done, Payload};
use crate::versions;

/// Raises the version that gates new behaviour of commands. Proposed when every member can do it; never goes down. A member that does not know
/// the version stops there, with its state as it was before. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SetClusterVersion {
    /// The new version.
    #[prost(uint32, tag = "1")]
    pub version: u32,
}

impl SetClusterVersion {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        versions::check(self.version)?;
        tx.state.cluster_version = tx.state.cluster_version.max(self.version);
        Ok(Payload::Done(Done {}))
    }
}
