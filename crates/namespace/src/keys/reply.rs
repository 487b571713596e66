//! `R, client (u64), sequence (u64) → reply`: the bytes of replies that may be asked for again.

use super::{Pending, Result, key, kind, last_u64};
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(client: u64, sequence: u64) -> Bytes {
    key(kind::REPLY, &[&client.to_be_bytes(), &sequence.to_be_bytes()])
}

pub(crate) fn get(read: &dyn Read, client: u64, sequence: u64) -> Result<Option<Bytes>> {
    Ok(read.get(&key_of(client, sequence))?)
}

pub(crate) fn put(pending: &mut Pending, client: u64, sequence: u64, reply: Bytes) {
    pending.put(key_of(client, sequence), reply);
}

pub(crate) fn delete(pending: &mut Pending, client: u64, sequence: u64) {
    pending.delete(key_of(client, sequence));
}

/// The sequences of a client's replies from `from` to before `until`.
pub(crate) fn sequences(read: &dyn Read, client: u64, from: u64, until: u64) -> Result<Vec<u64>> {
    let range = KeyRange::new(key_of(client, from), key_of(client, until));
    read.scan(range, Direction::Forward).map(|row| last_u64(&row?.0)).collect()
}
