//! Keeps writes alive.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::reply::{Payload, Renewed};
use crate::tree;

/// Keeps writes alive: each may be given up `lease_ms` after this command's log time at the earliest. At most [`crate::BATCH_MAX`] at once.
/// Reply: [`crate::reply::Payload::Renewed`], with those that do not exist any more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenewWrite {
    /// Which writes.
    #[prost(uint64, repeated, tag = "1")]
    pub writes: Vec<u64>,
    /// How long they live from now.
    #[prost(uint64, tag = "2")]
    pub lease_ms: u64,
}

impl RenewWrite {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.writes.len())?;
        let expires_ms = tx.now_ms().saturating_add(self.lease_ms);
        let mut gone = Vec::new();
        for id in &self.writes {
            match keys::write::get(&tx.pending, *id)?.filter(|write| !write.abandoned) {
                None => gone.push(*id),
                Some(mut write) => {
                    write.expires_ms = write.expires_ms.max(expires_ms);
                    keys::write::put(&mut tx.pending, &write);
                }
            }
        }
        Ok(Payload::Renewed(Renewed { expires_ms, gone }))
    }
}
