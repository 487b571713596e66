//! The namespace under the replicated log: one directory for each generation of the state store, `CURRENT` names the one that counts.
//!
//! ```text
//! state/CURRENT    "3"
//! state/3/         a RocksDB store
//! ```
//! A checkpoint that replaces the state becomes the next generation: it is moved in, `CURRENT` is replaced at once, and older
//! generations go when nothing reads them any more, at the latest at the next start.

use crate::data_dir::{DataDirError, write_whole};
use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_consensus::{Batch, Flush, StateMachine, StateMachineError};
use forebay_metastore::{RocksSettings, RocksStore, RocksView, Snapshot, Store};
use forebay_namespace::{ApplyError, Reader, versions};
use parking_lot::{Mutex, RwLock};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// The store that readers take snapshots of.
#[derive(Clone)]
pub(crate) struct State {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    settings: StateSettings,
    reader: RwLock<Reader>,
    /// For flushes.
    store: RwLock<Arc<dyn Store>>,
    /// The blob of the last batch written to `store`; set after the write, so that a flush that starts later has it on disk.
    applied: Mutex<Option<Bytes>>,
    /// The index in it. Readers that come later find that entry's effects.
    position: watch::Sender<u64>,
    /// The last entry whose effects a reader may find.
    applying: AtomicU64,
}

/// The state machine that the log drives.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    namespace: forebay_namespace::StateMachine,
    generation: u64,
    /// Under `namespace`.
    store: Arc<RocksStore>,
}

/// The memory of the state.
#[derive(Clone, Debug)]
pub(crate) struct StateSettings {
    pub(crate) store: RocksSettings,
    /// Records in front of the store.
    pub(crate) cache: ByteSize,
}

/// What begins the names of directories that serve a look at the state; of one that was killed meanwhile the next start removes it.
const SCRATCH: &str = "look-";

/// Opens the state in `directory`.
pub(crate) fn open(directory: &Path, settings: StateSettings) -> Result<(State, Machine), StateMachineError> {
    forebay_base::data_dir::create_private(directory).map_err(StateMachineError::new)?;
    let generation = current(directory)?;
    remove_others(directory, generation);
    let (namespace, store) = open_generation(directory, generation, &settings)?;
    let applied = position(&namespace);
    let index = index_of(applied.as_ref());
    let shared = Arc::new(Shared {
        directory: directory.to_owned(),
        settings,
        reader: RwLock::new(namespace.reader()),
        store: RwLock::new(Arc::clone(namespace.store())),
        applied: Mutex::new(applied),
        position: watch::Sender::new(index),
        applying: AtomicU64::new(index),
    });
    let state = State { shared: Arc::clone(&shared) };
    let machine = Machine { shared, namespace, generation, store };
    Ok((state, machine))
}

/// Refuses a state of a cluster whose version this program does not know, without changing it: a newer release goes on with it. What is wrong with it
/// otherwise, [`open`] tells.
pub(crate) fn check_version(directory: &Path) -> Result<(), ApplyError> {
    let generation = fs::read_to_string(directory.join("CURRENT")).ok();
    let Some(generation) = generation.and_then(|text| text.trim().parse::<u64>().ok()) else {
        return Ok(());
    };
    let path = directory.join(generation.to_string());
    let Ok(scratch) = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(directory) else {
        return Ok(());
    };
    match RocksView::open(&path, scratch.path()).map(|view| versions::check_stored(&view)) {
        Ok(Err(error @ (ApplyError::ClusterVersion { .. } | ApplyError::NewerFormat { .. }))) => Err(error),
        _ => Ok(()),
    }
}

/// Makes the directory of a first generation, for somebody to put a state there; [`put_first`] makes it count.
pub(crate) fn make_first(directory: &Path) -> Result<PathBuf, DataDirError> {
    let path = directory.join("1");
    let made = forebay_base::data_dir::create_private(&path);
    made.map_err(|source| DataDirError::Io { what: "create", path: path.clone(), source })?;
    Ok(path)
}

