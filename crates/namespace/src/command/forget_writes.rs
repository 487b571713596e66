//! Forgets abandoned writes once their uploads are aborted.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::reply::{Done, Payload};
use crate::tree;

/// Forgets abandoned writes once their uploads are aborted in the store. Others are left alone.
/// Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForgetWrites {
    /// Which writes.
    #[prost(uint64, repeated, tag = "1")]
    pub writes: Vec<u64>,
}

impl ForgetWrites {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.writes.len())?;
        for id in &self.writes {
            let write = keys::write::get(&tx.pending, *id)?;
            if write.is_some_and(|write| write.abandoned) {
                keys::write::delete(&mut tx.pending, *id);
                tx.state.counters.writes -= 1;
            }
        }
        Ok(Payload::Done(Done {}))
    }
}
