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
mod build;
mod consensus;
mod error;
mod finishing;
mod forming;
mod leadership;
mod listener;
mod log;
mod log_store;
mod members;
mod membership;
mod messages;
mod metrics;
mod missing;
mod network;
mod observer;
mod raft_types;
mod restored;
mod runtime;
mod settings;
#[cfg(feature = "simulation")]
pub mod simulation;
mod snapshot_receive;
mod snapshot_send;
mod start;
mod state_machine;
mod status;
mod transport;
mod window;
mod worker;

pub use build::{Build, MembersHeld};
pub use consensus::Consensus;
pub use error::{ChangeError, ConsensusError, OpenError};
pub use leadership::Lead;
pub use log::{LogEntry, LogEntryKind, LogFile, inspect_log};
pub use members::applied_index;
pub use observer::Observer;
pub use restored::AppliedAt;
pub use settings::{Formation, Member, MemberId, Settings};
pub use state_machine::{Batch, Entry, Flush, StateMachine, StateMachineError};
pub use status::{PeerStatus, Status};
pub use transport::{Transport, TransportError};

#[cfg(test)]
extern crate self as forebay_consensus;
#[cfg(test)]
#[path = "../tests/it/ledger.rs"]
mod ledger;
#[cfg(test)]
mod messages_tests;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod wire_tests;
