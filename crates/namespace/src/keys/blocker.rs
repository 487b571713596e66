//! `B, mount (u32), key → Blockers`: keys of stores that may not be loaded or created for now.

use super::{Pending, Result, key, kind};
use crate::record::{Blocker, Blockers};
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, Read};

fn key_of(mount: u32, path: &[u8]) -> Bytes {
    key(kind::BLOCKER, &[&mount.to_be_bytes(), path])
}

/// What blocks exactly this key.
pub(crate) fn get(read: &dyn Read, mount: u32, path: &[u8]) -> Result<Option<Blockers>> {
    super::get(read, &key_of(mount, path))
}

/// Adds a blocker. Gives the change in the number of blocked keys.
pub(crate) fn add(pending: &mut Pending, mount: u32, path: &[u8], blocker: Blocker) -> Result<u64> {
    let before = get(pending, mount, path)?;
    let added = u64::from(before.is_none());
    let mut blockers = before.unwrap_or_default();
    match blocker {
        Blocker::Trash(entry) => blockers.trash.push(entry),
        Blocker::Rename(intent) => blockers.renames.push(intent),
    }
    super::put(pending, key_of(mount, path), &blockers);
    Ok(added)
}

/// Takes a blocker away. Gives the change in the number of blocked keys.
pub(crate) fn remove(pending: &mut Pending, mount: u32, path: &[u8], blocker: Blocker) -> Result<u64> {
    let Some(mut blockers) = get(pending, mount, path)? else {
        return Ok(0);
    };
    match blocker {
        Blocker::Trash(entry) => blockers.trash.retain(|other| *other != entry),
        Blocker::Rename(intent) => blockers.renames.retain(|other| *other != intent),
    }
    if blockers.trash.is_empty() && blockers.renames.is_empty() {
        pending.delete(key_of(mount, path));
        return Ok(1);
    }
    super::put(pending, key_of(mount, path), &blockers);
    Ok(0)
}

/// Those of a mount whose keys come after `after`, in order.
pub(crate) fn scan<'a>(
    read: &'a dyn Read,
    mount: u32,
    after: Option<&[u8]>,
) -> impl Iterator<Item = Result<(Bytes, Blockers)>> + 'a {
    let prefix = key_of(mount, b"");
    let key_at = prefix.len();
    let range = match after {
        Some(after) => KeyRange::prefix(prefix).after(&key_of(mount, after)),
        None => KeyRange::prefix(prefix),
    };
    read.scan(range, Direction::Forward).map(move |row| {
        let (key, value) = row?;
        Ok((key.slice(key_at..), super::decode(&key, value)?))
    })
}

/// What blocks this key or one above it, the nearest.
pub(crate) fn at_or_above(read: &dyn Read, mount: u32, path: &[u8]) -> Result<Option<Blockers>> {
    let mut at = path;
    loop {
        let found = get(read, mount, at)?;
        if found.is_some() || at.is_empty() {
            return Ok(found);
        }
        let parent_len = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        at = &at[..parent_len];
    }
}

/// Whether anything below this key is blocked.
pub(crate) fn any_below(read: &dyn Read, mount: u32, path: &[u8]) -> Result<bool> {
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    let prefix = key(kind::BLOCKER, &[&mount.to_be_bytes(), path, slash]);
    match read.scan(KeyRange::prefix(prefix), Direction::Forward).next() {
        None => Ok(false),
        Some(row) => Ok(row.map(|_| true)?),
    }
}
