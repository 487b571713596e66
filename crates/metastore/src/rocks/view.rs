//! A store as it lies on disk, for people who look at it: nothing in its directory is written, and another process may have it open.

use super::{Directory, Inner, RocksSettings, convert, format};
use crate::{Direction, KeyRange, Read, Result, Rows};
use bytes::Bytes;
use forebay_base::ByteSize;
use rocksdb::{DB, ReadOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What of a store has reached its files. What a process that has it open has not flushed yet is missing.
pub struct RocksView {
    inner: Arc<Inner>,
}

impl RocksView {
    /// Opens the store in `directory`; `scratch`, a directory elsewhere, gets RocksDB's messages.
    pub fn open(directory: &Path, scratch: &Path) -> Result<RocksView> {
        format::check(directory)?;
        let settings = RocksSettings { block_cache: ByteSize::mib(32), ..RocksSettings::default() };
        let mut options = settings.options();
        options.create_if_missing(false);
        // All files are opened at once: the process that has the store open may remove them at any time.
        options.set_max_open_files(-1);
        let db = DB::open_as_secondary(&options, directory, scratch).map_err(|error| convert(directory, error))?;
        let directory = Directory { path: directory.to_owned(), is_doomed: AtomicBool::new(false) };
        Ok(RocksView { inner: Arc::new(Inner { db, directory }) })
    }
}

impl Read for RocksView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(key, &ReadOptions::default())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        self.inner.scan(range, direction, ReadOptions::default())
    }
}
