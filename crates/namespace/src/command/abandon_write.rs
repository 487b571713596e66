//! Gives up a write.

use crate::machine::{Stop, Tx};
use crate::reply::{Abandoned, Payload};
use crate::tree;

/// Gives up a write: a new file vanishes, an overwritten one keeps its old content. No error when the write is gone already.
/// Reply: [`crate::reply::Payload::Abandoned`]. A write with an upload stays listed by [`crate::query::abandoned_writes`] until [`super::ForgetWrites`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct AbandonWrite {
    /// Which write.
    #[prost(uint64, tag = "1")]
    pub write: u64,
}

impl AbandonWrite {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let writes = tree::abandon(tx, self.write)?.into_iter().collect();
        Ok(Payload::Abandoned(Abandoned { writes }))
    }
}
