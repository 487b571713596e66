//! The store on RocksDB.
//!
//! One column family, so that memtables reach the disk in the order of writing without more ado. RocksDB's own log is off:
//! the log above is the only one. What a crash leaves is what the manifest names, which is a prefix of the batches.

mod format;
mod manifest;
mod options;
mod view;

pub use options::RocksSettings;
pub use view::RocksView;

use crate::{Batch, Direction, KeyRange, Op, Read, Result, Row, Rows, Snapshot, Store, StoreError};
use bytes::Bytes;
use rocksdb::{
    DB, DBRawIterator, FlushOptions, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions,
    checkpoint::Checkpoint,
};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    sync::{Arc, OnceLock},
};

/// A store on RocksDB in one directory, which one process at a time may have open.
pub struct RocksStore {
    inner: Arc<Inner>,
    /// The first failed write or flush: the store is not written to after it.
    failed: OnceLock<StoreError>,
}

struct Inner {
    /// Dropped first: it is closed before its directory may go.
    db: DB,
    directory: Directory,
}

struct Directory {
    path: PathBuf,
    /// It goes with its store.
    is_doomed: AtomicBool,
}

impl RocksStore {
    /// Opens the store in `directory`, making it when it is not there.
    pub fn open(directory: &Path, settings: &RocksSettings) -> Result<RocksStore> {
        format::check(directory)?;
        // RocksDB syncs what is in the directory, not its name.
        let made = forebay_base::data_dir::create_private(directory);
        made.map_err(|error| StoreError::Io { directory: directory.to_owned(), what: error.to_string() })?;
        let mended = manifest::mend(directory);
        mended.map_err(|error| StoreError::Io { directory: directory.to_owned(), what: error.to_string() })?;
        let db = DB::open(&settings.options(), directory).map_err(|error| convert_open(directory, error))?;
        format::write(directory)?;
        let directory = Directory { path: directory.to_owned(), is_doomed: AtomicBool::new(false) };
        Ok(RocksStore { inner: Arc::new(Inner { db, directory }), failed: OnceLock::new() })
    }

    /// Compacts everything: for tools and for measuring, since it rewrites the whole store.
    pub fn compact(&self) {
        self.inner.db.compact_range::<&[u8], &[u8]>(None, None);
    }

    /// Has the directory removed, in the background, once the store and all snapshots of it are dropped.
    pub fn remove_when_dropped(&self) {
        self.inner.directory.is_doomed.store(true, Ordering::Release);
    }

    /// Runs a write or flush unless one has failed before. Nothing is locked meanwhile: writes go on beside a flush.
    fn guarded(&self, write: impl FnOnce(&DB) -> std::result::Result<(), rocksdb::Error>) -> Result<()> {
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        write(&self.inner.db).map_err(|error| self.failed.get_or_init(|| self.inner.convert(error)).clone())
    }
}

/// In a thread of its own: who lets go of the last snapshot may be one that must not wait for a disk.
impl Drop for Directory {
    fn drop(&mut self) {
        if !*self.is_doomed.get_mut() {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "an old store cannot be removed");
            }
        };
        // Without a thread it stays, as after a crash.
        if let Err(error) = std::thread::Builder::new().name("store-removal".to_owned()).spawn(remove) {
            tracing::warn!(%error, "an old store cannot be removed for now");
        }
    }
}

impl Inner {
    fn convert(&self, error: rocksdb::Error) -> StoreError {
        convert(&self.directory.path, error)
    }

    fn get(&self, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>> {
        let value = self.db.get_pinned_opt(key, options).map_err(|error| self.convert(error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: KeyRange, direction: Direction, mut options: ReadOptions) -> Rows<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        options.set_iterate_lower_bound(range.start());
        if let Some(end) = range.end() {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = self.db.raw_iterator_opt(options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Backward => rows.seek_to_last(),
        }
        Box::new(Scan { rows: Some(rows), directory: &self.directory.path, direction })
    }
}

impl Read for RocksStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(key, &ReadOptions::default())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.inner.scan(range, direction, ReadOptions::default())
    }
}

impl Store for RocksStore {
    fn write(&self, batch: Batch) -> Result<()> {
        let mut changes = WriteBatch::default();
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => changes.put(key, value),
                Op::Delete(key) => changes.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.guarded(|db| db.write_opt(changes, &options))
    }

    fn flush(&self) -> Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.guarded(|db| db.flush_opt(&options))
    }

