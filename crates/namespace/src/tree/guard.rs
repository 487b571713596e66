//! Rules that keep the tree, the stores and the work in progress apart.

use super::Site;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::reply::{Reason, Refusal};
use forebay_base::{ErrorKind, NsPath};

/// Refuses a change below a read-only mount.
pub(crate) fn check_writable(site: &Site) -> Result<(), Refusal> {
    match &site.mount {
        Some(mount) if mount.spec.read_only => {
            let message = format!("{} lies in a read-only mount", site.path);
            Err(Refusal::new(ErrorKind::PermissionDenied, message)
                .because(Reason::ReadOnly)
                .hint("forebay mount update --read-only=false makes it writable"))
        }
        _ => Ok(()),
    }
}

/// Refuses a path whose objects, or those of a directory above it, are being deleted or renamed.
pub(crate) fn check_no_blocker(tx: &Tx, site: &Site) -> Result<(), Stop> {
    if tx.state.counters.blocked_keys == 0 {
        return Ok(());
    }
    match keys::blocker::at_or_above(&tx.pending, site.mount_number(), &site.key)? {
        None => Ok(()),
        Some(_) => Err(blocked(&site.path).into()),
    }
}

/// Refuses a directory below which objects are still being deleted or renamed.
pub(crate) fn check_no_blocker_below(tx: &Tx, site: &Site) -> Result<(), Stop> {
    if tx.state.counters.blocked_keys == 0 {
        return Ok(());
    }
    match keys::blocker::any_below(&tx.pending, site.mount_number(), &site.key)? {
        false => Ok(()),
        true => Err(blocked(&site.path).into()),
    }
}

/// Refuses a directory below which something is being renamed.
pub(crate) fn check_no_rename_at_or_below(tx: &Tx, site: &Site) -> Result<(), Stop> {
    if tx.state.counters.intents == 0 {
        return Ok(());
    }
    for intent in keys::intent::scan(&tx.pending, 0) {
        let intent = intent?;
        for path in [&intent.from, &intent.to] {
            if super::parse_path(path)?.starts_with(&site.path) {
                return Err(blocked(&site.path).into());
            }
        }
    }
    Ok(())
}

fn blocked(path: &NsPath) -> Refusal {
    let message = format!("objects at {path} are still being deleted or renamed in the store");
    Refusal::new(ErrorKind::Unavailable, message).because(Reason::Blocked).hint("try again in a moment")
}

/// Whether a mount point lies below a path.
pub(crate) fn has_mount_below(tx: &Tx, path: &NsPath) -> bool {
    mounts_at_or_below(tx, path).any(|at| at.len() > path.as_bytes().len())
}

fn mounts_at_or_below<'a>(tx: &'a Tx, path: &'a NsPath) -> impl Iterator<Item = &'a [u8]> + 'a {
    let path = path.as_bytes();
    tx.mounts.values().map(|mount| &mount.path[..]).filter(move |at| {
        path == b"/" || at.strip_prefix(path).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    })
}

/// Refuses a mount point, or a directory with one below, where it would vanish or move.
pub(crate) fn check_no_mount_at_or_below(tx: &Tx, path: &NsPath) -> Result<(), Refusal> {
    match mounts_at_or_below(tx, path).next() {
        None => Ok(()),
        Some(at) => {
            let at = String::from_utf8_lossy(at);
            let message = format!("{path} cannot be moved, replaced or deleted: a store is mounted on {at}");
            Err(Refusal::new(ErrorKind::InvalidArgument, message)
                .because(Reason::MountPoint)
                .hint(format!("forebay mount remove {at} unmounts it and leaves the store untouched")))
        }
    }
}

/// Whether a file at or below a key of a mount is being written. Writes of files that lie in the trash do not count.
pub(crate) fn has_write_at_or_below(tx: &Tx, mount: u32, key: &[u8]) -> Result<bool, Stop> {
    if tx.state.counters.writes == 0 {
        return Ok(false);
    }
    for write in keys::write_path::below(&tx.pending, mount, key) {
        let Some(write) = keys::write::get(&tx.pending, write?)? else {
            continue;
        };
        let (_, top) = keys::directory::chain(&tx.pending, write.parent)?;
        if top == keys::directory::Top::Root {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses where a file at or below is being written: its object has the key that it began with.
pub(crate) fn check_no_write_at_or_below(tx: &Tx, site: &Site) -> Result<(), Stop> {
    if !has_write_at_or_below(tx, site.mount_number(), &site.key)? {
        return Ok(());
    }
    let message = format!("a file at or below {} is being written", site.path);
    Err(Refusal::new(ErrorKind::Conflict, message)
        .because(Reason::BeingWritten)
        .hint("try again when its writer is done")
        .into())
}
