//! `M, mount (u32) → Mount`.

use super::{Pending, Result, decode, key, kind};
use crate::record::Mount;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(id: u32) -> Bytes {
    key(kind::MOUNT, &[&id.to_be_bytes()])
}

pub(crate) fn get(read: &dyn Read, id: u32) -> Result<Option<Mount>> {
    super::get(read, &key_of(id))
}

pub(crate) fn put(pending: &mut Pending, mount: &Mount) {
    super::put(pending, key_of(mount.id), mount);
}

pub(crate) fn delete(pending: &mut Pending, id: u32) {
    pending.delete(key_of(id));
}

/// Those numbered `from` and higher, in order.
pub(crate) fn scan(read: &dyn Read, from: u32) -> impl Iterator<Item = Result<Mount>> + '_ {
    let range = KeyRange::prefix(&[kind::MOUNT][..]).from(&key_of(from));
    read.scan(range, Direction::Forward).map(|row| {
        let (key, value) = row?;
        decode(&key, value)
    })
}