    fn snapshot(&self) -> Snapshot {
        Arc::new(OwnedSnapshot::new(self.inner.clone()))
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        let failed = |error| convert(directory, error);
        self.flush()?;
        Checkpoint::new(&self.inner.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
            .map_err(failed)?;
        format::write(directory)
    }

    fn approximate_size(&self) -> Result<u64> {
        let property = |name: &str| {
            self.inner
                .db
                .property_int_value(name)
                .map(Option::unwrap_or_default)
                .map_err(|error| self.inner.convert(error))
        };
        Ok(property("rocksdb.total-sst-files-size")? + property("rocksdb.cur-size-all-mem-tables")?)
    }
}

/// A RocksDB snapshot together with the database that it is of.
struct OwnedSnapshot {
    /// Borrows from `inner`. Fields are dropped in this order, so the snapshot is released before the database may close.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    inner: Arc<Inner>,
}

impl OwnedSnapshot {
    fn new(inner: Arc<Inner>) -> OwnedSnapshot {
        let db: *const DB = &inner.db;
        // SAFETY: `db` lies in the heap allocation of `inner`, which does not move and is never mutably borrowed, and which this
        // struct keeps alive until after `snapshot` is dropped (field order). The 'static reference is not handed out.
        let snapshot = unsafe { &*db }.snapshot();
        OwnedSnapshot { snapshot, inner }
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl Read for OwnedSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(key, &self.options())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.inner.scan(range, direction, self.options())
    }
}

/// A scan in progress; `rows` is gone once it has ended.
struct Scan<'a> {
    rows: Option<DBRawIterator<'a>>,
    directory: &'a Path,
    direction: Direction,
}

impl Iterator for Scan<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        if let Some((key, value)) = rows.item() {
            let row = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            match self.direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.prev(),
            }
            return Some(Ok(row));
        }
        let end = rows.status();
        self.rows = None;
        end.err().map(|error| Err(convert(self.directory, error)))
    }
}

fn convert(directory: &Path, error: rocksdb::Error) -> StoreError {
    let directory = directory.to_owned();
    let what = error.to_string();
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StoreError::Corrupt { directory, what },
        _ => StoreError::Io { directory, what },
    }
}

/// As `convert`, and tells a lock that another process holds, or this one.
fn convert_open(directory: &Path, error: rocksdb::Error) -> StoreError {
    match error.kind() {
        rocksdb::ErrorKind::IOError if tells_of_lock(directory, error.as_ref()) => {
            StoreError::InUse(directory.to_owned())
        }
        _ => convert(directory, error),
    }
}

/// Whether a message is one of the two that RocksDB has for a lock in use (`LockFile` in `env/fs_posix.cc`). Other errors name the file as well.
fn tells_of_lock(directory: &Path, message: &str) -> bool {
    let held = ["While lock file: ", "lock hold by current process"].iter().any(|text| message.contains(text));
    held && message.contains(&format!("{}: ", directory.join("LOCK").display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::ByteSize;

    /// Bytes that do not compress.
    fn noise(seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = Vec::with_capacity(64 << 10);
        while bytes.len() < 64 << 10 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    }

    fn put(store: &RocksStore, number: u64, value: Vec<u8>) {
        let mut batch = Batch::new();
        batch.put(number.to_be_bytes().to_vec(), value);
        store.write(batch).unwrap();
    }

    #[test]
    fn only_a_lock_in_use_is_in_use() {
        let temp = tempfile::tempdir().unwrap();
        let held = temp.path().join("held");
        let open = |directory: &Path| RocksStore::open(directory, &RocksSettings::default()).map(|_| ());
        let _store = RocksStore::open(&held, &RocksSettings::default()).unwrap();
        assert!(matches!(open(&held), Err(StoreError::InUse(_))));
        let broken = temp.path().join("LOCK");
        std::fs::create_dir_all(broken.join("LOCK")).unwrap();
        let error = open(&broken).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(tells_of_lock(Path::new("/m"), "IO error: While lock file: /m/LOCK: Resource temporarily unavailable"));
        assert!(!tells_of_lock(Path::new("/m"), "IO error: While lock file: /other/LOCK: No locks available"));
    }

    #[test]
    fn writes_go_on_beside_a_flush() {
        let directory = tempfile::tempdir().unwrap();
        let settings = RocksSettings { write_buffer: ByteSize::mib(256), ..RocksSettings::default() };
        let store = RocksStore::open(directory.path(), &settings).unwrap();
        (0..1500).for_each(|n| put(&store, n, noise(n)));
        let is_flushing = || store.inner.db.property_int_value("rocksdb.num-running-flushes").unwrap().unwrap_or(0) > 0;
        let (done, mut beside) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                store.flush().unwrap();
                done.store(true, Ordering::SeqCst);
            });
            let mut number = 1 << 32;
            while !done.load(Ordering::SeqCst) {
                let began = is_flushing();
                if began {
                    put(&store, number, b"small".to_vec());
                    number += 1;
                }
                beside += u64::from(began && is_flushing());
            }
        });
        assert!(beside > 10, "{beside} writes during a flush of 94 MiB");
    }
}
