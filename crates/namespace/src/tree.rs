//! What commands share: finding a path, the rules that guard it, and the steps by which the tree changes.

mod directories;
mod guard;
mod intents;
mod limits;
mod mounts;
mod site;
mod trash;
mod writes;

pub(crate) use directories::{Attributes, Entries, check_empty, make_directories, not_empty, touch};
pub(crate) use guard::{
    check_no_blocker, check_no_blocker_below, check_no_mount_at_or_below, check_no_rename_at_or_below,
    check_no_write_at_or_below, check_writable, has_mount_below, has_write_at_or_below,
};
pub(crate) use intents::{end_intent, intents_of_mount, unblock};
pub use limits::check_sizes;
pub(crate) use limits::{check_attributes, check_batch, check_xattr_names, check_xattrs};
pub(crate) use mounts::{check_mount_spec, existing_mount, sizes};
pub(crate) use site::{Site, parse_path};
pub(crate) use trash::{Purge, bump_generation_of_key, discard};
pub(crate) use writes::{abandon, gone, live_write, release_write};
