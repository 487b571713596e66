//! The namespace: a deterministic state machine over an ordered key-value store.
//!
//! A [`command::Command`] is one entry of the replicated log. [`StateMachine::apply`] carries out many in one atomic batch, together with
//! the applied position, and gives a [`reply`] for each. [`query`] reads any snapshot, in any number of threads.
//! What lies in the store is in [`record`] and [`keys`]; docs/formats/namespace.md describes it.
//!
//! There is no clock, no chance and no I/O but the store's in here: equal commands in equal order give equal states, wherever
//! batches begin and end.

pub mod census;
pub mod command;
pub mod keys;
mod machine;
pub mod query;
pub mod record;
pub mod reply;
pub mod restored;
mod tree;
pub mod versions;

pub use command::{Action, Command, Request};
pub use machine::{ApplyError, Reader, StateMachine};
pub use record::{Inode, Kind, Mount, MountSpec, Write};
pub use reply::{Outcome, Payload, Reason, Refusal};
pub use tree::check_sizes;

use forebay_base::InodeId;

/// The hidden directory whose entries are the deleted inodes, by number.
pub const TRASH: InodeId = InodeId(2);

/// The most entries of one command that carries a batch.
pub const BATCH_MAX: usize = 1000;
