//! `T, deleted inode (u64) → TrashEntry`.

use super::{Pending, Result, decode, key, kind};
use crate::record::TrashEntry;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(id: u64) -> Bytes {
    key(kind::TRASH, &[&id.to_be_bytes()])
}

pub(crate) fn get(read: &dyn Read, id: u64) -> Result<Option<TrashEntry>> {
    super::get(read, &key_of(id))
}

pub(crate) fn put(pending: &mut Pending, entry: &TrashEntry) {
    super::put(pending, key_of(entry.id), entry);
}

pub(crate) fn delete(pending: &mut Pending, id: u64) {
    pending.delete(key_of(id));
}

/// Those numbered `from` and higher, in order.
pub(crate) fn scan(read: &dyn Read, from: u64) -> impl Iterator<Item = Result<TrashEntry>> + '_ {
    let range = KeyRange::prefix(&[kind::TRASH][..]).from(&key_of(from));
    read.scan(range, Direction::Forward).map(|row| {
        let (key, value) = row?;
        decode(&key, value)
    })
}
