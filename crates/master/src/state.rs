//! The namespace under the replicated log: one directory for each generation of the state store, `CURRENT` names the one that counts.
//!
//! ```text
//! state/CURRENT    "3"
//! state/3/         a RocksDB store
//! ```
//! A checkpoint that replaces the state becomes the next generation: it is moved in, `CURRENT` is replaced at once, and older
//! generations go when nothing reads them, at the latest at the next start.

use crate::data_dir::{DataDirError, write_whole};
use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_consensus::{Batch, Flush, StateMachine, StateMachineError};
use forebay_metastore::{RocksSettings, RocksStore, Snapshot, Store};
use forebay_namespace::Reader;
use parking_lot::{Mutex, RwLock};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
}

/// The state machine that the log drives.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    namespace: forebay_namespace::StateMachine,
    generation: u64,
}

/// The memory of the state.
#[derive(Clone, Debug)]
pub(crate) struct StateSettings {
    pub(crate) store: RocksSettings,
    /// Records in front of the store.
    pub(crate) cache: ByteSize,
}

/// Opens the state in `directory`.
pub(crate) fn open(directory: &Path, settings: StateSettings) -> Result<(State, Machine), StateMachineError> {
    fs::create_dir_all(directory).map_err(StateMachineError::new)?;
    let generation = current(directory)?;
    remove_others(directory, generation);
    let namespace = open_generation(directory, generation, &settings)?;
    let applied = position(&namespace);
    let shared = Arc::new(Shared {
        directory: directory.to_owned(),
        settings,
        reader: RwLock::new(namespace.reader()),
        store: RwLock::new(Arc::clone(namespace.store())),
        applied: Mutex::new(applied),
    });
    let state = State { shared: Arc::clone(&shared) };
    let machine = Machine { shared, namespace, generation };
    Ok((state, machine))
}

impl State {
    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.shared.reader.read().snapshot()
    }
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
        *self.shared.applied.lock() = Some(batch.applied.clone());
        Ok(replies)
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(position(&self.namespace))
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
        let namespace = open_generation(directory, generation, &self.shared.settings)?;
        write_current(directory, generation).map_err(StateMachineError::new)?;
        *self.shared.applied.lock() = position(&namespace);
        *self.shared.reader.write() = namespace.reader();
        *self.shared.store.write() = Arc::clone(namespace.store());
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

fn open_generation(
    directory: &Path,
    generation: u64,
    settings: &StateSettings,
) -> Result<forebay_namespace::StateMachine, StateMachineError> {
    let path = directory.join(generation.to_string());
    let store = RocksStore::open(&path, &settings.store).map_err(StateMachineError::new)?;
    forebay_namespace::StateMachine::open_with(Arc::new(store), settings.cache.bytes()).map_err(StateMachineError::new)
}

fn current(directory: &Path) -> Result<u64, StateMachineError> {
    let path = directory.join("CURRENT");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|_| StateMachineError::new(format!("{path:?} holds {text:?} where a number is expected"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_current(directory, 1).map_err(StateMachineError::new)?;
            Ok(1)
        }
        Err(error) => Err(StateMachineError::new(error)),
    }
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
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        if number.is_some_and(|number| number != generation)
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
        drop((state, machine, reader));
        let (state, _machine) = open(&dir.path().join("state"), settings()).unwrap();
        assert!(exists(&state, "/newer") && !exists(&state, "/new"));
        assert!(!dir.path().join("state/1").exists());
    }
}
