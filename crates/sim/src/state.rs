//! The state of a member: the real namespace on a store in memory, which forgets what was not flushed when its machine stops.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use forebay_consensus::{Batch, Flush, StateMachine, StateMachineError};
use forebay_metastore::{Batch as Rows, Direction, KeyRange, MemStore, Op, Read, Snapshot, Store, StoreError};
use forebay_namespace::{Reader, query};
use forebay_vtime::Chance;
use parking_lot::Mutex;

use crate::checks::Checks;

/// Records kept in front of the store: few, so that some come from it.
const CACHE_BYTES: u64 = 8 << 10;

/// First bytes of keys that remember what clients were answered.
const REPLIES: [u8; 3] = *b"RSA";

/// What lies on the disk, and what reads it.
#[derive(Clone)]
pub(crate) struct State(Arc<Shared>);

struct Shared {
    generation: Mutex<Generation>,
    /// The blob of the last batch in the store.
    applied: Mutex<Option<Bytes>>,
}

struct Generation {
    store: Arc<Counted>,
    reader: Reader,
}

/// The state machine that a member drives.
pub(crate) struct Machine {
    member: u64,
    state: State,
    namespace: forebay_namespace::StateMachine,
    checks: Checks,
    /// A checkpoint lacks what clients were answered: a fault that is planted.
    forgets_replies: bool,
}

impl State {
    /// An empty one.
    pub(crate) fn new() -> State {
        State::on(Counted::on(MemStore::for_crashes(), 0)).expect("an empty store opens").0
    }

    /// What a machine finds after a stop: all that was flushed, and some of the rest.
    pub(crate) fn after_crash(&self, chance: &mut Chance) -> State {
        let store = self.0.generation.lock().store.clone();
        let kept = chance.below(store.store.unflushed_batches() as u64 + 1);
        let left = store.store.crashed(kept as usize);
        let digest = digest_of(&left).expect("a store in memory can be read");
        State::on(Counted::on(left, digest)).expect("what a crash leaves opens").0
    }

    /// The state machine over it.
    pub(crate) fn machine(
        &self,
        member: u64,
        checks: &Checks,
        forgets_replies: bool,
    ) -> Result<Machine, StateMachineError> {
        let store = self.0.generation.lock().store.clone();
        let namespace = open(&store)?;
        self.0.generation.lock().reader = namespace.reader();
        *self.0.applied.lock() = position(&namespace);
        Ok(Machine { member, state: self.clone(), namespace, checks: checks.clone(), forgets_replies })
    }

    /// The namespace as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.0.generation.lock().reader.snapshot()
    }

    fn on(store: Counted) -> Result<(State, forebay_namespace::StateMachine), StateMachineError> {
        let store = Arc::new(store);
        let namespace = open(&store)?;
        let applied = Mutex::new(position(&namespace));
        let generation = Mutex::new(Generation { store, reader: namespace.reader() });
        Ok((State(Arc::new(Shared { generation, applied })), namespace))
    }
}

fn open(store: &Arc<Counted>) -> Result<forebay_namespace::StateMachine, StateMachineError> {
    forebay_namespace::StateMachine::open_with(store.clone(), CACHE_BYTES).map_err(StateMachineError::new)
}

/// The blob of the last batch; none in a new state.
fn position(namespace: &forebay_namespace::StateMachine) -> Option<Bytes> {
    let position = namespace.applied_position();
    (!position.is_empty()).then(|| position.clone())
}

/// The index in a blob.
fn index_in(blob: &[u8]) -> u64 {
    let fields: Option<serde_json::Value> = serde_json::from_slice(blob).ok();
    fields.and_then(|fields| fields["index"].as_u64()).unwrap_or_default()
}

