//! Notes how far a purge is.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::record::PurgePlace;
use crate::reply::{Done, Payload, Refusal};
use forebay_base::ErrorKind;

/// Bytes of a place: a path of the tree and one more name are far shorter.
const PLACE_LEN_MAX: usize = 16 << 10;

/// Notes how far the walk over the objects of a trash entry is, so that who goes on with it, after a fail-over or a restart, begins there and not at the start: what has
/// survived there, since others have put it there, may be much. An entry that is gone is left alone. Since cluster version 2. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NotePurge {
    /// Which trash entry.
    #[prost(uint64, tag = "1")]
    pub trash: u64,
    /// Where the walk is.
    #[prost(message, required, tag = "2")]
    pub place: PurgePlace,
}

impl NotePurge {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let len = self.place.directory.len() + self.place.after.len();
        if len > PLACE_LEN_MAX {
            let message = format!("a place of {len} bytes is too long: at most {PLACE_LEN_MAX} are allowed");
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
        }
        if let Some(mut entry) = keys::trash::get(&tx.pending, self.trash)? {
            entry.purged_to = Some(self.place.clone());
            keys::trash::put(&mut tx.pending, &entry);
        }
        Ok(Payload::Done(Done {}))
    }
}
