//! What the log applies its commands to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// A deterministic state machine that survives a restart by itself, at some applied position.
///
/// One thread owns it and calls it in log order. It keeps, beside its own data, one opaque blob: the position and
/// membership after the last applied batch ([`Batch::applied`]). The blob and the effects of the batch are one atomic
/// write: after a crash either both are there or neither. The write need not be durable: what was lost is applied again
/// from the log, which forgets nothing that [`Flush::flush`] has not reported as durable.
pub trait StateMachine: Send + 'static {
    /// Applies a batch and returns one reply for each entry, in order.
    ///
    /// Must be deterministic: the same entries give the same replies and state on every member. An error is fatal for the
    /// member; a command that is refused (a name that exists, say) is a reply, not an error.
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError>;

    /// The blob of the last applied batch; `None` when nothing was ever applied.
    fn applied(&self) -> Result<Option<Bytes>, StateMachineError>;

    /// The version of behaviour that the commands applied so far call for; it never goes down. A member whose program does not know it is not
    /// taken in, and takes nothing from those who have it.
    fn cluster_version(&self) -> u32 {
        1
    }

    /// A handle that makes the state durable from another thread, so that flushing does not stop applying.
    fn flusher(&self) -> Arc<dyn Flush>;

    /// Writes a consistent copy of the state, blob included, to the directory `target` (which does not exist yet), and returns
    /// the copy's blob. Meant to be cheap (hard links): it runs on the applying thread.
    fn checkpoint(&self, target: &Path) -> Result<Option<Bytes>, StateMachineError>;

    /// Replaces the whole state by the checkpoint in `source`, durably. A crash in the middle must leave the old state or
    /// the new one. The directory belongs to the state machine from now on (it may move or remove the files).
    fn install(&mut self, source: &Path) -> Result<(), StateMachineError>;
}

/// Makes a [`StateMachine`] durable; called from any thread, one call at a time.
pub trait Flush: Send + Sync + 'static {
    /// When this returns, every batch that was applied before the call survives a crash. Returns the blob of a
    /// batch that is durable now: that of the last one applied before the call, or of a later one.
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError>;
}

/// Entries to apply together.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The commands in log order; may be empty, when just the position or the membership moves.
    pub entries: &'a [Entry],
    /// The blob to store in the same atomic write, replacing the previous one. About 100 bytes.
    pub applied: &'a Bytes,
}

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its index in the log: grows from entry to entry, with gaps where the log has entries of its own.
    pub index: u64,
    /// The bytes that were proposed.
    pub command: Bytes,
}

/// Why a state machine cannot go on. The member stops.
#[derive(Debug, thiserror::Error)]
#[error("state machine failed: {0}")]
pub struct StateMachineError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StateMachineError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StateMachineError {
        StateMachineError(cause.into())
    }
}
