//! Ending writes that are not completed.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::record::Write;
use crate::reply::Refusal;
use forebay_base::ErrorKind;

/// A write that is going on.
pub(crate) fn live_write(tx: &Tx, write: u64) -> Result<Write, Stop> {
    keys::write::get(&tx.pending, write)?.filter(|write| !write.abandoned).ok_or_else(|| gone(write).into())
}

/// The refusal of a write that does not go on any more.
pub(crate) fn gone(write: u64) -> Refusal {
    let message = format!("write {write} is gone: its lease ended, or the file was deleted or created anew meanwhile");
    Refusal::new(ErrorKind::NotFound, message).hint("write the file again")
}

/// Takes a write out of use, and says what it was; none when there is no such write or it was given up before. With an upload to abort, it stays listed as
/// abandoned; otherwise it is forgotten. The file is the caller's business.
pub(crate) fn release_write(tx: &mut Tx, write: u64) -> Result<Option<Write>, Stop> {
    let Some(mut write) = keys::write::get(&tx.pending, write)?.filter(|write| !write.abandoned) else {
        return Ok(None);
    };
    keys::write_path::delete(&mut tx.pending, &write);
    if write.upload.is_empty() {
        keys::write::delete(&mut tx.pending, write.id);
        tx.state.counters.writes -= 1;
    } else {
        write.abandoned = true;
        keys::write::put(&mut tx.pending, &write);
    }
    Ok(Some(write))
}

/// Gives up a write: a new file vanishes, an overwritten one keeps its content.
pub(crate) fn abandon(tx: &mut Tx, write: u64) -> Result<Option<Write>, Stop> {
    let Some(write) = release_write(tx, write)? else {
        return Ok(None);
    };
    let inode = keys::inode::get(&tx.pending, write.parent, &write.name)?;
    let Some(mut inode) = inode.filter(|inode| inode.id == write.inode && inode.write == write.id) else {
        return Ok(Some(write));
    };
    if inode.is_complete() {
        inode.write = 0;
        keys::inode::put(&mut tx.pending, write.parent, &write.name, &inode);
    } else {
        keys::inode::delete(&mut tx.pending, write.parent, &write.name);
        tx.state.counters.inodes -= 1;
    }
    Ok(Some(write))
}
