//! The one ordered key space: the first byte of a key is its kind, and each kind has its file here, with its typed reads and writes.
//!
//! Integers in keys are big-endian, so that they sort as numbers. Values are protobuf messages of [`crate::record`] unless said otherwise.

pub(crate) mod blocker;
pub(crate) mod copied;
pub(crate) mod directory;
pub(crate) mod inode;
pub(crate) mod intent;
pub(crate) mod mount;
pub(crate) mod reply;
pub(crate) mod session;
pub(crate) mod session_age;
pub(crate) mod state;
pub(crate) mod trash;
pub(crate) mod write;
pub(crate) mod write_path;

use crate::ApplyError;
use crate::record::{Blockers, Copied, Inode, Mount, RenameIntent, Session, State, TrashEntry, Write};
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Overlay, Read};
use prost::Message;
use std::sync::Arc;

/// Pending changes of the batch that is being applied.
pub(crate) type Pending = Overlay<Arc<dyn Read>>;

type Result<T> = std::result::Result<T, ApplyError>;

/// First bytes of keys. Never reuse one.
mod kind {
    pub(super) const BLOCKER: u8 = b'B';
    pub(super) const COPIED: u8 = b'C';
    pub(super) const DIRECTORY: u8 = b'D';
    pub(super) const INODE: u8 = b'I';
    pub(super) const INTENT: u8 = b'N';
    pub(super) const MOUNT: u8 = b'M';
    pub(super) const REPLY: u8 = b'R';
    pub(super) const SESSION: u8 = b'S';
    pub(super) const SESSION_AGE: u8 = b'A';
    pub(super) const STATE: u8 = b'!';
    pub(super) const TRASH: u8 = b'T';
    pub(super) const WRITE: u8 = b'W';
    pub(super) const WRITE_PATH: u8 = b'P';
}

/// A key of a kind: its parts one after the other.
fn key(kind: u8, parts: &[&[u8]]) -> Bytes {
    let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(len);
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key.into()
}

fn get<M: Message + Default>(read: &dyn Read, key: &[u8]) -> Result<Option<M>> {
    read.get(key)?.map(|value| decode(key, value)).transpose()
}

fn decode<M: Message + Default>(key: &[u8], value: Bytes) -> Result<M> {
    M::decode(value).map_err(|error| ApplyError::Corrupt(format!("the value of key {}: {error}", key.escape_ascii())))
}

fn put(pending: &mut Pending, key: Bytes, record: &impl Message) {
    pending.put(key, record.encode_to_vec());
}

/// The big-endian number in the last eight bytes of a key.
fn last_u64(key: &[u8]) -> Result<u64> {
    let bytes =
        key.last_chunk().ok_or_else(|| ApplyError::Corrupt(format!("key {} is too short", key.escape_ascii())))?;
    Ok(u64::from_be_bytes(*bytes))
}

/// The keys of all that stands for work in stores that was begun: renames in several steps, what they have copied, and what is blocked meanwhile.
pub(crate) fn of_work_in_stores(read: &dyn Read) -> impl Iterator<Item = Result<Bytes>> + '_ {
    [kind::BLOCKER, kind::COPIED, kind::INTENT].into_iter().flat_map(|kind| {
        let rows = read.scan(KeyRange::prefix(vec![kind]), Direction::Forward);
        rows.map(|row| Ok(row?.0))
    })
}

/// Reads a row whatever its kind is: the kind, and what its rows are.
pub(crate) fn check(key: &[u8], value: Bytes) -> Result<(char, &'static str)> {
    fn is<M: Message + Default>(key: &[u8], value: Bytes) -> Result<()> {
        decode::<M>(key, value).map(drop)
    }
    let unreadable = || ApplyError::Corrupt(format!("key {} is of no known kind", key.escape_ascii()));
    let kind = *key.first().ok_or_else(unreadable)?;
    let least = |bytes: usize| match key.len() > bytes {
        true => Ok(()),
        false => Err(ApplyError::Corrupt(format!("key {} is too short", key.escape_ascii()))),
    };
    let what = match kind {
        kind::BLOCKER => least(4).and(is::<Blockers>(key, value)).map(|()| "keys of stores that are blocked"),
        kind::COPIED => least(8).and(is::<Copied>(key, value)).map(|()| "objects that renames have copied"),
        kind::DIRECTORY if value.len() < 8 => {
            Err(ApplyError::Corrupt(format!("the place of a directory, {}, is too short", key.escape_ascii())))
        }
        kind::DIRECTORY => least(8).map(|()| "places of directories"),
        kind::INODE => least(8).and(is::<Inode>(key, value)).map(|()| "files and directories"),
        kind::INTENT => least(8).and(is::<RenameIntent>(key, value)).map(|()| "renames under way"),
        kind::MOUNT => least(4).and(is::<Mount>(key, value)).map(|()| "mounts"),
        kind::REPLY => least(16).map(|()| "replies that may be asked for again"),
        kind::SESSION => least(8).and(is::<Session>(key, value)).map(|()| "clients"),
        kind::SESSION_AGE => least(16).map(|()| "clients by the time of their last request"),
        kind::STATE => is::<State>(key, value).map(|()| "the state itself"),
        kind::TRASH => least(8).and(is::<TrashEntry>(key, value)).map(|()| "deletes under way"),
        kind::WRITE => least(8).and(is::<Write>(key, value)).map(|()| "writes under way"),
        kind::WRITE_PATH => least(12).map(|()| "paths that are being written"),
        _ => Err(unreadable()),
    };
    Ok((char::from(kind), what?))
}

/// Whether records of this kind are read one by one and again, so that a cache pays.
pub(crate) fn is_read_one_by_one(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(kind::INODE | kind::DIRECTORY | kind::WRITE | kind::SESSION)))
}