/// The first generation is there and on disk.
pub(crate) fn put_first(directory: &Path) -> Result<(), DataDirError> {
    write_current(directory, 1)
}

impl State {
    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.shared.reader.read().snapshot()
    }

    /// The index of the last entry of the log whose effects are here.
    pub(crate) fn position(&self) -> u64 {
        *self.shared.position.borrow()
    }

    /// No snapshot that was taken before the call has the effects of an entry after this one.
    pub(crate) fn seen_index(&self) -> u64 {
        self.shared.applying.load(Ordering::Acquire)
    }

    /// Waits until snapshots have the effects of that entry.
    pub(crate) async fn reached(&self, index: u64) {
        let mut position = self.shared.position.subscribe();
        // The sender lives as long as `self`.
        let _ = position.wait_for(|position| *position >= index).await;
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        let entries: Vec<(Bytes, Bytes)> = match batch.entries {
            // Only the position moves.
            [] => vec![(batch.applied.clone(), Bytes::new())],
            entries => entries.iter().map(|entry| (batch.applied.clone(), entry.command.clone())).collect(),
        };
        let before = self.namespace.cluster_version();
        let index = index_of(Some(batch.applied));
        self.shared.applying.store(index, Ordering::Release);
        let mut replies = self.namespace.apply(&entries).map_err(StateMachineError::new)?;
        replies.truncate(batch.entries.len());
        *self.shared.applied.lock() = Some(batch.applied.clone());
        self.shared.position.send_replace(index);
        if self.namespace.cluster_version() != before {
            // So that an older program finds it at its start, and not in the log later.
            self.store.flush().map_err(StateMachineError::new)?;
        }
        Ok(replies)
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(position(&self.namespace))
    }

    fn cluster_version(&self) -> u32 {
        self.namespace.cluster_version()
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        Arc::new(Flusher(Arc::clone(&self.shared)))
    }

    fn checkpoint(&self, target: &Path) -> Result<Option<Bytes>, StateMachineError> {
        self.namespace.store().checkpoint(target).map_err(StateMachineError::new)?;
        self.applied()
    }

    fn install(&mut self, source: &Path) -> Result<(), StateMachineError> {
        let directory = &self.shared.directory;
        let generation = self.generation + 1;
        let target = directory.join(generation.to_string());
        let move_in = || -> io::Result<()> {
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            fs::rename(source, &target)?;
            fs::File::open(directory)?.sync_all()
        };
        move_in().map_err(StateMachineError::new)?;
        let (namespace, store) = open_generation(directory, generation, &self.shared.settings)?;
        write_current(directory, generation).map_err(StateMachineError::new)?;
        let applied = position(&namespace);
        let index = index_of(applied.as_ref());
        *self.shared.applied.lock() = applied;
        self.shared.applying.store(index, Ordering::Release);
        *self.shared.reader.write() = namespace.reader();
        self.shared.position.send_replace(index);
        *self.shared.store.write() = Arc::clone(namespace.store());
        // Readers of the old one may still be at it.
        std::mem::replace(&mut self.store, store).remove_when_dropped();
        self.namespace = namespace;
        self.generation = generation;
        Ok(())
    }
}

struct Flusher(Arc<Shared>);

impl Flush for Flusher {
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError> {
        let applied = self.0.applied.lock().clone();
        let store = Arc::clone(&*self.0.store.read());
        store.flush().map_err(StateMachineError::new)?;
        Ok(applied)
    }
}

/// The blob of the last batch; none in a new state.
fn position(namespace: &forebay_namespace::StateMachine) -> Option<Bytes> {
    let position = namespace.applied_position();
    (!position.is_empty()).then(|| position.clone())
}

/// The index in such a blob.
fn index_of(applied: Option<&Bytes>) -> u64 {
    applied.and_then(|blob| forebay_consensus::applied_index(blob)).unwrap_or(0)
}

