//! The stores under the model test, each with its kind of crash.
#![allow(unreachable_pub, reason = "a part of a test")]

use forebay_metastore::{MemStore, RocksSettings, RocksStore, Store};
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;

pub enum Disk {
    /// Keeps what was flushed, and some of the rest.
    Memory(Arc<MemStore>),
    /// Keeps what was flushed: a copy is made of it each time.
    Rocks { store: Arc<RocksStore>, directories: TempDir, flushed: PathBuf, number: u64 },
}

impl Disk {
    pub fn memory() -> Disk {
        Disk::Memory(Arc::new(MemStore::for_crashes()))
    }

    pub fn rocks() -> Disk {
        let directories = tempfile::tempdir().unwrap();
        let store = open(directories.path().join("0"));
        let mut disk = Disk::Rocks { store, directories, flushed: PathBuf::new(), number: 0 };
        disk.flush();
        disk
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Disk::Memory(store) => store.clone(),
            Disk::Rocks { store, .. } => store.clone(),
        }
    }

    pub fn flush(&mut self) {
        self.store().flush().unwrap();
        if let Disk::Rocks { store, directories, flushed, number } = self {
            *number += 1;
            let copy = directories.path().join(number.to_string());
            store.checkpoint(&copy).unwrap();
            // Its files are linked; where it is still open it stays so.
            let _ = std::fs::remove_dir_all(std::mem::replace(flushed, copy));
        }
    }

    /// Loses what is not flushed; `pick` says how much of it comes through, where anything does.
    pub fn crash(self, pick: impl FnOnce(u64) -> u64) -> Disk {
        match self {
            Disk::Memory(store) => {
                let kept = pick(store.unflushed_batches() as u64 + 1) as usize;
                Disk::Memory(Arc::new(store.crashed(kept)))
            }
            Disk::Rocks { directories, flushed, number, .. } => {
                let mut disk = Disk::Rocks { store: open(flushed), directories, flushed: PathBuf::new(), number };
                // So that the next crash comes back to here.
                disk.flush();
                disk
            }
        }
    }
}

fn open(directory: PathBuf) -> Arc<RocksStore> {
    Arc::new(RocksStore::open(&directory, &RocksSettings::default()).unwrap())
}
