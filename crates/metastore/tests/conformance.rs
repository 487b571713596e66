//! Both stores against the suite, and what only RocksDB has: a directory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use forebay_base::{ByteSize, ErrorKind};
use forebay_metastore::conformance::{self, Subject};
use forebay_metastore::{Batch, MemStore, Read, RocksSettings, RocksStore, Store, StoreError};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// Stores in memory, found again by the address of the handle given out.
struct Memory {
    scratch: TempDir,
    open: HashMap<usize, Arc<MemStore>>,
}

impl Memory {
    fn hand_out(&mut self, store: MemStore) -> Arc<dyn Store> {
        let store = Arc::new(store);
        self.open.insert(Arc::as_ptr(&store) as usize, store.clone());
        store
    }
}

impl Subject for Memory {
    fn open_new(&mut self) -> Arc<dyn Store> {
        self.hand_out(MemStore::for_crashes())
    }

    fn crash(&mut self, store: Arc<dyn Store>, chance: u64) -> Arc<dyn Store> {
        let store = &self.open[&(Arc::as_ptr(&store).cast::<()>() as usize)];
        let kept = chance as usize % (store.unflushed_batches() + 1);
        let crashed = store.crashed(kept);
        self.hand_out(crashed)
    }

    fn open_checkpoint(&self, directory: &Path) -> Arc<dyn Store> {
        Arc::new(MemStore::open_checkpoint(directory).unwrap())
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

/// Stores on RocksDB, each in a directory of its own. A crash is a copy of the files as they are, the manifest first: while nothing is compacted
/// (the suite writes little), that is what a killed process would leave.
struct Rocks {
    scratch: TempDir,
    stores: usize,
}

impl Rocks {
    fn directory(&self) -> PathBuf {
        self.scratch.path().join(format!("store-{}", self.stores))
    }

    fn next_directory(&mut self) -> PathBuf {
        self.stores += 1;
        self.directory()
    }
}

/// Small memtables, so that some batches reach the disk without a flush.
fn settings() -> RocksSettings {
    RocksSettings { write_buffer: ByteSize::kib(64), block_cache: ByteSize::mib(1), ..RocksSettings::default() }
}

fn open(directory: &Path) -> Result<RocksStore, StoreError> {
    RocksStore::open(directory, &settings())
}

impl Subject for Rocks {
    fn open_new(&mut self) -> Arc<dyn Store> {
        Arc::new(open(&self.next_directory()).unwrap())
    }

    fn crash(&mut self, _: Arc<dyn Store>, _: u64) -> Arc<dyn Store> {
        let from = self.directory();
        let to = self.next_directory();
        // The store is alive and may remove a file in the middle of the copy: a crash would not, so the copy begins anew.
        while let Err(error) = copy(&from, &to) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
            std::fs::remove_dir_all(&to).unwrap();
        }
        Arc::new(open(&to).unwrap())
    }

    fn open_checkpoint(&self, directory: &Path) -> Arc<dyn Store> {
        Arc::new(open(directory).unwrap())
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    let mut names = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| name.to_string_lossy().ends_with(".sst"));
    for name in names.iter().filter(|name| *name != "LOCK") {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

#[test]
fn memory_passes_the_suite() {
    conformance::run(&mut Memory { scratch: tempfile::tempdir().unwrap(), open: HashMap::new() });
}

#[test]
fn rocksdb_passes_the_suite() {
    conformance::run(&mut Rocks { scratch: tempfile::tempdir().unwrap(), stores: 0 });
}

#[test]
fn a_clean_end_keeps_everything() {
    let scratch = tempfile::tempdir().unwrap();
    let mut batch = Batch::new();
    batch.put("a", "1");
    open(scratch.path()).unwrap().write(batch).unwrap();
    assert_eq!(open(scratch.path()).unwrap().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_directory_in_use_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let _first = open(scratch.path()).unwrap();
    let refused = open(scratch.path()).err().unwrap();
    assert_eq!(refused, StoreError::InUse(scratch.path().to_owned()));
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_not_touched() {
    let scratch = tempfile::tempdir().unwrap();
    drop(open(scratch.path()).unwrap());
    fs::write(scratch.path().join("FORMAT"), "2\n").unwrap();
    let listing = || {
        let entries = fs::read_dir(scratch.path()).unwrap();
        let mut entries: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        entries.sort();
        entries
    };
    let before = listing();
    let refused = open(scratch.path()).err().unwrap();
    assert!(matches!(refused, StoreError::NewerFormat { found: 2, supported: 1, .. }), "{refused}");
    assert_eq!(listing(), before);
    fs::write(scratch.path().join("FORMAT"), "what").unwrap();
    assert_eq!(open(scratch.path()).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn damaged_files_are_corrupt() {
    let scratch = tempfile::tempdir().unwrap();
    let store = open(scratch.path()).unwrap();
    let mut batch = Batch::new();
    batch.put("a", vec![7u8; 10_000]);
    store.write(batch).unwrap();
    store.flush().unwrap();
    drop(store);
    for entry in fs::read_dir(scratch.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[10] ^= 0xff;
            fs::write(&path, bytes).unwrap();
        }
    }
    let result = open(scratch.path()).and_then(|store| store.get(b"a"));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
}
