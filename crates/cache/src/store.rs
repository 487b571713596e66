//! The page store as its callers see it.

use crate::{Access, DirStatus, FileMeta, Lease, OpenError, Reservation, Run, Settings, TierUsage};
use forebay_base::{FileId, InodeId, PageIndex};
use std::{ops::Range, sync::Arc, time::Duration};

/// The cached pages of one worker. Cheap to clone; the last clone to go stops the background threads.
///
/// Thread-safe. Methods marked *blocking* may wait for a disk: call them on a thread that may wait. No method fails: what cannot be
/// read is a miss, what cannot be stored is not stored.
#[derive(Clone)]
pub struct PageStore {
    _inner: Arc<()>,
}

#[allow(unused_variables, clippy::todo)]
impl PageStore {
    /// Opens the directories (*blocking*). What an earlier process left there is served at once; a background scan finds out how
    /// much there is. A directory that cannot be used now (a missing or broken disk) does not prevent the opening: it is tried again and joins when it works.
    pub fn open(settings: Settings) -> Result<PageStore, OpenError> {
        todo!()
    }

    /// What of `range` (bytes of the file; what lies past `meta.length` is left out) is cached, in order and without gaps, the present parts pinned.
    /// *Blocking*: may open files and, soon after a start, look into the directories.
    pub fn lookup(
        &self,
        file: FileId,
        meta: FileMeta,
        range: Range<u64>,
        access: Access,
    ) -> Vec<Run> {
        todo!()
    }

    /// Like [`PageStore::lookup`], but never touches a disk: none when the answer is not in memory.
    pub fn try_lookup(
        &self,
        file: FileId,
        meta: FileMeta,
        range: Range<u64>,
        access: Access,
    ) -> Option<Vec<Run>> {
        todo!()
    }

    /// The first run of [`PageStore::try_lookup`], without an allocation: the hot path of small reads.
    /// A run is at most one extent long (16 MiB at the default page size).
    pub fn try_first_run(
        &self,
        file: FileId,
        meta: FileMeta,
        range: Range<u64>,
        access: Access,
    ) -> Option<Run> {
        todo!()
    }

    /// Reads at `offset` into `buf` as far as pages are cached and match their checksums: returns how many bytes
    /// (less than `buf.len()` means a miss, or the end of the file, right there). A damaged page is dropped (*blocking*).
    pub fn read_verified(
        &self,
        file: FileId,
        meta: FileMeta,
        offset: u64,
        buf: &mut [u8],
        access: Access,
    ) -> usize {
        todo!()
    }

    /// Claims those of `pages` that are neither cached nor claimed by another, and the space for them (*blocking*: may make
    /// room). None when there is no space: read through without the cache then. The claim ends when the reservation is dropped.
    pub fn reserve(&self, file: FileId, meta: FileMeta, pages: Range<u32>) -> Option<Reservation> {
        todo!()
    }

    /// Forgets one version of a file (*blocking*). Readers that have it pinned or leased keep their bytes.
    pub fn drop_file(&self, file: FileId) {
        todo!()
    }

    /// Forgets all versions of a file (*blocking*).
    pub fn drop_inode(&self, inode: InodeId) {
        todo!()
    }

    /// Forgets one page, known to be damaged (*blocking*).
    pub fn drop_page(&self, file: FileId, page: PageIndex) {
        todo!()
    }

    /// Descriptors of the cached file for a client on this host (*blocking*); the file is made when nothing of it is cached
    /// yet, so that later pages go into it. As long as the lease lives the bytes of valid pages do not change. None when no directory can take it, or at the bound of leases.
    pub fn lease(&self, file: FileId, meta: FileMeta) -> Option<Lease> {
        todo!()
    }

    /// The byte ranges of the file that are cached, in order (*blocking*).
    pub fn cached_ranges(&self, file: FileId, meta: FileMeta) -> Vec<Range<u64>> {
        todo!()
    }

    /// Keeps the pages of `inode` from being evicted. False at the bound of pins. Not remembered over a restart.
    pub fn pin_inode(&self, inode: InodeId) -> bool {
        todo!()
    }

    /// Takes a pin back.
    pub fn unpin_inode(&self, inode: InodeId) {
        todo!()
    }

    /// How full the tiers are.
    pub fn usage(&self) -> Vec<TierUsage> {
        todo!()
    }

    /// How the directories are.
    pub fn status(&self) -> Vec<DirStatus> {
        todo!()
    }

    /// Waits until everything that was there at the start is accounted for, or `timeout` has passed; whether it is.
    pub fn wait_until_scanned(&self, timeout: Duration) -> bool {
        todo!()
    }

    /// Stops the background threads and notes how full the directories are (*blocking*). Nothing is lost without it.
    pub fn close(&self) {
        todo!()
    }
}
