//! The apply thread's view of the store: reads through a cache that only it fills and changes.
//!
//! Correct because one thread at a time applies and nothing else writes to the store: the cache is changed right after the batch is
//! written, and emptied when that fails. Queries do not use it.

use crate::keys::is_read_one_by_one;
use bytes::Bytes;
use forebay_metastore::{Batch, Direction, KeyRange, Op, Read, Result, Rows, Store};
use quick_cache::{Weighter, sync::Cache};
use std::sync::Arc;

/// Bytes of keys and values kept; the least useful go.
const CACHE_BYTES_MAX: u64 = 32 << 20;
/// What an entry costs beside its bytes, roughly.
const ENTRY_OVERHEAD: u64 = 128;

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Bytes> for Weight {
    fn weight(&self, key: &Bytes, value: &Bytes) -> u64 {
        ENTRY_OVERHEAD + (key.len() + value.len()) as u64
    }
}

/// A store behind a cache of values.
pub(super) struct CachedStore {
    store: Arc<dyn Store>,
    values: Cache<Bytes, Bytes, Weight>,
}

impl CachedStore {
    pub(super) fn new(store: Arc<dyn Store>) -> CachedStore {
        let entries = (CACHE_BYTES_MAX / (2 * ENTRY_OVERHEAD)) as usize;
        CachedStore { store, values: Cache::with_weighter(entries, CACHE_BYTES_MAX, Weight) }
    }

    /// Writes a batch to the store, then to the cache.
    pub(super) fn write(&self, batch: Batch) -> Result<()> {
        // Clones share the bytes.
        let ops = batch.ops().to_vec();
        if let Err(error) = self.store.write(batch) {
            self.values.clear();
            return Err(error);
        }
        for op in ops {
            match op {
                Op::Put(key, value) if is_read_one_by_one(&key) => self.values.insert(key, value),
                Op::Put(..) => {}
                Op::Delete(key) => {
                    self.values.remove(&key);
                }
            }
        }
        Ok(())
    }
}

impl Read for CachedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if let Some(value) = self.values.get(key) {
            return Ok(Some(value));
        }
        let value = self.store.get(key)?;
        if let Some(value) = &value
            && is_read_one_by_one(key)
        {
            self.values.insert(Bytes::copy_from_slice(key), value.clone());
        }
        Ok(value)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.store.scan(range, direction)
    }
}
