//! What the members apply: the namespace on RocksDB, or nothing.

use bytes::Bytes;
use forebay_consensus::{Batch, Flush, StateMachine, StateMachineError};
use forebay_metastore::{RocksSettings, RocksStore, Store};
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The namespace, as a master has it under its log, with the same memory.
pub(super) struct Namespace {
    dir: PathBuf,
    /// The last directory below `dir`.
    generation: u64,
    namespace: forebay_namespace::StateMachine,
    flushed: Arc<Flushing>,
}

/// The store, and the blob of the last batch written to it.
struct Flushing(Mutex<(Arc<dyn Store>, Option<Bytes>)>);

/// A master's default.
const CACHE_BYTES: u64 = 64 << 20;

fn open(dir: &Path, generation: u64) -> Result<forebay_namespace::StateMachine, StateMachineError> {
    let store = RocksStore::open(&dir.join(generation.to_string()), &RocksSettings::default());
    let store = Arc::new(store.map_err(StateMachineError::new)?);
    forebay_namespace::StateMachine::open_with(store, CACHE_BYTES).map_err(StateMachineError::new)
}

impl Namespace {
    /// An empty one in `dir`, which is made.
    pub(super) fn begin(dir: &Path) -> Result<Namespace, StateMachineError> {
        fs::create_dir_all(dir).map_err(StateMachineError::new)?;
        let namespace = open(dir, 0)?;
        let flushed = Arc::new(Flushing(Mutex::new((namespace.store().clone(), None))));
        Ok(Namespace { dir: dir.to_owned(), generation: 0, namespace, flushed })
    }
}

impl StateMachine for Namespace {
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        let entries: Vec<(Bytes, Bytes)> = match batch.entries {
            // Only the position moves.
            [] => vec![(batch.applied.clone(), Bytes::new())],
            entries => entries.iter().map(|entry| (batch.applied.clone(), entry.command.clone())).collect(),
        };
        let mut replies = self.namespace.apply(&entries).map_err(StateMachineError::new)?;
        replies.truncate(batch.entries.len());
        self.flushed.0.lock().1 = Some(batch.applied.clone());
        Ok(replies)
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        let position = self.namespace.applied_position();
        Ok((!position.is_empty()).then(|| position.clone()))
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        self.flushed.clone()
    }

    fn checkpoint(&self, target: &Path) -> Result<Option<Bytes>, StateMachineError> {
        self.namespace.store().checkpoint(target).map_err(StateMachineError::new)?;
        self.applied()
    }

    /// Not safe against a crash, after which nothing is opened again here.
    fn install(&mut self, source: &Path) -> Result<(), StateMachineError> {
        let generation = self.generation + 1;
        fs::rename(source, self.dir.join(generation.to_string())).map_err(StateMachineError::new)?;
        self.namespace = open(&self.dir, generation)?;
        self.generation = generation;
        *self.flushed.0.lock() = (self.namespace.store().clone(), self.applied()?);
        Ok(())
    }
}

impl Flush for Flushing {
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError> {
        let (store, applied) = self.0.lock().clone();
        store.flush().map_err(StateMachineError::new)?;
        Ok(applied)
    }
}

/// Keeps just the position: what is left is the log.
#[derive(Default)]
pub(super) struct Nothing(Option<Bytes>);

struct NeverDurable;

impl StateMachine for Nothing {
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        self.0 = Some(batch.applied.clone());
        Ok(vec![Bytes::new(); batch.entries.len()])
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(self.0.clone())
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        Arc::new(NeverDurable)
    }

    fn checkpoint(&self, _: &Path) -> Result<Option<Bytes>, StateMachineError> {
        Err(StateMachineError::new("this state machine has no files"))
    }

    fn install(&mut self, _: &Path) -> Result<(), StateMachineError> {
        Err(StateMachineError::new("this state machine has no files"))
    }
}

impl Flush for NeverDurable {
    /// So that the log forgets nothing, and nobody needs a snapshot.
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(None)
    }
}
