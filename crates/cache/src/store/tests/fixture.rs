//! What the tests say: fill these pages, read this range, expect this much.

use crate::store::inner::Inner;
use crate::{Access, DirSettings, FileMeta, LocalFile, PageStore, Run, Settings, Stored, TierKind, TierSettings};
use forebay_base::{ByteSize, FileId, InodeId, PageIndex};
use std::{
    ops::Range,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(super) const PAGE: u64 = 16 << 10;
/// Pages of an extent of such pages.
pub(super) const EXTENT: u32 = 64;

pub(super) fn file(inode: u64) -> FileId {
    FileId { inode: InodeId(inode), version: 1 }
}

pub(super) fn meta(length: u64) -> FileMeta {
    FileMeta { page_size: PAGE as u32, length: Some(length) }
}

/// What a file has in a range: every byte depends on file, version and offset.
pub(super) fn content(file: FileId, range: Range<u64>) -> Vec<u8> {
    let word = |at: u64| crate::hash::of_extent(file, (at / 8) as u32).to_le_bytes()[(at % 8) as usize];
    range.map(word).collect()
}

pub(super) fn pages_of(range: Range<u32>, length: u64) -> Range<u64> {
    range.start as u64 * PAGE..(range.end as u64 * PAGE).min(length)
}

/// A store in temporary directories.
pub(super) struct Fixture {
    pub(super) store: PageStore,
    pub(super) settings: Settings,
    // After the store, which must have let go of it.
    temp: Directories,
}

/// The directories of a store. A thread that waited for a disk outlives its store, and notes something when the disk has answered.
struct Directories {
    temp: TempDir,
    store: Weak<Inner>,
}

impl Drop for Directories {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            until("the threads of the store have ended", || self.store.strong_count() == 0);
        }
    }
}

impl Fixture {
    /// One directory for each (tier, quota).
    pub(super) fn new(dirs: &[(TierKind, ByteSize)]) -> Fixture {
        Fixture::with(dirs, |_| {})
    }

    pub(super) fn with(dirs: &[(TierKind, ByteSize)], change: impl FnOnce(&mut Settings)) -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let mut tiers: Vec<TierSettings> = Vec::new();
        for (number, (kind, quota)) in dirs.iter().enumerate() {
            let dir = DirSettings { path: temp.path().join(number.to_string()), quota: *quota };
            match tiers.last_mut().filter(|tier| tier.kind == *kind) {
                Some(tier) => tier.dirs.push(dir),
                None => tiers.push(TierSettings { kind: *kind, dirs: vec![dir] }),
            }
        }
        let mut settings = Settings::new(tiers);
        settings.probe_interval = Duration::from_millis(20);
        change(&mut settings);
        let store = PageStore::open(settings.clone()).unwrap();
        assert!(store.wait_until_scanned(Duration::from_secs(60)));
        let temp = Directories { temp, store: Arc::downgrade(&store.inner) };
        Fixture { store, settings, temp }
    }

    pub(super) fn ssd(quota: ByteSize) -> Fixture {
        Fixture::new(&[(TierKind::Ssd, quota)])
    }

    pub(super) fn dir(&self, number: usize) -> PathBuf {
        self.temp.temp.path().join(number.to_string())
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(self) -> Fixture {
        self.reopen_after(|_| {})
    }

    /// Like [`Fixture::reopen`], with `change` done while it is closed.
    pub(super) fn reopen_after(self, change: impl FnOnce(&Path)) -> Fixture {
        let Fixture { store, settings, mut temp } = self;
        drop(store);
        change(temp.temp.path());
        let store = PageStore::open(settings.clone()).unwrap();
        temp.store = Arc::downgrade(&store.inner);
        Fixture { store, settings, temp }
    }

    /// Fetches pages as a worker does; how many it could store.
    pub(super) fn fill(&self, file: FileId, meta: FileMeta, pages: Range<u32>) -> usize {
        fill(&self.store, file, meta, pages)
    }

    /// The pages that a lookup finds.
    pub(super) fn found(&self, file: FileId, meta: FileMeta) -> Vec<Range<u64>> {
        self.store.cached_ranges(file, meta)
    }

    pub(super) fn check(&self, file: FileId, meta: FileMeta, range: Range<u64>) {
        check(&self.store, file, meta, range);
    }

    pub(super) fn is_cached(&self, file: FileId, meta: FileMeta, range: Range<u64>) -> bool {
        let runs = self.store.lookup(file, meta, range, Access::Peek);
        runs.iter().all(|run| matches!(run, Run::Present(_)))
    }

    pub(super) fn used(&self) -> u64 {
        self.store.usage().iter().map(|tier| tier.used).sum()
    }

    /// Waits until the keepers have done what was left to them.
    pub(super) fn settle(&self) {
        until("the chores are done", || !self.store.inner.dirs.iter().any(|dir| dir.chores().are_pending()));
    }

    pub(super) fn cached_pages(&self, tier: usize) -> u64 {
        self.store.usage()[tier].pages
    }
}

pub(super) fn fill(store: &PageStore, file: FileId, meta: FileMeta, pages: Range<u32>) -> usize {
    let Some(reservation) = store.reserve(file, meta, pages) else {
        return 0;
    };
    let write = |page: &PageIndex| {
        let length = meta.length.unwrap_or(u64::MAX);
        let bytes = content(file, pages_of(page.0..page.0 + 1, length));
        reservation.write(*page, &bytes, None) == Stored::Yes
    };
    reservation.pages().iter().filter(|page| write(page)).count()
}

/// Reads a range that must be cached and have the right bytes.
pub(super) fn check(store: &PageStore, file: FileId, meta: FileMeta, range: Range<u64>) {
    let mut buf = vec![0; (range.end - range.start) as usize];
    let read = store.read_verified(file, meta, range.start, &mut buf, Access::Read);
    assert_eq!(read, buf.len(), "{file} {range:?}");
    assert!(buf == content(file, range.clone()), "other bytes in {file} {range:?}");
}

/// Waits for a condition.
pub(super) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::yield_now();
    }
}

pub(super) fn local_file(lease: &crate::Lease, file: FileId) -> LocalFile {
    let data = lease.data().as_fd().try_clone_to_owned().unwrap();
    let sums = lease.checksums().as_fd().try_clone_to_owned().unwrap();
    LocalFile::new(file, data, sums).unwrap()
}

/// All files with this ending below a directory.
pub(super) fn files_with(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// Bytes of a file that are not in holes.
pub(super) fn allocated(path: &Path) -> u64 {
    let (file, mut at, mut bytes) = (std::fs::File::open(path).unwrap(), 0, 0);
    let waits = crate::waits::Waits::default();
    while let Some(data) = crate::disk::next_data(&waits.enter(path), &file, at).unwrap() {
        bytes += data.end - data.start;
        at = data.end;
    }
    bytes
}

/// Turns over one byte of a file.
pub(super) fn flip(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

/// Numbers below a bound from a seed (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
