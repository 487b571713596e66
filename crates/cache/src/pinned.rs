//! A cached range that stays as it is while it is held.

use crate::{
    TierKind,
    index::Handle,
    open_files::OpenFile,
    store::Inner,
    verify::{self, Fault},
};
use std::{
    fmt,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// Stored bytes that do not match their checksums, or cannot be read: the page has been dropped, treat it as a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cached bytes are damaged")]
pub struct Damaged;

/// A cached range of a file. Nothing under it changes until it is dropped.
pub struct PinnedRange {
    pin: Pin,
    file: Arc<OpenFile>,
    range: Range<u64>,
}

/// Keeps an extent where it is.
pub(crate) struct Pin {
    pub(crate) inner: Arc<Inner>,
    pub(crate) handle: Handle,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut shard = self.inner.index.lock_handle(self.handle);
        // A dropped file's extent is gone: there is nothing to let go of.
        if let Some(entry) = shard.get(self.handle) {
            entry.pins -= 1;
        }
    }
}

impl PinnedRange {
    pub(crate) fn new(pin: Pin, file: Arc<OpenFile>, range: Range<u64>) -> PinnedRange {
        PinnedRange { pin, file, range }
    }

    /// The bytes of the file that this is; also where they are in [`PinnedRange::fd`]: every page lies at its natural offset.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The data file, for `sendfile` and `pread`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.data.as_fd()
    }

    /// Which tier it is in.
    pub fn tier(&self) -> TierKind {
        self.file.dir.kind
    }

    /// One CRC32C for each piece of the range, cut where the file's 16 KiB chunks end: what a data frame carries. Stored ones for whole chunks
    /// (their data is not read); for a chunk that is cut by an end of the range, it is read, checked and its piece summed anew (*blocking*).
    pub fn piece_checksums(&self) -> Result<Vec<u32>, Damaged> {
        verify::piece_checksums(&*self.file, self.range()).map_err(|fault| self.damaged(fault))
    }

    /// Like [`PinnedRange::piece_checksums`] for a part of the range.
    ///
    /// # Panics
    /// When `part` is not inside the range.
    pub fn piece_checksums_of(&self, part: Range<u64>) -> Result<Vec<u32>, Damaged> {
        assert!(self.range.start <= part.start && part.end <= self.range.end);
        verify::piece_checksums(&*self.file, part).map_err(|fault| self.damaged(fault))
    }

    /// Reads the range from `offset` (in the file) on into `buf` and checks every chunk that it touches (*blocking*). The page of a chunk that does not match is dropped.
    ///
    /// # Panics
    /// When `offset..offset + buf.len()` is not inside the range.
    pub fn read_verified(&self, offset: u64, buf: &mut [u8]) -> Result<(), Damaged> {
        assert!(self.range.start <= offset && offset + buf.len() as u64 <= self.range.end);
        verify::read_verified(&*self.file, offset, buf).map_err(|fault| self.damaged(fault))
    }

    fn damaged(&self, fault: Fault) -> Damaged {
        self.pin.inner.note_fault(&self.file, fault);
        Damaged
    }
}

impl fmt::Debug for PinnedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedRange({} {:?})", self.file.file(), self.range)
    }
}
