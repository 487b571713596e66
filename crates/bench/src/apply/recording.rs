//! A store that keeps a copy of each batch that is written to it.

use bytes::Bytes;
use forebay_metastore::{Batch, Direction, KeyRange, Read, Result, Rows, Snapshot, Store};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// Passes everything on to a store.
pub(super) struct Recording {
    store: Arc<dyn Store>,
    batches: Mutex<Vec<Batch>>,
}

impl Recording {
    pub(super) fn new(store: Arc<dyn Store>) -> Recording {
        Recording { store, batches: Mutex::default() }
    }

    /// The batches since the last call, in order.
    pub(super) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.batches.lock())
    }
}

impl Read for Recording {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.store.scan(range, direction)
    }
}

impl Store for Recording {
    fn write(&self, batch: Batch) -> Result<()> {
        self.batches.lock().push(batch.clone());
        self.store.write(batch)
    }

    fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        self.store.checkpoint(directory)
    }

    fn approximate_size(&self) -> Result<u64> {
        self.store.approximate_size()
    }
}
