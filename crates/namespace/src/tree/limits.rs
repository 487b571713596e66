//! Bounds of what a command may carry.

use crate::BATCH_MAX;
use crate::record::Xattr;
use crate::reply::Refusal;
use bytes::Bytes;
use forebay_base::{ErrorKind, checksum::CHECKSUM_CHUNK};

/// Bytes of an owner's or group's name.
const PRINCIPAL_LEN_MAX: usize = 255;
/// Bytes of an extended attribute's name (Linux `XATTR_NAME_MAX`).
const XATTR_NAME_LEN_MAX: usize = 255;
/// Bytes of all extended attributes of an inode, names and values: they lie inline, and a listing reads past them.
const XATTRS_LEN_MAX: usize = 16 << 10;
/// Bytes of a page: it is read into memory whole.
const PAGE_SIZE_MAX: u32 = 64 << 20;

fn refuse(message: String) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorKind::InvalidArgument, message))
}

/// Bounds the entries of a batch.
pub(crate) fn check_batch(entries: usize) -> Result<(), Refusal> {
    if entries > BATCH_MAX {
        return refuse(format!("a batch of {entries} entries is too large: at most {BATCH_MAX} are allowed"));
    }
    Ok(())
}

/// Bounds names of owners and groups, and permission bits.
pub(crate) fn check_attributes(owner: &str, group: &str, mode: u32) -> Result<(), Refusal> {
    for (what, name) in [("owner", owner), ("group", group)] {
        if name.len() > PRINCIPAL_LEN_MAX {
            return refuse(format!(
                "{what} of {} bytes is too long: at most {PRINCIPAL_LEN_MAX} are allowed",
                name.len()
            ));
        }
    }
    if mode > 0o7777 {
        return refuse(format!("mode {mode:o} has bits beyond 7777"));
    }
    Ok(())
}

/// Bounds the extended attributes of an inode.
pub(crate) fn check_xattrs(xattrs: &[Xattr]) -> Result<(), Refusal> {
    xattrs.iter().try_for_each(|xattr| check_xattr_name(&xattr.name))?;
    let len: usize = xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
    if len > XATTRS_LEN_MAX {
        return refuse(format!(
            "extended attributes of {len} bytes are too large: at most {XATTRS_LEN_MAX} bytes, names and values together, are allowed"
        ));
    }
    Ok(())
}

/// Bounds a list of names of extended attributes: one inode has no more.
pub(crate) fn check_xattr_names(names: &[Bytes]) -> Result<(), Refusal> {
    names.iter().try_for_each(|name| check_xattr_name(name))?;
    let len: usize = names.iter().map(Bytes::len).sum();
    if len > XATTRS_LEN_MAX {
        return refuse(format!(
            "{} names of extended attributes have {len} bytes: an inode's have at most {XATTRS_LEN_MAX}",
            names.len()
        ));
    }
    Ok(())
}

fn check_xattr_name(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > XATTR_NAME_LEN_MAX || name.contains(&0) {
        return refuse(format!(
            "{:?} cannot be the name of an extended attribute: 1 to {XATTR_NAME_LEN_MAX} bytes without NUL are allowed",
            String::from_utf8_lossy(&name[..name.len().min(64)])
        ));
    }
    Ok(())
}

/// Checks the sizes that a file is cut into.
pub fn check_sizes(block_size: u64, page_size: u32) -> Result<(), Refusal> {
    if !page_size.is_power_of_two() || (page_size as usize) < CHECKSUM_CHUNK || page_size > PAGE_SIZE_MAX {
        return refuse(format!(
            "a page of {page_size} bytes is not possible: a power of two from {CHECKSUM_CHUNK} to {PAGE_SIZE_MAX} is needed"
        ));
    }
    if block_size == 0 || !block_size.is_multiple_of(u64::from(page_size)) {
        return refuse(format!(
            "a block of {block_size} bytes is not possible: a multiple of the page size, {page_size} bytes, is needed"
        ));
    }
    Ok(())
}
