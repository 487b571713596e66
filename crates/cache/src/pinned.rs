//! A cached range that stays as it is while it is held.

use crate::{
    TierKind, disk,
    index::Handle,
    open_files::{InMemory, OpenFile},
    store::Inner,
    verify::{self, Fault},
};
use std::{
    fmt, io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// A range is warmed in pieces of this length.
const WARM_LEN: usize = 128 << 10;

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

    /// Brings `part` of the range into the kernel's page cache (*blocking*), and tells the kernel to go on for `ahead_len` bytes of the range. No memory is
    /// held for it afterwards.
    pub fn warm(&self, part: Range<u64>, ahead_len: u64) -> io::Result<()> {
        let ahead = self.range.end.saturating_sub(part.end).min(ahead_len);
        let file = &self.file;
        if let Some(ahead) = std::num::NonZeroU64::new(ahead) {
            disk::advise_read(&file.dir.at_disk(), &file.data, part.end, ahead);
        }
        let mut scratch = vec![0; WARM_LEN];
        let mut at = part.start;
        while at < part.end {
            let len = WARM_LEN.min((part.end - at) as usize);
            match disk::read_some(&file.dir.at_disk(), &file.paths.data, &file.data, &mut scratch[..len], at) {
                Ok(0) => break,
                Ok(got) => at += got as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    file.dir.note_read_error(&error);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The number of its directory, among all of the store: below [`crate::PageStore::status`]'s length, in its order.
    pub fn directory(&self) -> usize {
        usize::from(self.file.dir.number)
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

    /// Reads the whole range like [`PinnedRange::read_verified`], with what [`PinnedRange::piece_checksums`] gives of it (*blocking*).
    ///
    /// # Panics
    /// When `buf` is not as long as the range.
    pub fn read_summed(&self, buf: &mut [u8]) -> Result<Vec<u32>, Damaged> {
        assert_eq!(self.range.end - self.range.start, buf.len() as u64);
        verify::read_summed(&*self.file, self.range.start, buf).map_err(|fault| self.damaged(fault))
    }

    /// Like [`PinnedRange::read_summed`], but none where that would wait for a disk. For a page that is damaged, none too: finding out takes the disk.
    pub fn try_read_summed(&self, buf: &mut [u8]) -> Option<Vec<u32>> {
        assert_eq!(self.range.end - self.range.start, buf.len() as u64);
        verify::read_summed(&InMemory(&self.file), self.range.start, buf).ok()
    }

    /// Like [`PinnedRange::piece_checksums`], but none where that would wait for a disk, or a page is damaged.
    pub fn try_piece_checksums(&self) -> Option<Vec<u32>> {
        verify::piece_checksums(&InMemory(&self.file), self.range()).ok()
    }

    /// Whether reading it never waits for a disk.
    pub fn is_on_memory(&self) -> bool {
        self.file.dir.is_in_memory()
    }

    /// Whether the byte at `at` can be read without waiting for a disk. Only a hint: the kernel may drop it in the next moment.
    pub fn is_in_memory(&self, at: u64) -> bool {
        let read = disk::read_now(&self.file.paths.data, &self.file.data, &mut [0], at);
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes the pages of `part` missing, whose bytes are not where they should be (*blocking*): somebody has made the file shorter. They are fetched anew.
    pub fn give_up(&self, part: Range<u64>) {
        let geometry = self.file.geometry();
        let Some((first, last)) = geometry.page_of(part.start).zip(geometry.page_of(part.end.max(1) - 1)) else {
            return;
        };
        for page in first..=last {
            self.damaged(Fault { page, error: Some(io::ErrorKind::UnexpectedEof.into()) });
        }
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
