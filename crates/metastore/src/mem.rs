//! A store in memory: for tests and the simulation, crashes included.

use crate::{Batch, Direction, KeyRange, Op, Read, Result, Row, Rows, Snapshot, Store};
use bytes::Bytes;
use parking_lot::RwLock;
use rpds::RedBlackTreeMapSync;
use std::{ops::Bound, path::Path, sync::Arc};

/// A map whose copies share what they have in common, so that a snapshot costs one reference count.
type Map = RedBlackTreeMapSync<Bytes, Bytes>;

/// A store in memory. Nothing survives the process; [`MemStore::crashed`] plays the loss of what was not flushed.
#[derive(Default)]
pub struct MemStore {
    state: RwLock<State>,
    keeps_history: bool,
}

#[derive(Default)]
struct State {
    now: Map,
    /// What a crash would leave at least.
    flushed: Map,
    /// The map after each batch since the last flush; kept only by a store made for crashes.
    unflushed: Vec<Map>,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> MemStore {
        MemStore::default()
    }

    /// An empty store that can play a crash. It keeps a handle on every state since the last flush.
    pub fn for_crashes() -> MemStore {
        MemStore { keeps_history: true, ..MemStore::default() }
    }

    /// The number of batches that a crash may lose.
    pub fn unflushed_batches(&self) -> usize {
        self.state.read().unflushed.len()
    }

    /// What is left after a crash at which the first `batches_kept` unflushed batches had reached the disk by chance.
    pub fn crashed(&self, batches_kept: usize) -> MemStore {
        assert!(self.keeps_history, "made by MemStore::for_crashes");
        let state = self.state.read();
        let left = match batches_kept {
            0 => &state.flushed,
            n => &state.unflushed[n - 1],
        };
        MemStore {
            state: RwLock::new(State { now: left.clone(), flushed: left.clone(), unflushed: Vec::new() }),
            keeps_history: true,
        }
    }
}

impl Read for MemStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.state.read().now.get(key).cloned())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        Box::new(Scan { map: self.state.read().now.clone(), range, direction })
    }
}

impl Store for MemStore {
    fn write(&self, batch: Batch) -> Result<()> {
        let mut state = self.state.write();
        for op in batch.into_ops() {
            match op {
                Op::Put(key, value) => state.now.insert_mut(key, value),
                Op::Delete(key) => {
                    state.now.remove_mut(&key[..]);
                }
            }
        }
        if self.keeps_history {
            let now = state.now.clone();
            state.unflushed.push(now);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.state.write();
        state.flushed = state.now.clone();
        state.unflushed.clear();
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(Frozen(self.state.read().now.clone()))
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        checkpoint_file::write(directory, &self.state.read().now)
    }

    fn approximate_size(&self) -> Result<u64> {
        let state = self.state.read();
        let bytes = state.now.iter().map(|(key, value)| key.len() + value.len());
        Ok(bytes.sum::<usize>() as u64)
    }
}

impl MemStore {
    /// The store that [`Store::checkpoint`] put into `directory`.
    pub fn open_checkpoint(directory: &Path) -> Result<MemStore> {
        let now = checkpoint_file::read(directory)?;
        Ok(MemStore {
            state: RwLock::new(State { flushed: now.clone(), now, unflushed: Vec::new() }),
            keeps_history: false,
        })
    }
}

/// One moment of the map.
struct Frozen(Map);

impl Read for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        Box::new(Scan { map: self.0.clone(), range, direction })
    }
}

/// What is left of a scan. Owns its map, so that no lock is held between two rows.
struct Scan {
    map: Map,
    range: KeyRange,
    direction: Direction,
}

impl Scan {
    fn step(&mut self) -> Option<Row> {
        if self.range.is_empty() {
            return None;
        }
        let start = Bound::Included(self.range.start());
        let end = self.range.end().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.map.range::<[u8], _>((start, end));
        let (key, value) = match self.direction {
            Direction::Forward => rows.next()?,
            Direction::Backward => rows.next_back()?,
        };
        Some((key.clone(), value.clone()))
    }
}

impl Iterator for Scan {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.step()?;
        let rest = std::mem::replace(&mut self.range, KeyRange::all());
        self.range = match self.direction {
            Direction::Forward => rest.after(&row.0),
            Direction::Backward => rest.before(&row.0),
        };
        Some(Ok(row))
    }
}

/// Rows as `length (u32, little-endian), bytes`, key before value.
mod checkpoint_file {
    use super::Map;
    use crate::{Result, StoreError};
    use bytes::{Buf, Bytes};
    use std::{fs, io::Error, path::Path};

    const NAME: &str = "rows";

    pub(super) fn write(directory: &Path, map: &Map) -> Result<()> {
        let mut out = Vec::new();
        for bytes in map.iter().flat_map(|(key, value)| [key, value]) {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        fs::create_dir(directory)
            .and_then(|()| fs::write(directory.join(NAME), out))
            .map_err(|error| io_error(directory, &error))
    }

    pub(super) fn read(directory: &Path) -> Result<Map> {
        let file = fs::read(directory.join(NAME)).map_err(|error| io_error(directory, &error))?;
        let mut file = Bytes::from(file);
        let mut map = Map::default();
        let mut next = || {
            let len = file.try_get_u32_le().ok()? as usize;
            (len <= file.len()).then(|| file.split_to(len))
        };
        while let Some(key) = next() {
            let value = next().ok_or_else(|| StoreError::Corrupt {
                directory: directory.to_owned(),
                what: "a key without a value".to_owned(),
            })?;
            map.insert_mut(key, value);
        }
        Ok(map)
    }

    fn io_error(directory: &Path, error: &Error) -> StoreError {
        StoreError::Io { directory: directory.to_owned(), what: error.to_string() }
    }
}
