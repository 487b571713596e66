//! Gives up writes whose lease has ended.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::reply::{Abandoned, Payload};
use crate::tree;

/// Gives up those of the writes whose lease has ended by log time. At most [`crate::BATCH_MAX`] at once.
/// Reply: [`crate::reply::Payload::Abandoned`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExpireWrites {
    /// Which writes, from [`crate::query::expired_writes`].
    #[prost(uint64, repeated, tag = "1")]
    pub writes: Vec<u64>,
}

impl ExpireWrites {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.writes.len())?;
        let mut writes = Vec::new();
        for id in &self.writes {
            let write = keys::write::get(&tx.pending, *id)?;
            if write.is_some_and(|write| write.has_expired(tx.now_ms())) {
                writes.extend(tree::abandon(tx, *id)?);
            }
        }
        Ok(Payload::Abandoned(Abandoned { writes }))
    }
}
