//! Renames that take several steps in a store.

use super::trash::bump_generation_of_key;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::record::{Blocker, RenameIntent};

/// Lets the keys of an intent be loaded and created again.
pub(crate) fn unblock(tx: &mut Tx, intent: &RenameIntent) -> Result<(), Stop> {
    for key in [&intent.from_key, &intent.to_key] {
        let blocker = Blocker::Rename(intent.id);
        let freed = keys::blocker::remove(&mut tx.pending, intent.mount, key, blocker)?;
        tx.state.counters.blocked_keys -= freed;
    }
    Ok(())
}

/// Ends an intent. Listings from before show objects that are gone now, at either end.
pub(crate) fn end_intent(tx: &mut Tx, intent: &RenameIntent) -> Result<(), Stop> {
    unblock(tx, intent)?;
    keys::intent::delete(&mut tx.pending, intent.id);
    tx.state.counters.intents -= 1;
    bump_generation_of_key(tx, intent.mount, &intent.from_key)?;
    bump_generation_of_key(tx, intent.mount, &intent.to_key)
}

/// The intents of a mount.
pub(crate) fn intents_of_mount(tx: &Tx, mount: u32) -> Result<Vec<RenameIntent>, Stop> {
    let mut intents = Vec::new();
    for intent in keys::intent::scan(&tx.pending, 0) {
        let intent = intent?;
        if intent.mount == mount {
            intents.push(intent);
        }
    }
    Ok(intents)
}
