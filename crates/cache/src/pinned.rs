//! A cached range that stays as it is while it is held.

use crate::TierKind;
use std::{ops::Range, os::fd::BorrowedFd};

/// Stored bytes that do not match their checksums, or cannot be read: the page has been dropped, treat it as a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cached bytes are damaged")]
pub struct Damaged;

/// A cached range of a file. Nothing under it changes until it is dropped.
pub struct PinnedRange {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl PinnedRange {
    /// The bytes of the file that this is; also where they are in [`PinnedRange::fd`]: every page lies at its natural offset.
    pub fn range(&self) -> Range<u64> {
        todo!()
    }

    /// The data file, for `sendfile` and `pread`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Which tier it is in.
    pub fn tier(&self) -> TierKind {
        todo!()
    }

    /// One CRC32C for each piece of the range, cut where the file's 16 KiB chunks end: what a data frame carries. Stored ones for whole chunks
    /// (their data is not read); for a chunk that is cut by an end of the range, it is read, checked and its piece summed anew (*blocking*).
    pub fn piece_checksums(&self) -> Result<Vec<u32>, Damaged> {
        todo!()
    }

    /// Reads the range from `offset` (in the file) on into `buf` and checks every chunk that it touches (*blocking*). The page of a chunk that does not match is dropped.
    ///
    /// # Panics
    /// When `offset..offset + buf.len()` is not inside the range.
    pub fn read_verified(&self, offset: u64, buf: &mut [u8]) -> Result<(), Damaged> {
        todo!()
    }
}
