//! `N, intent (u64) → RenameIntent`.

use super::{Pending, Result, decode, key, kind};
use crate::record::RenameIntent;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(id: u64) -> Bytes {
    key(kind::INTENT, &[&id.to_be_bytes()])
}

pub(crate) fn get(read: &dyn Read, id: u64) -> Result<Option<RenameIntent>> {
    super::get(read, &key_of(id))
}

pub(crate) fn put(pending: &mut Pending, intent: &RenameIntent) {
    super::put(pending, key_of(intent.id), intent);
}

pub(crate) fn delete(pending: &mut Pending, id: u64) {
    pending.delete(key_of(id));
}

/// Those numbered `from` and higher, in order.
pub(crate) fn scan(read: &dyn Read, from: u64) -> impl Iterator<Item = Result<RenameIntent>> + '_ {
    let range = KeyRange::prefix(&[kind::INTENT][..]).from(&key_of(from));
    read.scan(range, Direction::Forward).map(|row| {
        let (key, value) = row?;
        decode(&key, value)
    })
}
