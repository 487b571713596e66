//! What the page store counts, for the worker's status and for the metrics.

use metrics::{Counter, counter};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes looked up and found.
    pub hit_bytes: u64,
    /// Bytes looked up and not found.
    pub missed_bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// Bytes evicted from the last tier, or with no room below.
    pub evicted_bytes: u64,
    /// Bytes moved to a slower tier.
    pub demoted_bytes: u64,
    /// Bytes moved to a faster tier.
    pub promoted_bytes: u64,
    /// Pages whose bytes did not match their checksums or could not be read.
    pub damaged_pages: u64,
    /// Reservations refused for want of space.
    pub refused: u64,
}

/// One count, here and in the metrics.
pub(crate) struct Count {
    value: AtomicU64,
    metric: Counter,
}

impl Count {
    fn new(metric: Counter) -> Count {
        Count { value: AtomicU64::new(0), metric }
    }

    pub(crate) fn add(&self, n: u64) {
        self.value.fetch_add(n, Relaxed);
        self.metric.increment(n);
    }

    fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

/// All counts.
pub(crate) struct Counters {
    pub(crate) hit_bytes: Count,
    pub(crate) missed_bytes: Count,
    pub(crate) stored_bytes: Count,
    pub(crate) evicted_bytes: Count,
    pub(crate) demoted_bytes: Count,
    pub(crate) promoted_bytes: Count,
    pub(crate) damaged_pages: Count,
    pub(crate) refused: Count,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            hit_bytes: Count::new(counter!("forebay_cache_hit_bytes_total")),
            missed_bytes: Count::new(counter!("forebay_cache_missed_bytes_total")),
            stored_bytes: Count::new(counter!("forebay_cache_stored_bytes_total")),
            evicted_bytes: Count::new(counter!("forebay_cache_evicted_bytes_total")),
            demoted_bytes: Count::new(counter!("forebay_cache_demoted_bytes_total")),
            promoted_bytes: Count::new(counter!("forebay_cache_promoted_bytes_total")),
            damaged_pages: Count::new(counter!("forebay_cache_damaged_pages_total")),
            refused: Count::new(counter!("forebay_cache_refused_reservations_total")),
        }
    }

    pub(crate) fn read(&self) -> Counts {
        Counts {
            hit_bytes: self.hit_bytes.get(),
            missed_bytes: self.missed_bytes.get(),
            stored_bytes: self.stored_bytes.get(),
            evicted_bytes: self.evicted_bytes.get(),
            demoted_bytes: self.demoted_bytes.get(),
            promoted_bytes: self.promoted_bytes.get(),
            damaged_pages: self.damaged_pages.get(),
            refused: self.refused.get(),
        }
    }
}
