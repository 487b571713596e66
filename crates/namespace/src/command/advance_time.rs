//! Moves log time on.

use crate::machine::{Stop, Tx};
use crate::reply::{Done, Payload};

/// Does nothing but carry a time, so that leases end on an idle cluster. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct AdvanceTime {}

impl AdvanceTime {
    pub(super) fn apply(&self, _tx: &mut Tx) -> Result<Payload, Stop> {
        Ok(Payload::Done(Done {}))
    }
}
