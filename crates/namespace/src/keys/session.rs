//! `S, client (u64) → Session`.

use super::{Pending, Result, key, kind};
use crate::record::Session;
use bytes::Bytes;
use forebay_metastore::Read;

fn key_of(client: u64) -> Bytes {
    key(kind::SESSION, &[&client.to_be_bytes()])
}

pub(crate) fn get(read: &dyn Read, client: u64) -> Result<Option<Session>> {
    super::get(read, &key_of(client))
}

pub(crate) fn put(pending: &mut Pending, client: u64, session: &Session) {
    super::put(pending, key_of(client), session);
}

pub(crate) fn delete(pending: &mut Pending, client: u64) {
    pending.delete(key_of(client));
}
