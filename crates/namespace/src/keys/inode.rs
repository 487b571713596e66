//! `I, directory (u64), name → Inode`: the tree. A listing with attributes is one scan.

use super::{Pending, Result, decode, key, kind, last_u64, put as put_record};
use crate::record::Inode;
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

/// Bytes before the name.
const PREFIX_LEN: usize = 9;

pub(crate) fn key_of(directory: u64, name: &[u8]) -> Bytes {
    key(kind::INODE, &[&directory.to_be_bytes(), name])
}

pub(crate) fn get(read: &dyn Read, directory: u64, name: &[u8]) -> Result<Option<Inode>> {
    super::get(read, &key_of(directory, name))
}

pub(crate) fn put(pending: &mut Pending, directory: u64, name: &[u8], inode: &Inode) {
    put_record(pending, key_of(directory, name), inode);
}

pub(crate) fn delete(pending: &mut Pending, directory: u64, name: &[u8]) {
    pending.delete(key_of(directory, name));
}

/// The entries of a directory in name order, those after `start_after` (empty: from the first).
pub(crate) fn entries<'a>(
    read: &'a dyn Read,
    directory: u64,
    start_after: &[u8],
) -> impl Iterator<Item = Result<(Bytes, Inode)>> + 'a {
    let mut range = KeyRange::prefix(key_of(directory, b""));
    if !start_after.is_empty() {
        range = range.after(&key_of(directory, start_after));
    }
    read.scan(range, Direction::Forward).map(|row| {
        let (key, value) = row?;
        let inode = decode(&key, value)?;
        Ok((key.slice(PREFIX_LEN..), inode))
    })
}

/// Every entry of every directory: the directory, the name there, and the inode.
pub(crate) fn all(read: &dyn Read) -> impl Iterator<Item = Result<(u64, Bytes, Inode)>> + '_ {
    read.scan(KeyRange::prefix(&[kind::INODE][..]), Direction::Forward).map(|row| {
        let (key, value) = row?;
        let inode = decode(&key, value)?;
        let directory = last_u64(key.get(1..PREFIX_LEN).unwrap_or_default())?;
        Ok((directory, key.slice(PREFIX_LEN..), inode))
    })
}

/// Whether a directory has no entry.
pub(crate) fn is_empty(read: &dyn Read, directory: u64) -> Result<bool> {
    let range = KeyRange::prefix(key_of(directory, b""));
    match read.scan(range, Direction::Forward).next() {
        None => Ok(true),
        Some(row) => Ok(row.map(|_| false)?),
    }
}
