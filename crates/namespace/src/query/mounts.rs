//! The mount table, and keys in the stores.

use super::Result;
use crate::{Mount, keys};
use bytes::Bytes;
use forebay_base::{MountId, NsPath};
use forebay_metastore::Read;

/// Every mount, by number.
pub fn mounts(read: &dyn Read) -> Result<Vec<Mount>> {
    keys::mount::scan(read, 0).collect()
}

/// The mount of that number.
pub fn mount(read: &dyn Read, id: MountId) -> Result<Option<Mount>> {
    keys::mount::get(read, id.0)
}

/// The mount that a path lies in, whether the path exists or not, and the key of the path in that mount's store (empty for the mount point).
pub fn mount_of(read: &dyn Read, path: &NsPath) -> Result<Option<(Mount, Bytes)>> {
    let nearest = mounts(read)?
        .into_iter()
        .filter(|mount| is_at_or_above(&mount.path, path.as_bytes()))
        .max_by_key(|mount| mount.path.len());
    Ok(nearest.map(|mount| {
        let key = key_in(&mount, path);
        (mount, key)
    }))
}

fn is_at_or_above(above: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// The key of a path at or below a mount point in that mount's store: what follows the mount point, without a leading slash.
pub fn key_in(mount: &Mount, path: &NsPath) -> Bytes {
    let path = path.to_bytes();
    path.slice((mount.path.len() + 1).min(path.len())..)
}

/// The key of an entry of a directory with this key.
pub fn join_key(directory: &[u8], name: &[u8]) -> Bytes {
    match directory {
        [] => Bytes::copy_from_slice(name),
        _ => [directory, b"/", name].concat().into(),
    }
}
