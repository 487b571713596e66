//! `W, write (u64) → Write`.

use super::{Pending, Result, decode, key, kind};
use crate::record::Write;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(id: u64) -> Bytes {
    key(kind::WRITE, &[&id.to_be_bytes()])
}

pub(crate) fn get(read: &dyn Read, id: u64) -> Result<Option<Write>> {
    super::get(read, &key_of(id))
}

pub(crate) fn put(pending: &mut Pending, write: &Write) {
    super::put(pending, key_of(write.id), write);
}

pub(crate) fn delete(pending: &mut Pending, id: u64) {
    pending.delete(key_of(id));
}

/// Those numbered `from` and higher, in order.
pub(crate) fn scan(read: &dyn Read, from: u64) -> impl Iterator<Item = Result<Write>> + '_ {
    let range = KeyRange::prefix(&[kind::WRITE][..]).from(&key_of(from));
    read.scan(range, Direction::Forward).map(|row| {
        let (key, value) = row?;
        decode(&key, value)
    })
}
