//! The state machine: takes commands from the log, gives replies.
//!
//! A batch of entries is applied to an overlay ([`Tx`]), so that each command sees those before it, and then written at once. What a
//! refused command changed is taken back. Nothing but the commands and their order decides the state: where batches
//! begin and end, what is cached and when it is flushed leave no trace.

mod cache;
mod sessions;
mod tx;

pub(crate) use tx::{Stop, Tx};

use crate::command::{Action, Command};
use crate::keys;
use crate::record::{Counters, Inode, Kind, Mount, State};
use crate::reply::{self, Payload};
use crate::versions;
use bytes::Bytes;
use cache::CachedStore;
use forebay_base::{ErrorKind, InodeId, VersionRange};
use forebay_metastore::{Batch, Overlay, Read, Snapshot, Store, StoreError};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

/// Why the state machine cannot go on. The member must stop: its state is as it was before the call, and the log can be replayed
/// once the cause is mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A command of the log cannot be read: a newer version wrote it, or the log is damaged.
    #[error("a command of the log cannot be read ({0}): a newer release has made it, or the log is damaged")]
    UnreadableCommand(String),
    /// A record of the store cannot be read, or records contradict each other.
    #[error("the metadata is damaged: {0}")]
    Corrupt(String),
    /// A newer version wrote the records of the store.
    #[error("the metadata has format {found}, this version reads up to {supported}: use a newer version")]
    NewerFormat {
        /// The format of the records.
        found: u32,
        /// The newest that this version can read.
        supported: u32,
    },
    /// The cluster has another version than this program knows: see [`crate::versions`].
    #[error(
        "the cluster's version is {found}, and this program knows {known}: start {} release; nothing goes back to an older version of the cluster", if *found > known.newest { "a newer" } else { "an older" }
    )]
    ClusterVersion {
        /// The cluster's.
        found: u32,
        /// What this program knows.
        known: VersionRange,
    },
}

