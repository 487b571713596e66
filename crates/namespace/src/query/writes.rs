//! Writes in progress.

use super::Result;
use crate::{Write, keys};
use forebay_base::MountId;
use forebay_metastore::Read;
use std::collections::BTreeSet;

/// A write by its number, abandoned ones included.
pub fn write(read: &dyn Read, write: u64) -> Result<Option<Write>> {
    keys::write::get(read, write)
}

/// Writes from number `from` on, at most `limit`; page on with the last number plus one.
pub fn writes(read: &dyn Read, from: u64, limit: usize) -> Result<Vec<Write>> {
    keys::write::scan(read, from).take(limit).collect()
}

/// Writes whose lease has ended by `log_time_ms` and that are not abandoned yet, at most `limit`. Looks at every write.
pub fn expired_writes(read: &dyn Read, log_time_ms: u64, limit: usize) -> Result<Vec<Write>> {
    filtered(read, limit, |write| write.has_expired(log_time_ms))
}

/// Abandoned writes of a mount numbered above `after`, whose upload is to be aborted in the store, then [`crate::command::ForgetWrites`]; at most `limit`.
/// Looks at every write.
pub fn abandoned_writes(read: &dyn Read, mount: MountId, after: u64, limit: usize) -> Result<Vec<Write>> {
    filtered(read, limit, |write| write.abandoned && write.mount == mount.0 && write.id > after)
}

/// The mounts, also such as were removed, that have abandoned writes that are `wanted`. Looks at every write.
pub fn mounts_with_abandoned_writes(read: &dyn Read, wanted: impl Fn(&Write) -> bool) -> Result<BTreeSet<MountId>> {
    let mut mounts = BTreeSet::new();
    for write in keys::write::scan(read, 0) {
        let write = write?;
        if write.abandoned && wanted(&write) {
            mounts.insert(MountId(write.mount));
        }
    }
    Ok(mounts)
}

fn filtered(read: &dyn Read, limit: usize, wanted: impl Fn(&Write) -> bool) -> Result<Vec<Write>> {
    keys::write::scan(read, 0).filter(|write| write.as_ref().map_or(true, &wanted)).take(limit).collect()
}

/// Writes going on at or below a key of a mount (empty key: in the whole mount), at most `limit`. Those of files that were deleted with a
/// directory above them are among them until they are given up.
pub fn writes_below(read: &dyn Read, mount: MountId, key: &[u8], limit: usize) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for number in keys::write_path::below(read, mount.0, key).take(limit) {
        writes.extend(keys::write::get(read, number?)?);
    }
    Ok(writes)
}
