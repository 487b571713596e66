//! The replicated log under the state machine: a command is acknowledged once a quorum has it on disk and it is applied.
//!
//! Parts: [`StateMachine`] is what the caller brings; [`Consensus`] orders commands into it. Inside, openraft decides,
//! a segmented log on disk keeps the entries (one flusher thread, many appends a sync), and one thread applies them in
//! batches. No type of openraft leaves this crate.
//!
//! Invariants:
//! - No reply before the entry is synced on a quorum and applied here.
//! - A vote is on disk before any entry of its term.
//! - The log forgets only what the state machine has flushed.
//! - After a failed write or sync the member acknowledges nothing more: [`Consensus::failed`] resolves and the process must end.

mod applier;
mod apply_thread;
mod consensus;
mod error;
mod log;
mod log_store;
mod members;
mod network;
mod raft_types;
mod settings;
mod start;
mod state_machine;

pub use consensus::{Consensus, Status};
pub use error::{ConsensusError, OpenError};
pub use settings::{Member, MemberId, Settings};
pub use state_machine::{Batch, Entry, Flush, StateMachine, StateMachineError};

#[cfg(test)]
extern crate self as forebay_consensus;
#[cfg(test)]
#[path = "../tests/ledger/mod.rs"]
mod ledger;
#[cfg(test)]
mod suite_tests;
