//! `D, directory (u64) → parent (u64), name`: where a directory lies, so that a path can be found from an inode. The root has none.

use super::{Pending, Result, key, kind};
use crate::{ApplyError, TRASH};
use bytes::{Buf, Bytes};
use forebay_base::InodeId;
use forebay_metastore::Read;

/// Where a directory lies: its parent and its name there.
pub(crate) type Place = (u64, Bytes);

fn key_of(directory: u64) -> Bytes {
    key(kind::DIRECTORY, &[&directory.to_be_bytes()])
}

/// Where a directory lies. The root lies in directory 0 under no name.
pub(crate) fn get(read: &dyn Read, directory: u64) -> Result<Option<Place>> {
    if directory == InodeId::ROOT.0 {
        return Ok(Some((0, Bytes::new())));
    }
    let Some(mut value) = read.get(&key_of(directory))? else {
        return Ok(None);
    };
    let parent = value
        .try_get_u64()
        .map_err(|_| ApplyError::Corrupt(format!("the place of directory {directory} is too short")))?;
    Ok(Some((parent, value)))
}

pub(crate) fn put(pending: &mut Pending, directory: u64, parent: u64, name: &[u8]) {
    let mut value = Vec::with_capacity(8 + name.len());
    value.extend_from_slice(&parent.to_be_bytes());
    value.extend_from_slice(name);
    pending.put(key_of(directory), value);
}

pub(crate) fn delete(pending: &mut Pending, directory: u64) {
    pending.delete(key_of(directory));
}

/// Where a chain of directories ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Top {
    /// At the root.
    Root,
    /// In the trash, in the entry of this number.
    Trash(u64),
    /// Nowhere: the directory does not exist.
    Gone,
}

/// The directories from `directory` up to the root or the trash, each with its place, and where that ends.
pub(crate) fn chain(read: &dyn Read, directory: u64) -> Result<(Vec<(u64, Place)>, Top)> {
    let mut chain: Vec<(u64, Place)> = Vec::new();
    // Brent's: whoever comes back to a directory marked at a power of two walks in a circle.
    let mut marked = None;
    let mut at = directory;
    loop {
        if at == InodeId::ROOT.0 {
            return Ok((chain, Top::Root));
        }
        let Some(place) = get(read, at)? else {
            return match chain.is_empty() {
                true => Ok((chain, Top::Gone)),
                false => Err(ApplyError::Corrupt(format!("directory {at} has no place"))),
            };
        };
        let parent = place.0;
        chain.push((at, place));
        if parent == TRASH.0 {
            return Ok((chain, Top::Trash(at)));
        }
        // A path has at most 2047 names, but a directory may be renamed to where its lower entries have longer paths than can be asked for:
        // depth alone tells nothing.
        if marked == Some(parent) {
            return Err(ApplyError::Corrupt(format!("directory {directory} lies in a circle")));
        }
        if chain.len().is_power_of_two() {
            marked = Some(parent);
        }
        at = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_metastore::{MemStore, Overlay};
    use std::sync::Arc;

    #[test]
    fn circles_are_found_and_depth_is_none() {
        let nothing: Arc<dyn Read> = Arc::new(MemStore::new());
        let mut pending = Overlay::new(nothing);
        const DEPTH: u64 = (1 << 20) + 5;
        put(&mut pending, 100, InodeId::ROOT.0, b"d");
        (1..DEPTH).for_each(|n| put(&mut pending, 100 + n, 99 + n, b"d"));
        let (found, top) = chain(&pending, 99 + DEPTH).unwrap();
        assert_eq!((found.len() as u64, top), (DEPTH, Top::Root));
        for length in [1, 2, 3, 7, 64, 1000] {
            put(&mut pending, 100, 99 + length, b"d");
            assert!(matches!(chain(&pending, 1099), Err(ApplyError::Corrupt(_))), "{length}");
        }
    }
}
