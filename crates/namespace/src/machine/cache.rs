//! A cache of values in front of the store, for the apply thread and for queries alike.
//!
//! The one hard problem: a query reads one moment of the store, never older than what was acknowledged, while the cache changes under it.
//! Each batch makes a new *generation*. A cached value knows the generation that it was put in with, and is the key's value from
//! that one until the next change, which takes it out or replaces it. A [`View`] is a snapshot and its generation; it takes a cached value of its
//! own generation or an older one, and asks the snapshot for all else. Two rules make that exact:
//! - a view is made, and a value read from a snapshot is cached, only while no batch is being written and the generation is the snapshot's;
//! - a batch is written to the store and to the cache under the lock that excludes both.
//!
//! Nobody waits for that lock but the writer: a query that finds it taken reads a snapshot without the cache.

use crate::keys::is_read_one_by_one;
use bytes::Bytes;
use forebay_metastore::{Batch, Direction, KeyRange, Op, Read, Result, Rows, Snapshot, Store};
use parking_lot::{Mutex, RwLock};
use quick_cache::{Weighter, sync::Cache};
use std::sync::Arc;

/// What an entry costs beside its bytes, roughly.
const ENTRY_OVERHEAD: u64 = 128;

/// A value, and the generation that it was put in with.
#[derive(Clone)]
struct Cached {
    generation: u64,
    value: Bytes,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, Cached> for Weight {
    fn weight(&self, key: &Bytes, cached: &Cached) -> u64 {
        ENTRY_OVERHEAD + (key.len() + cached.value.len()) as u64
    }
}

/// What the store and its views share.
struct Values {
    cache: Cache<Bytes, Cached, Weight>,
    /// Held for writing while a batch is written.
    generation: RwLock<u64>,
}

impl Values {
    /// Caches what a snapshot of that generation says, if it still holds.
    fn fill(&self, key: &[u8], value: &Bytes, generation: u64) {
        if let Some(current) = self.generation.try_read()
            && *current == generation
        {
            self.cache.insert(Bytes::copy_from_slice(key), Cached { generation, value: value.clone() });
        }
    }
}

/// A store behind a cache of values. One thread at a time writes; nothing else writes to the store below.
pub(super) struct CachedStore {
    store: Arc<dyn Store>,
    values: Arc<Values>,
    /// The view of the current generation, once one was asked for. It pins nothing old: the next batch lets it go.
    view: Mutex<Option<Snapshot>>,
}

impl CachedStore {
    /// Keeps keys and values of about so many bytes; the least useful go.
    pub(super) fn new(store: Arc<dyn Store>, bytes_max: u64) -> CachedStore {
        let entries = (bytes_max / (2 * ENTRY_OVERHEAD)) as usize;
        let cache = Cache::with_weighter(entries, bytes_max, Weight);
        CachedStore { store, values: Arc::new(Values { cache, generation: RwLock::new(0) }), view: Mutex::new(None) }
    }

    /// The store as it is now: with everything that was written before the call.
    pub(super) fn snapshot(&self) -> Snapshot {
        let Some(generation) = self.values.generation.try_read() else {
            return self.store.snapshot();
        };
        let mut view = self.view.lock();
        let view = view.get_or_insert_with(|| {
            let (values, below) = (Arc::clone(&self.values), self.store.snapshot());
            Arc::new(View { values, generation: *generation, below })
        });
        Arc::clone(view)
    }

    /// Writes a batch to the store and to the cache.
    pub(super) fn write(&self, batch: Batch) -> Result<()> {
        // Clones share the bytes.
        let ops = batch.ops().to_vec();
        let mut generation = self.values.generation.write();
        *generation += 1;
        self.view.lock().take();
        if let Err(error) = self.store.write(batch) {
            self.values.cache.clear();
            return Err(error);
        }
        for op in ops {
            match op {
                Op::Put(key, value) if is_read_one_by_one(&key) => {
                    self.values.cache.insert(key, Cached { generation: *generation, value });
                }
                Op::Put(..) => {}
                Op::Delete(key) => {
                    self.values.cache.remove(&key);
                }
            }
        }
        Ok(())
    }
}

/// The apply thread's reads: it alone writes, so what is cached is current.
impl Read for CachedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if !is_read_one_by_one(key) {
            return self.store.get(key);
        }
        if let Some(cached) = self.values.cache.get(key) {
            return Ok(Some(cached.value));
        }
        let value = self.store.get(key)?;
        if let Some(value) = &value {
            let generation = *self.values.generation.read();
            self.values.fill(key, value, generation);
        }
        Ok(value)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.store.scan(range, direction)
    }
}

/// One moment of the store.
struct View {
    values: Arc<Values>,
    generation: u64,
    below: Snapshot,
}

impl Read for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if !is_read_one_by_one(key) {
            return self.below.get(key);
        }
        if let Some(cached) = self.values.cache.get(key)
            && cached.generation <= self.generation
        {
            return Ok(Some(cached.value));
        }
        let value = self.below.get(key)?;
        if let Some(value) = &value {
            self.values.fill(key, value, self.generation);
        }
        Ok(value)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.below.scan(range, direction)
    }
}
