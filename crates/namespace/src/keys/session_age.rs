//! `A, minute (u64), client (u64) → nothing`: sessions by the minute of their last request, the oldest first.

use super::{Pending, Result, key, kind, last_u64};
use crate::ApplyError;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(minute: u64, client: u64) -> Bytes {
    key(kind::SESSION_AGE, &[&minute.to_be_bytes(), &client.to_be_bytes()])
}

pub(crate) fn put(pending: &mut Pending, minute: u64, client: u64) {
    pending.put(key_of(minute, client), Bytes::new());
}

pub(crate) fn delete(pending: &mut Pending, minute: u64, client: u64) {
    pending.delete(key_of(minute, client));
}

/// Clients last seen before `minute`, with the minute, the oldest first.
pub(crate) fn before(read: &dyn Read, minute: u64) -> impl Iterator<Item = Result<(u64, u64)>> + '_ {
    let range = KeyRange::prefix(&[kind::SESSION_AGE][..]).before(&key_of(minute, 0));
    read.scan(range, Direction::Forward).map(|row| {
        let (key, _) = row?;
        let client = last_u64(&key)?;
        let minute = key.get(1..9).ok_or_else(|| ApplyError::Corrupt("a session's age".to_owned()))?;
        Ok((last_u64(minute)?, client))
    })
}