/// The index that a snapshot was taken after.
pub(crate) fn index_of(snapshot: &Snapshot) -> u64 {
    query::applied_position(&**snapshot).map(|blob| index_in(&blob)).unwrap_or_default()
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        let entries: Vec<(Bytes, Bytes)> = match batch.entries {
            // Only the position moves.
            [] => vec![(batch.applied.clone(), Bytes::new())],
            entries => entries.iter().map(|entry| (batch.applied.clone(), entry.command.clone())).collect(),
        };
        let mut replies = self.namespace.apply(&entries).map_err(StateMachineError::new)?;
        replies.truncate(batch.entries.len());
        for (entry, reply) in batch.entries.iter().zip(&replies) {
            self.checks.applied(self.member, entry.index, &entry.command, reply);
        }
        let digest = self.state.0.generation.lock().store.digest.load(Ordering::Relaxed);
        self.checks.state(self.member, index_in(batch.applied), digest);
        *self.state.0.applied.lock() = Some(batch.applied.clone());
        Ok(replies)
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(position(&self.namespace))
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        Arc::new(self.state.clone())
    }

    fn checkpoint(&self, target: &Path) -> Result<Option<Bytes>, StateMachineError> {
        let snapshot = self.namespace.store().snapshot();
        let whole = MemStore::new();
        let mut rows = Rows::new();
        for row in snapshot.scan(KeyRange::all(), Direction::Forward) {
            let (key, value) = row.map_err(StateMachineError::new)?;
            let is_reply = key.first().is_some_and(|kind| REPLIES.contains(kind));
            if !(is_reply && self.forgets_replies) {
                rows.put(key, value);
            }
        }
        whole.write(rows).and_then(|()| whole.checkpoint(target)).map_err(StateMachineError::new)?;
        self.applied()
    }

    fn install(&mut self, source: &Path) -> Result<(), StateMachineError> {
        let checkpoint = MemStore::open_checkpoint(source).map_err(StateMachineError::new)?;
        std::fs::remove_dir_all(source).map_err(StateMachineError::new)?;
        let store = MemStore::for_crashes();
        let mut rows = Rows::new();
        for row in checkpoint.scan(KeyRange::all(), Direction::Forward) {
            let (key, value) = row.map_err(StateMachineError::new)?;
            rows.put(key, value);
        }
        store.write(rows).and_then(|()| store.flush()).map_err(StateMachineError::new)?;
        let digest = digest_of(&store).map_err(StateMachineError::new)?;
        let store = Arc::new(Counted::on(store, digest));
        self.namespace = open(&store)?;
        let blob = position(&self.namespace);
        self.checks.state(self.member, index_in(blob.as_deref().unwrap_or_default()), digest);
        *self.state.0.generation.lock() = Generation { store, reader: self.namespace.reader() };
        *self.state.0.applied.lock() = blob;
        Ok(())
    }
}

impl Flush for State {
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError> {
        let applied = self.0.applied.lock().clone();
        let store = self.0.generation.lock().store.clone();
        store.flush().map_err(StateMachineError::new)?;
        Ok(applied)
    }
}

/// A store that knows a digest of all its rows at any time.
struct Counted {
    store: MemStore,
    /// The hashes of all rows, added up without carry, so that order does not matter.
    digest: AtomicU64,
}

impl Counted {
    fn on(store: MemStore, digest: u64) -> Counted {
        Counted { store, digest: AtomicU64::new(digest) }
    }
}

impl Read for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> forebay_metastore::Rows<'_> {
        self.store.scan(range, direction)
    }
}

impl Store for Counted {
    fn write(&self, batch: Rows) -> Result<(), StoreError> {
        let mut last: BTreeMap<&Bytes, Option<&Bytes>> = BTreeMap::new();
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => last.insert(key, Some(value)),
                Op::Delete(key) => last.insert(key, None),
            };
        }
        let mut change = 0;
        for (key, value) in last {
            if let Some(before) = self.store.get(key)? {
                change ^= row_hash(key, &before);
            }
            change ^= value.map_or(0, |value| row_hash(key, value));
        }
        self.store.write(batch)?;
        self.digest.fetch_xor(change, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StoreError> {
        self.store.checkpoint(directory)
    }

    fn approximate_size(&self) -> Result<u64, StoreError> {
        self.store.approximate_size()
    }
}

fn digest_of(store: &MemStore) -> Result<u64, StoreError> {
    store.scan(KeyRange::all(), Direction::Forward).try_fold(0, |digest, row| {
        let (key, value) = row?;
        Ok(digest ^ row_hash(&key, &value))
    })
}

fn row_hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}
