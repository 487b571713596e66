//! Notes that a request is being carried out in a store.

use crate::machine::{Stop, Tx};
use crate::reply::{Begun, Payload};

/// Notes that this request begins to change a store, before it does. When it is repeated after a crash, it is known that what it finds there can be
/// its own doing. It has no reply yet: that comes with the command that ends it. Reply: [`crate::reply::Payload::Begun`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BeginRequest {}

impl BeginRequest {
    pub(super) fn apply(&self, _tx: &mut Tx) -> Result<Payload, Stop> {
        Ok(Payload::Begun(Begun {}))
    }
}