impl ApplyError {
    /// What a caller of a query can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ApplyError::Store(error) => error.kind(),
            ApplyError::UnreadableCommand(_) | ApplyError::Corrupt(_) => ErrorKind::Corrupt,
            ApplyError::NewerFormat { .. } | ApplyError::ClusterVersion { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// The format of records that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// The mounts by number, shared between the copies that batches work on.
pub(crate) type MountTable = Arc<BTreeMap<u32, Arc<Mount>>>;

/// Bytes of records kept in memory when nothing else is said.
const CACHE_BYTES_DEFAULT: u64 = 32 << 20;

/// The namespace of one member. One thread applies; any number read [`Reader::snapshot`] through [`crate::query`].
pub struct StateMachine {
    store: Arc<dyn Store>,
    cached: Arc<CachedStore>,
    state: State,
    mounts: MountTable,
}

/// Takes snapshots of a namespace, in any thread, while commands are applied. Clones read the same one.
#[derive(Clone)]
pub struct Reader(Arc<CachedStore>);

impl Reader {
    /// The namespace as it is now, with everything that [`StateMachine::apply`] has returned from. What is read often comes from memory.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }
}

impl StateMachine {
    /// Takes a store that nothing else writes to. An empty one becomes a tree of nothing but `/`.
    pub fn open(store: Arc<dyn Store>) -> Result<StateMachine, ApplyError> {
        StateMachine::open_with(store, CACHE_BYTES_DEFAULT)
    }

    /// [`open`](StateMachine::open), keeping about `cache_bytes` bytes of records in memory.
    pub fn open_with(store: Arc<dyn Store>, cache_bytes: u64) -> Result<StateMachine, ApplyError> {
        if keys::state::get(&*store)?.is_none() {
            store.write(empty_tree())?;
        }
        let state = stored_state(&*store)?;
        let mounts = keys::mount::scan(&*store, 0)
            .map(|mount| mount.map(|mount| (mount.id, Arc::new(mount))))
            .collect::<Result<_, _>>()?;
        let cached = Arc::new(CachedStore::new(store.clone(), cache_bytes));
        Ok(StateMachine { cached, store, state, mounts: Arc::new(mounts) })
    }

    /// For queries.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.cached))
    }

    /// The store, for flushes and checkpoints.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The position given with the last entry applied (durable only as far as the store was flushed); empty in a new store.
    pub fn applied_position(&self) -> &Bytes {
        &self.state.position
    }

    /// The version of behaviour in force: see [`crate::versions`].
    pub fn cluster_version(&self) -> u32 {
        versions::in_force(self.state.cluster_version)
    }

    /// The greatest time that a command carried, in milliseconds since 1970-01-01 UTC.
    pub fn log_time_ms(&self) -> u64 {
        self.state.log_time_ms
    }

    /// Applies entries of the log in order, in one atomic batch with the last one's position. Each entry is an opaque position and the bytes
    /// of a [`crate::Command`]; no bytes are an entry without a command (of a new leader, or of a membership change), whose reply is empty.
    ///
    /// The replies are [`crate::reply::encode`]d. The batch is visible to readers but not durable; see [`Store::flush`].
    pub fn apply(&mut self, entries: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>, ApplyError> {
        let Some((position, _)) = entries.last() else {
            return Ok(Vec::new());
        };
        let base: Arc<dyn Read> = self.cached.clone();
        let mut tx = Tx::new(Overlay::new(base), self.state.clone(), self.mounts.clone());
        let replies =
            entries.iter().map(|(_, bytes)| apply_entry(&mut tx, bytes)).collect::<Result<Vec<Bytes>, ApplyError>>()?;
        tx.state.position = position.clone();
        keys::state::put(&mut tx.pending, &tx.state);
        self.cached.write(tx.pending.take())?;
        self.state = tx.state;
        self.mounts = tx.mounts;
        Ok(replies)
    }
}

fn apply_entry(tx: &mut Tx, bytes: &Bytes) -> Result<Bytes, ApplyError> {
    if bytes.is_empty() {
        return Ok(Bytes::new());
    }
    let command = Command::decode(bytes.clone()).map_err(|error| ApplyError::UnreadableCommand(error.to_string()))?;
    let Some(action) = command.action else {
        return Err(ApplyError::UnreadableCommand("it is of a kind that this program does not know".to_owned()));
    };
    tx.advance_time(command.time_ms)?;
    let Some(request) = command.request else {
        return Ok(reply::encode(tx.attempt(|tx| apply_action(tx, &action))?));
    };
    match sessions::admit(tx, &request)? {
        sessions::Admission::Answered(reply) => Ok(reply),
        sessions::Admission::Refused(refusal) => Ok(reply::encode(Err(refusal))),
        sessions::Admission::New => {
            let outcome = tx.attempt(|tx| apply_action(tx, &action))?;
            sessions::answer(tx, &request, outcome)
        }
    }
}

/// Whoever proposes asks before, so that members that do not know the command never see it; those that know it still agree on what becomes of it.
fn apply_action(tx: &mut Tx, action: &Action) -> Result<Payload, Stop> {
    let (since, version) = (action.since(), versions::in_force(tx.state.cluster_version));
    match since > version {
        true => Err(versions::too_early(since, version).into()),
        false => action.apply(tx),
    }
}

/// The state as it lies in a store; one of a newer format, or of a version of behaviour that this program does not know, is refused.
pub(crate) fn stored_state(read: &dyn Read) -> Result<State, ApplyError> {
    let state = keys::state::get(read)?.ok_or_else(|| ApplyError::Corrupt("the state record is missing".to_owned()))?;
    match state.format > FORMAT {
        true => Err(ApplyError::NewerFormat { found: state.format, supported: FORMAT }),
        false => versions::check(state.cluster_version).map(|()| state),
    }
}

/// A tree of nothing but `/`.
fn empty_tree() -> Batch {
    let nothing: Arc<dyn Read> = Arc::new(forebay_metastore::MemStore::new());
    let mut pending = Overlay::new(nothing);
    let mut root = Inode::new(InodeId::ROOT.0, Kind::Directory, 0);
    root.set_loaded(true);
    keys::inode::put(&mut pending, 0, b"", &root);
    let state = State { format: FORMAT, counters: Counters::of_an_empty_tree(), ..State::default() };
    keys::state::put(&mut pending, &state);
    pending.take()
}