fn open_generation(
    directory: &Path,
    generation: u64,
    settings: &StateSettings,
) -> Result<(forebay_namespace::StateMachine, Arc<RocksStore>), StateMachineError> {
    let path = directory.join(generation.to_string());
    let store = Arc::new(RocksStore::open(&path, &settings.store).map_err(StateMachineError::new)?);
    let under = Arc::clone(&store);
    let namespace = forebay_namespace::StateMachine::open_with(under, settings.cache.bytes());
    Ok((namespace.map_err(StateMachineError::new)?, store))
}

fn current(directory: &Path) -> Result<u64, StateMachineError> {
    let path = directory.join("CURRENT");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| StateMachineError::new(format!("{path:?} holds {text:?} where a number is expected"))),
        // Before the first generation is made, it is named.
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_generations(directory) => {
            Err(StateMachineError::new(format!(
                "{path:?}, which says what of the state counts, is missing; put it back, else one of several masters is rebuilt from the others \
                 (`forebay masters rebuild`), and the only one is started over an empty data directory from its last backup (`--restore-from`)"
            )))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_current(directory, 1).map_err(StateMachineError::new)?;
            Ok(1)
        }
        Err(error) => Err(StateMachineError::new(error)),
    }
}

fn has_generations(directory: &Path) -> bool {
    let is_generation =
        |entry: fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok());
    fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(is_generation))
}

fn write_current(directory: &Path, generation: u64) -> Result<(), DataDirError> {
    let text = format!("{generation}\n");
    write_whole(&directory.join("CURRENT"), text.as_bytes(), 0o644)
}

