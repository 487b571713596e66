//! What a worker has done since it started.

use crate::metrics as names;
use forebay_cache::{Health, PageStore, TierUsage};
use forebay_proto::v1::TierStatus;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters for the masters' status; the same go to the metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hit_bytes: AtomicU64,
    miss_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
}

/// The counters at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Bytes served that were cached when they were asked for.
    pub hit_bytes: u64,
    /// Bytes that readers had to wait for.
    pub miss_bytes: u64,
    /// Bytes received from under stores.
    pub fetched_bytes: u64,
}

impl Counters {
    pub(crate) fn served(&self, hit: u64, missed: u64) {
        self.hit_bytes.fetch_add(hit, Relaxed);
        self.miss_bytes.fetch_add(missed, Relaxed);
        metrics::counter!(names::READ_HIT_BYTES).increment(hit);
        metrics::counter!(names::READ_MISS_BYTES).increment(missed);
    }

    pub(crate) fn fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Relaxed);
        metrics::counter!(names::STORE_READ_BYTES).increment(bytes);
    }

    pub(crate) fn now(&self) -> Counted {
        Counted {
            hit_bytes: self.hit_bytes.load(Relaxed),
            miss_bytes: self.miss_bytes.load(Relaxed),
            fetched_bytes: self.fetched_bytes.load(Relaxed),
        }
    }
}

/// How full the tiers are, as the masters are told.
pub(crate) fn tiers(pages: &PageStore) -> Vec<TierStatus> {
    let directories = pages.status();
    let of = |kind| directories.iter().filter(move |dir| dir.tier == kind);
    let broken = |kind| of(kind).filter(|dir| dir.health != Health::Healthy).count();
    pages
        .usage()
        .into_iter()
        .map(|tier| TierStatus {
            name: tier.kind.as_str().to_owned(),
            capacity: tier.capacity,
            used: tier.used,
            // At most DIRS_MAX each.
            directories: of(tier.kind).count() as u32,
            broken_directories: broken(tier.kind) as u32,
            quota: tier.quota,
            other_bytes: tier.other,
        })
        .collect()
}

/// A last tier fuller than this may be dropping pages: somewhat before the cache begins to make room.
const PRESSED_PERCENT: u64 = 85;

/// Whether what comes into the cache now may push out what came shortly before: it has dropped pages since `evicted` bytes had been, or will soon.
pub(crate) fn is_pressed(pages: &PageStore, evicted: u64) -> bool {
    let nearly_full = |tier: &TierUsage| tier.used.saturating_mul(100) >= tier.capacity.saturating_mul(PRESSED_PERCENT);
    pages.counts().evicted_bytes != evicted || pages.usage().last().is_none_or(nearly_full)
}
