//! `P, mount (u32), key, 0, write (u64) → nothing`: which paths are being written. No name has a NUL byte, so all writes at or
//! below a path lie together.

use super::{Pending, Result, key, kind, last_u64};
use crate::record::Write;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(write: &Write) -> Bytes {
    let mount = write.mount.to_be_bytes();
    key(kind::WRITE_PATH, &[&mount, &write.key, &[0], &write.id.to_be_bytes()])
}

pub(crate) fn put(pending: &mut Pending, write: &Write) {
    pending.put(key_of(write), Bytes::new());
}

pub(crate) fn delete(pending: &mut Pending, write: &Write) {
    pending.delete(key_of(write));
}

/// The numbers of the writes at or below a path (of the whole mount when it is empty).
pub(crate) fn below<'a>(read: &'a dyn Read, mount: u32, path: &[u8]) -> impl Iterator<Item = Result<u64>> + 'a {
    let mount = mount.to_be_bytes();
    let (at, under) = match path {
        [] => (None, key(kind::WRITE_PATH, &[&mount])),
        _ => (Some(key(kind::WRITE_PATH, &[&mount, path, &[0]])), key(kind::WRITE_PATH, &[&mount, path, b"/"])),
    };
    at.into_iter()
        .chain([under])
        .flat_map(|prefix| read.scan(KeyRange::prefix(prefix), Direction::Forward))
        .map(|row| last_u64(&row?.0))
}
