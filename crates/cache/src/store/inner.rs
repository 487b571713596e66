//! What the parts of the page store share.

use super::moves::Incoming;
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
use forebay_base::FileId;
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
    pub(crate) incoming: Incoming,
    pub(crate) counters: Counters,
    pub(crate) stopped: AtomicBool,
    pub(crate) watch_ended: AtomicBool,
    pub(crate) leases: AtomicUsize,
    pub(crate) leases_max: usize,
    /// Rung when a directory has been scanned.
    pub(crate) scan_ended: (Mutex<()>, Condvar),
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
            open: OpenFiles::new(open_files_max(settings.open_files_max, descriptors())),
            leases_max: leases_max(settings.leases_max, descriptors()),
            gates: Gates::new(),
            incoming: Incoming::default(),
            counters: Counters::new(),
            stopped: AtomicBool::new(false),
            watch_ended: AtomicBool::new(false),
            leases: AtomicUsize::new(0),
            scan_ended: Default::default(),
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

    pub(crate) fn usage(&self) -> Vec<TierUsage> {
        let mut tiers: Vec<TierUsage> = self
            .settings
            .tiers
            .iter()
            .map(|tier| TierUsage { kind: tier.kind, capacity: 0, used: 0, quota: 0, other: 0, pages: 0 })
            .collect();
        for dir in &self.dirs {
            let tier = &mut tiers[dir.tier];
            tier.pages += dir.pages.load(Relaxed).max(0) as u64;
            if dir.is_readable() {
                let (used, capacity) = dir.used_and_capacity();
                tier.used += used;
                tier.capacity += capacity;
                tier.quota += dir.quota;
                tier.other += dir.other();
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

/// Descriptors that are ours; none: as many as we like.
fn descriptors() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map(|limit| limit.saturating_sub(DESCRIPTORS_FOR_OTHERS))
}

/// As many files of two descriptors each as the process may open, a quarter of its descriptors left aside for leases.
fn open_files_max(wanted: usize, descriptors: Option<u64>) -> usize {
    at_most(wanted, descriptors.map(|ours| ours / 8 * 3)).max(16)
}

/// As many leases as fit into that quarter, of four descriptors each: the client's two, and those of a file that stays open for it.
fn leases_max(wanted: usize, descriptors: Option<u64>) -> usize {
    at_most(wanted, descriptors.map(|ours| ours / 4 / 4))
}

fn at_most(wanted: usize, max: Option<u64>) -> usize {
    max.and_then(|max| usize::try_from(max).ok()).map_or(wanted, |max| wanted.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_leases_fit_into_the_descriptors() {
        for limit in [0, 100, 768, 3840, 65_280, 1 << 20] {
            let (files, leases) = (open_files_max(4096, Some(limit)), leases_max(16_384, Some(limit)));
            assert!(
                2 * files as u64 + 4 * leases as u64 <= limit.max(32),
                "{files} files and {leases} leases in {limit}"
            );
        }
        assert_eq!((open_files_max(4096, None), leases_max(16_384, None)), (4096, 16_384));
        assert_eq!(leases_max(16_384, Some(1 << 20)), 16_384);
    }
}