/// Removes generations that do not count. One that cannot be removed only costs space, and is tried again at the next start.
fn remove_others(directory: &Path, generation: u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let is_other = name.parse::<u64>().is_ok_and(|number| number != generation);
        if (is_other || name.starts_with(SCRATCH))
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = ?entry.path(), %error, "an old state cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_consensus::Entry;
    use forebay_metastore::Read;
    use forebay_namespace::command::{Command, MakeDirectory};
    use forebay_namespace::query;

    fn settings() -> StateSettings {
        let store = RocksSettings { block_cache: ByteSize::mib(8), ..RocksSettings::default() };
        StateSettings { store, cache: ByteSize::mib(1) }
    }

    fn make_directory(machine: &mut Machine, path: &'static str, position: &'static str) {
        let command = Command::internal(
            1,
            MakeDirectory { path: Bytes::from_static(path.as_bytes()), mode: 0o755, ..MakeDirectory::default() },
        );
        let entries = [Entry { index: 1, command: command.to_bytes() }];
        let applied = Bytes::from_static(position.as_bytes());
        let replies = machine.apply(Batch { entries: &entries, applied: &applied }).unwrap();
        assert_eq!(replies.len(), 1);
    }

    fn exists(state: &State, path: &str) -> bool {
        let resolved = query::resolve(&state.snapshot(), &path.parse().unwrap()).unwrap();
        resolved.found().is_some()
    }

    #[test]
    fn a_flushed_state_comes_back_with_its_position() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut machine) = open(dir.path(), settings()).unwrap();
        assert_eq!(machine.applied().unwrap(), None);
        make_directory(&mut machine, "/a", "one");
        assert_eq!(machine.flusher().flush().unwrap(), Some(Bytes::from_static(b"one")));
        drop((state, machine));
        let (state, mut machine) = open(dir.path(), settings()).unwrap();
        assert!(exists(&state, "/a"));
        assert_eq!(machine.applied().unwrap(), Some(Bytes::from_static(b"one")));
        let nothing = machine.apply(Batch { entries: &[], applied: &Bytes::from_static(b"two") });
        assert_eq!(nothing.unwrap(), Vec::<Bytes>::new());
        assert_eq!(machine.applied().unwrap(), Some(Bytes::from_static(b"two")));
    }

    #[test]
    fn a_state_of_a_newer_cluster_is_told_before_anything_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_version(dir.path()), Ok(()), "nothing is there");
        let (state, mut machine) = open(dir.path(), settings()).unwrap();
        make_directory(&mut machine, "/a", "one");
        machine.flusher().flush().unwrap();
        assert_eq!(check_version(dir.path()), Ok(()));
        // Field 4 of the state is the version, and a field's last value counts.
        let newer = versions::KNOWN.newest + 1;
        let record = machine.store.get(b"!").unwrap().unwrap();
        let mut batch = forebay_metastore::Batch::new();
        batch.put(&b"!"[..], [&record[..], &[0x20, newer as u8]].concat());
        machine.store.write(batch).and_then(|()| machine.store.flush()).unwrap();
        drop((state, machine));
        let files = |dir: &Path| {
            let entries = fs::read_dir(dir.join("1")).unwrap();
            let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            files.sort();
            files
        };
        let before = files(dir.path());
        let refused = Err(ApplyError::ClusterVersion { found: newer, known: versions::KNOWN });
        assert_eq!(check_version(dir.path()), refused);
        assert_eq!(files(dir.path()), before);
        let opened = open(dir.path(), settings()).map(drop).unwrap_err().to_string();
        assert!(opened.contains("start a newer release"), "{opened}");
    }

    #[test]
    fn what_a_killed_look_left_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(SCRATCH.to_owned() + "x7Yz");
        fs::create_dir_all(left.join("log")).unwrap();
        drop(open(dir.path(), settings()).unwrap());
        assert!(!left.exists());
        assert_eq!(check_version(dir.path()), Ok(()));
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(SCRATCH)), "a look leaves nothing");
    }

    #[test]
    fn a_state_of_which_nothing_says_what_counts_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut machine) = open(dir.path(), settings()).unwrap();
        machine.checkpoint(&dir.path().join("copy")).unwrap();
        machine.install(&dir.path().join("copy")).unwrap();
        drop((state, machine));
        fs::remove_file(dir.path().join("CURRENT")).unwrap();
        let refused = open(dir.path(), settings()).map(drop).unwrap_err().to_string();
        assert!(refused.contains("CURRENT") && refused.contains("forebay masters rebuild"), "{refused}");
        assert!(dir.path().join("2").exists() && !dir.path().join("CURRENT").exists());
    }

    #[test]
    fn a_checkpoint_replaces_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        let (state, mut machine) = open(&dir.path().join("state"), settings()).unwrap();
        make_directory(&mut machine, "/old", "one");
        machine.checkpoint(&copy).unwrap();
        make_directory(&mut machine, "/new", "two");
        let reader = state.snapshot();
        machine.install(&copy).unwrap();
        assert!(exists(&state, "/old") && !exists(&state, "/new"));
        assert_eq!(machine.applied().unwrap(), Some(Bytes::from_static(b"one")));
        assert!(query::resolve(&reader, &"/new".parse().unwrap()).unwrap().found().is_some());
        make_directory(&mut machine, "/newer", "three");
        machine.flusher().flush().unwrap();
        // The first generation goes with its last reader, not before.
        let generations = || {
            let entries = fs::read_dir(dir.path().join("state")).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|name| name != "CURRENT");
            names.sort();
            names
        };
        assert_eq!(generations(), ["1", "2"]);
        machine.checkpoint(&copy).unwrap();
        machine.install(&copy).unwrap();
        let gone = |expected: &[&str]| {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while generations() != expected {
                assert!(std::time::Instant::now() < deadline, "{:?} are left, not {expected:?}", generations());
                std::thread::yield_now();
            }
        };
        gone(&["1", "3"]);
        drop(reader);
        gone(&["3"]);
        drop((state, machine));
        let (state, _machine) = open(&dir.path().join("state"), settings()).unwrap();
        assert!(exists(&state, "/newer") && !exists(&state, "/new"));
        assert!(!dir.path().join("state/1").exists());
    }
}
