//! Reading the namespace from any snapshot of its store: no locks, no changes.
//!
//! Take one snapshot for one request ([`forebay_metastore::Store::snapshot`]), ask it as often as needed, drop it.

mod copied;
mod find;
mod list;
mod mounts;
mod path;
mod state;
mod sync;
mod trash;
mod walk;
mod writes;

pub use copied::{copied, last_copied, next_copied_intent};
pub use find::find;
pub use list::{Entry, list, lookup};
pub use mounts::{join_key, key_in, mount, mount_of, mounts};
pub use path::{Resolved, Step, path_of, resolve};
pub use state::{Summary, applied_position, has_begun, rename_intents, reply_of, summary};
pub use sync::{SyncBase, blockers, sync_base};
pub use trash::{Trashed, trash, trash_below, trash_of_mount, trash_page};
pub use walk::{ContentSummary, Walk, Walked, content_summary};
pub use writes::{abandoned_writes, expired_writes, mounts_with_abandoned_writes, write, writes, writes_below};

use crate::ApplyError;

/// The result of a query.
pub type Result<T> = std::result::Result<T, ApplyError>;
