//! `C, intent (u64), key below the renamed one → Copied`: what a rename in an object store has copied.

use super::{Pending, Result, decode, key, kind};
use crate::record::Copied;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

/// Bytes before the key of the object.
const PREFIX_LEN: usize = 1 + size_of::<u64>();

fn key_of(intent: u64, below: &[u8]) -> Bytes {
    key(kind::COPIED, &[&intent.to_be_bytes(), below])
}

pub(crate) fn get(read: &dyn Read, intent: u64, below: &[u8]) -> Result<Option<Copied>> {
    let found: Option<Copied> = super::get(read, &key_of(intent, below))?;
    Ok(found.map(|copied| Copied { key: Bytes::copy_from_slice(below), ..copied }))
}

pub(crate) fn put(pending: &mut Pending, intent: u64, copied: &Copied) {
    let record = Copied { key: Bytes::new(), ..copied.clone() };
    super::put(pending, key_of(intent, &copied.key), &record);
}

pub(crate) fn delete(pending: &mut Pending, intent: u64, below: &[u8]) {
    pending.delete(key_of(intent, below));
}

/// Those of an intent, the last key first: what lies in a directory before its mark.
pub(crate) fn scan_back(read: &dyn Read, intent: u64) -> impl Iterator<Item = Result<Copied>> + '_ {
    read.scan(KeyRange::prefix(key_of(intent, b"")), Direction::Backward).map(|row| {
        let (key, value) = row?;
        let copied: Copied = decode(&key, value)?;
        Ok(Copied { key: key.slice(PREFIX_LEN..), ..copied })
    })
}

/// The least intent from number `from` on that any is recorded of.
pub(crate) fn next_intent(read: &dyn Read, from: u64) -> Result<Option<u64>> {
    let range = KeyRange::prefix(&[kind::COPIED][..]).from(&key_of(from, b""));
    let Some(row) = read.scan(range, Direction::Forward).next() else {
        return Ok(None);
    };
    super::last_u64(&row?.0[..PREFIX_LEN]).map(Some)
}
