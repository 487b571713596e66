//! The mount table.

use super::check_sizes;
use crate::machine::{Stop, Tx};
use crate::record::{BLOCK_SIZE_DEFAULT, Mount, MountSpec, PAGE_SIZE_DEFAULT};
use crate::reply::Refusal;
use forebay_base::ErrorKind;
use prost::Message;

/// Bytes of all that a mount says, options and secrets included.
const SPEC_LEN_MAX: usize = 64 << 10;

/// A mount by its number.
pub(crate) fn existing_mount(tx: &Tx, mount: u32) -> Result<Mount, Stop> {
    match tx.mounts.get(&mount) {
        Some(mount) => Ok(Mount::clone(mount)),
        None => Err(Refusal::new(ErrorKind::NotFound, format!("mount {mount} does not exist")).into()),
    }
}

/// Bytes of a block and of a page of files that come from a mount.
pub(crate) fn sizes(spec: &MountSpec) -> (u64, u32) {
    let block_size = if spec.block_size == 0 { BLOCK_SIZE_DEFAULT } else { spec.block_size };
    let page_size = if spec.page_size == 0 { PAGE_SIZE_DEFAULT } else { spec.page_size };
    (block_size, page_size)
}

/// Checks what a mount says as far as the state machine reads it.
pub(crate) fn check_mount_spec(spec: &MountSpec) -> Result<(), Refusal> {
    let len = spec.encoded_len();
    if len > SPEC_LEN_MAX {
        let message = format!("mount settings of {len} bytes are too large: at most {SPEC_LEN_MAX} are allowed");
        return Err(Refusal::new(ErrorKind::InvalidArgument, message));
    }
    let (block_size, page_size) = sizes(spec);
    check_sizes(block_size, page_size)
}
