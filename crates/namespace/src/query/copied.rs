//! What renames in object stores have copied.

use super::Result;
use crate::keys;
use crate::record::Copied;
use forebay_metastore::Read;

/// What a rename recorded of one object.
pub fn copied(read: &dyn Read, intent: u64, key: &[u8]) -> Result<Option<Copied>> {
    keys::copied::get(read, intent, key)
}

/// The last of what a rename recorded, at most `limit`, the last key first: what lies in a directory comes before its mark.
pub fn last_copied(read: &dyn Read, intent: u64, limit: usize) -> Result<Vec<Copied>> {
    keys::copied::scan_back(read, intent).take(limit).collect()
}

/// The least intent from number `from` on that something is recorded of, whether it is still in progress or not.
pub fn next_copied_intent(read: &dyn Read, from: u64) -> Result<Option<u64>> {
    keys::copied::next_intent(read, from)
}
