//! The boundary: what any ordered key-value store must do for us.

use crate::{Batch, Direction, KeyRange, Result};
use bytes::Bytes;
use std::{path::Path, sync::Arc};

/// A key and its value.
pub type Row = (Bytes, Bytes);

/// Rows in key order, read lazily: memory does not depend on how many there are. Ends after the first error.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Row>> + Send + 'a>;

/// Reading. Any number of threads at once.
pub trait Read: Send + Sync {
    /// The value of `key`, if it has one.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The rows of `range`, forward or backward. On a [`Store`] the rows are those of the moment of the call; a long
    /// scan holds back the freeing of old values, so page through large ranges with [`KeyRange::after`].
    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_>;
}

/// One moment of a store. Cheap to take (no copying), immutable, shareable between threads; while it lives, what it
/// shows is not freed, so it is not kept for longer than a request.
pub type Snapshot = Arc<dyn Read>;

/// An ordered map of byte strings to byte strings, on one machine.
///
/// - **Order.** Keys are ordered by their bytes, unsigned, a prefix before what it is a prefix of.
/// - **Atomic.** A [`Batch`] is visible whole or not at all, to readers and after a crash.
/// - **Durable late.** A written batch is visible at once but may be lost in a crash until [`Store::flush`] returns. What is left
///   after a crash is a prefix of the batches in the order of their writing, at least up to the last flush.
///   The log above replays the rest: there is no second log here.
/// - **One writer at a time** is what callers do; concurrent writers are safe but their order is not defined.
/// - After an error of [`Store::write`] or [`Store::flush`] the store takes no more writes: reopen it.
pub trait Store: Read + 'static {
    /// Applies all of the batch at once. Later operations of a batch win over earlier ones on the same key.
    fn write(&self, batch: Batch) -> Result<()>;

    /// Returns when everything written before the call is on disk.
    fn flush(&self) -> Result<()>;

    /// The store as it is now.
    fn snapshot(&self) -> Snapshot;

    /// Makes a copy of the store, as of now and on disk, in `directory`, which must not exist while its parent must.
    /// Opening that directory gives an independent store. Costs hard links and one flush, not a copy of the data.
    fn checkpoint(&self, directory: &Path) -> Result<()>;

    /// Bytes that the store takes, roughly: on disk and not yet there.
    fn approximate_size(&self) -> Result<u64>;
}

impl<R: Read + ?Sized> Read for Arc<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        (**self).get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        (**self).scan(range, direction)
    }
}

impl<R: Read + ?Sized> Read for &R {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        (**self).get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        (**self).scan(range, direction)
    }
}
