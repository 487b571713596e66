//! What the store holds under the keys of [`crate::keys`]: protobuf messages, described in docs/formats/namespace.md.

mod inode;
mod intent;
mod mount;
mod session;
mod state;
mod trash;
mod write;

pub use inode::{BLOCK_SIZE_DEFAULT, Inode, Kind, PAGE_SIZE_DEFAULT, Xattr};
pub use intent::{Copied, IntentPhase, RenameIntent};
pub use mount::{Mount, MountSpec, SYNC_NEVER};
pub use session::Session;
pub(crate) use state::{Counters, State};
pub use trash::{Blocker, Blockers, PurgePlace, TrashEntry};
pub use write::{Write, WriteType};
