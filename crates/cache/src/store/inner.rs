//! What the parts of the page store share.

use crate::{
    DIRS_MAX, OpenError, Settings, TIERS_MAX, TierUsage,
    counters::Counters,
    dir::Dir,
    gate::Gates,
    geometry::EXTENT_OVERHEAD,
    index::{Entry, Index},
    open_files::OpenFiles,
    policy::Queue,
};
use forebay_base::{FileId, InodeId};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Descriptors left to the rest of the process.
const DESCRIPTORS_FOR_OTHERS: u64 = 256;

/// The page store.
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    /// All directories, by number.
    pub(crate) dirs: Vec<Arc<Dir>>,
    pub(crate) tier_count: usize,
    pub(crate) index: Index,
    pub(crate) open: OpenFiles,
    pub(crate) gates: Gates,
    pub(crate) counters: Counters,
    pub(crate) stopped: AtomicBool,
    pub(crate) leases: AtomicUsize,
    /// Rung when a directory has been scanned.
    pub(crate) scan_ended: (Mutex<()>, Condvar),
    pinned: Mutex<HashSet<InodeId>>,
    pinned_len: AtomicUsize,
}

impl Inner {
    pub(crate) fn new(settings: Settings) -> Result<Inner, OpenError> {
        check(&settings)?;
        let dirs = settings.tiers.iter().enumerate().flat_map(|(tier, of_tier)| {
            let dirs = of_tier.dirs.iter();
            dirs.map(move |dir| (tier, of_tier.kind, dir))
        });
        let dirs: Vec<Arc<Dir>> = dirs
            .enumerate()
            .map(|(number, (tier, kind, dir))| {
                Arc::new(Dir::new(number as u8, tier, kind, &dir.path, dir.quota.bytes()))
            })
            .collect();
        Ok(Inner {
            dirs,
            tier_count: settings.tiers.len(),
            index: Index::new(),
            open: OpenFiles::new(open_files_max(settings.open_files_max)),
            gates: Gates::new(),
            counters: Counters::new(),
            stopped: AtomicBool::new(false),
            leases: AtomicUsize::new(0),
            scan_ended: Default::default(),
            pinned: Mutex::default(),
            pinned_len: AtomicUsize::new(0),
            settings,
        })
    }

    pub(crate) fn dir(&self, number: u8) -> &Arc<Dir> {
        &self.dirs[number as usize]
    }

    /// The directories of a tier that take pages, in the order in which they want this file.
    pub(crate) fn writable_dirs(&self, tier: usize, file: FileId) -> Vec<&Arc<Dir>> {
        let of_tier = self.dirs.iter().filter(|dir| dir.tier == tier && dir.is_writable());
        let mut dirs: Vec<_> = of_tier.map(|dir| (dir.score(file), dir)).collect();
        dirs.sort_by(|a, b| b.0.total_cmp(&a.0));
        dirs.into_iter().map(|(_, dir)| dir).collect()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Takes a removed entry out of its directory's counts; the space it took is the caller's to give back.
    pub(crate) fn uncount(&self, entry: &Entry) -> u64 {
        let dir = self.dir(entry.dir);
        dir.extents.fetch_sub(1, Relaxed);
        dir.pages.fetch_sub(entry.valid.count_ones() as i64, Relaxed);
        if entry.queue() == Queue::Small {
            dir.small_bytes.fetch_sub(entry.bytes as i64, Relaxed);
        }
        entry.bytes as u64 + EXTENT_OVERHEAD
    }

    pub(crate) fn pin_inode(&self, inode: InodeId) -> bool {
        let mut pinned = self.pinned.lock();
        if pinned.len() >= self.settings.pinned_inodes_max && !pinned.contains(&inode) {
            return false;
        }
        pinned.insert(inode);
        self.pinned_len.store(pinned.len(), Relaxed);
        true
    }

    pub(crate) fn unpin_inode(&self, inode: InodeId) {
        let mut pinned = self.pinned.lock();
        pinned.remove(&inode);
        self.pinned_len.store(pinned.len(), Relaxed);
    }

    pub(crate) fn is_pinned(&self, inode: InodeId) -> bool {
        self.pinned_len.load(Relaxed) > 0 && self.pinned.lock().contains(&inode)
    }

    pub(crate) fn usage(&self) -> Vec<TierUsage> {
        let mut tiers: Vec<TierUsage> = self
            .settings
            .tiers
            .iter()
            .map(|tier| TierUsage { kind: tier.kind, capacity: 0, used: 0, pages: 0 })
            .collect();
        for dir in &self.dirs {
            let tier = &mut tiers[dir.tier];
            let (used, limit) = dir.used_and_limit();
            tier.used += used;
            tier.pages += dir.pages.load(Relaxed).max(0) as u64;
            if dir.is_readable() {
                tier.capacity += limit;
            }
        }
        tiers
    }

    pub(crate) fn wait_until_scanned(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut guard = self.scan_ended.0.lock();
        loop {
            if self.dirs.iter().all(|dir| dir.is_scanned() || !dir.is_readable()) {
                return true;
            }
            if self.scan_ended.1.wait_until(&mut guard, deadline).timed_out() {
                return false;
            }
        }
    }
}

fn check(settings: &Settings) -> Result<(), OpenError> {
    let refuse = |text: String| Err(OpenError::Settings(text));
    let dirs: Vec<_> = settings.tiers.iter().flat_map(|tier| &tier.dirs).collect();
    if dirs.is_empty() || settings.tiers.len() > TIERS_MAX || dirs.len() > DIRS_MAX {
        return refuse(format!(
            "the cache has {} directories in {} tiers: give it 1 to {DIRS_MAX} in at most {TIERS_MAX}",
            dirs.len(),
            settings.tiers.len()
        ));
    }
    let (low, high) = (settings.low_watermark, settings.high_watermark);
    if !(0.0 < low && low <= high && high <= 1.0) {
        return refuse(format!(
            "the cache's watermarks are {low} and {high}: they must be above 0, ascending, and 1 at most"
        ));
    }
    let mut seen = HashSet::new();
    match dirs.iter().find(|dir| !seen.insert(&dir.path)) {
        Some(twice) => refuse(format!("cache directory {} is named twice", twice.path.display())),
        None => Ok(()),
    }
}

/// As many files of two descriptors each as the process may open, a quarter of its descriptors left aside for leases.
fn open_files_max(wanted: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let ours = limit.map_or(u64::MAX, |limit| limit.saturating_sub(DESCRIPTORS_FOR_OTHERS) / 8 * 3);
    wanted.min(usize::try_from(ours).unwrap_or(usize::MAX)).max(16)
}
