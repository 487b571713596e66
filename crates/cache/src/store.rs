//! The page store as its callers see it.

mod evict;
mod files;
mod fill;
mod forget;
mod inner;
mod keeper;
mod leases;
mod lookup;
mod moves;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use fill::{Part, Written};
pub(crate) use inner::Inner;

use crate::{Access, Counts, DirStatus, FileMeta, Lease, OpenError, Reservation, Run, Settings, TierUsage};
use forebay_base::{FileId, InodeId, PageIndex};
use std::{ops::Range, sync::Arc, time::Duration};

/// The cached pages of one worker. Cheap to clone; the last clone to go stops the background threads.
///
/// Thread-safe. Methods marked *blocking* may wait for a disk: call them on a thread that may wait. No method fails: what cannot be
/// read is a miss, what cannot be stored is not stored.
#[derive(Clone)]
pub struct PageStore {
    inner: Arc<Inner>,
    keepers: Arc<keeper::Keepers>,
}

impl PageStore {
    /// Opens the directories (*blocking*). What an earlier process left there is served at once; a background scan finds out how
    /// much there is. A directory that cannot be used now (a missing or broken disk, or one that does not answer within [`Settings::silence_max`]) does not prevent
    /// the opening: it is tried again and joins when it works.
    pub fn open(settings: Settings) -> Result<PageStore, OpenError> {
        let inner = Arc::new(Inner::new(settings)?);
        let keepers = Arc::new(keeper::Keepers::start(&inner)?);
        keepers.wait_until_attached()?;
        Ok(PageStore { inner, keepers })
    }

    /// What of `range` (bytes of the file; what lies past `meta.length` is left out) is cached, in order and without gaps, the present parts pinned.
    /// *Blocking*: may open files and, soon after a start, look into the directories.
    pub fn lookup(&self, file: FileId, meta: FileMeta, range: Range<u64>, access: Access) -> Vec<Run> {
        let wait = lookup::Wait::ForDisk;
        self.inner.lookup(file, meta, range, access, wait).expect("a lookup that may wait has an answer")
    }

    /// Like [`PageStore::lookup`], but never touches a disk: none when the answer is not in memory.
    pub fn try_lookup(&self, file: FileId, meta: FileMeta, range: Range<u64>, access: Access) -> Option<Vec<Run>> {
        self.inner.lookup(file, meta, range, access, lookup::Wait::Never)
    }

    /// The first run of [`PageStore::try_lookup`], without an allocation: the hot path of small reads.
    /// A run is at most one extent long (16 MiB at the default page size).
    pub fn try_first_run(&self, file: FileId, meta: FileMeta, range: Range<u64>, access: Access) -> Option<Run> {
        self.inner.first_run(file, meta, range, access, lookup::Wait::Never)
    }

    /// The first run of [`PageStore::lookup`] (*blocking*): for who goes on run by run, so that what comes later is not counted as read before it is.
    pub fn first_run(&self, file: FileId, meta: FileMeta, range: Range<u64>, access: Access) -> Run {
        let wait = lookup::Wait::ForDisk;
        self.inner.first_run(file, meta, range, access, wait).expect("a lookup that may wait has an answer")
    }

    /// Reads at `offset` into `buf` as far as pages are cached and match their checksums: returns how many bytes
    /// (less than `buf.len()` means a miss, or the end of the file, right there). A damaged page is dropped (*blocking*).
    pub fn read_verified(&self, file: FileId, meta: FileMeta, offset: u64, buf: &mut [u8], access: Access) -> usize {
        self.inner.read_verified(file, meta, offset, buf, access)
    }

    /// Claims those of `pages` that are neither cached nor claimed by another, and the space for them (*blocking*: may make
    /// room). None when there is no space: read through without the cache then. The claim ends when the reservation is dropped.
    pub fn reserve(&self, file: FileId, meta: FileMeta, pages: Range<u32>) -> Option<Reservation> {
        self.inner.reserve(file, meta, pages)
    }

    /// Whether some directory could take `len` bytes at all: it is in use for writing, and so large. A hint that costs nothing; [`PageStore::reserve`]
    /// has the last word.
    pub fn can_store(&self, len: u64) -> bool {
        self.inner.dirs.iter().any(|dir| dir.is_writable() && dir.could_hold(len))
    }

    /// Forgets one version of a file (*blocking*). Readers that have it pinned or leased keep their bytes.
    pub fn drop_file(&self, file: FileId) {
        self.inner.drop_file(file);
    }

    /// Forgets all versions of a file (*blocking*).
    pub fn drop_inode(&self, inode: InodeId) {
        self.inner.drop_inode(inode);
    }

    /// Forgets one page (*blocking*): it is damaged, or what it was written for has failed. Readers that have it pinned or leased keep its bytes.
    pub fn drop_page(&self, file: FileId, page: PageIndex) {
        self.inner.drop_page(file, page.0);
    }

    /// Descriptors of the cached file for a client on this host (*blocking*); the file is made when nothing of it is cached
    /// yet, so that later pages go into it. As long as the lease lives the bytes of valid pages do not change. None when no directory can take it, or at the bound of leases.
    pub fn lease(&self, file: FileId, meta: FileMeta) -> Option<Lease> {
        self.inner.lease(file, meta)
    }

    /// The byte ranges of the file that are cached, in order (*blocking*).
    pub fn cached_ranges(&self, file: FileId, meta: FileMeta) -> Vec<Range<u64>> {
        self.inner.cached_ranges(file, meta)
    }

    /// Whether a directory (by its number, see [`crate::PinnedRange::directory`]) is in use: who has a range of one that is not, gets the bytes elsewhere.
    pub fn is_in_use(&self, directory: usize) -> bool {
        self.inner.dirs.get(directory).is_some_and(|dir| dir.is_readable())
    }

    /// How full the tiers are.
    pub fn usage(&self) -> Vec<TierUsage> {
        self.inner.usage()
    }

    /// How the directories are.
    pub fn status(&self) -> Vec<DirStatus> {
        self.inner.dirs.iter().map(|dir| dir.status()).collect()
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.inner.counters.read()
    }

    /// Waits until everything that was there at the start is accounted for, or `timeout` has passed; whether it is.
    /// A directory that is out of use is not waited for.
    pub fn wait_until_scanned(&self, timeout: Duration) -> bool {
        self.inner.wait_until_scanned(timeout)
    }

    /// From now on nothing is punched, and ending leases needs no patience: for a process that stops, whose clients may believe for a moment yet
    /// that their connections stand ([`crate::LEASE_GRACE`]). What is not given back is found by the scan of the next start.
    pub fn stop_punching(&self) {
        self.inner.dirs.iter().for_each(|dir| dir.stop_punching());
    }

    /// Stops the background threads and notes how full the directories are (*blocking*). Nothing is lost without it.
    pub fn close(&self) {
        self.keepers.stop();
    }
}
