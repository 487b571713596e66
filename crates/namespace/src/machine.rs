//! The state machine: takes commands from the log, gives replies.

use bytes::Bytes;
use forebay_metastore::{Store, StoreError};
use std::sync::Arc;

/// Why the state machine cannot go on. The member must stop: its state is as it was before the call, and the log can be replayed
/// once the cause is mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A command of the log cannot be read: a newer version wrote it, or the log is damaged.
    #[error(
        "a command of the log cannot be read ({0}): this version may be older than the cluster's"
    )]
    UnreadableCommand(String),
    /// A record of the store cannot be read, or records contradict each other.
    #[error("the metadata is damaged: {0}")]
    Corrupt(String),
}

/// The namespace of one member. One thread applies; any number read [`StateMachine::store`] through [`crate::query`].
pub struct StateMachine {
    store: Arc<dyn Store>,
}

impl StateMachine {
    /// Takes a store that nothing else writes to. An empty one becomes a tree of nothing but `/`.
    pub fn open(store: Arc<dyn Store>) -> Result<StateMachine, ApplyError> {
        Ok(StateMachine { store })
    }

    /// The store, for queries, flushes and checkpoints.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The position given with the last entry applied (durable only as far as the store was flushed); empty in a new store.
    pub fn applied_position(&self) -> Result<Bytes, ApplyError> {
        unimplemented!()
    }

    /// Applies entries of the log in order, in one atomic batch with the last one's position. Each entry is an opaque position and the bytes
    /// of a [`crate::Command`]; no bytes are an entry without a command (of a new leader, or of a membership change), whose reply is empty.
    ///
    /// The replies are [`crate::reply::encode`]d. The batch is visible to readers but not durable; see [`Store::flush`].
    pub fn apply(&mut self, entries: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>, ApplyError> {
        let _ = entries;
        unimplemented!()
    }
}
