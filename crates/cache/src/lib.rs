//! The page store of a worker: pages of files on local disks, in tiers.
//!
//! A page is named by its file version and index ([`FileId`](forebay_base::FileId), [`PageIndex`](forebay_base::PageIndex)), so no page is ever out of date. The store does not know where pages come
//! from. Formats: `docs/formats/page-store.md`.

mod chores;
mod counters;
mod dir;
mod disk;
mod error;
mod gate;
mod geometry;
mod hash;
mod index;
mod layout;
mod lease;
mod local_file;
#[doc(hidden)]
pub mod measure;
mod open_files;
mod pinned;
mod policy;
mod reservation;
mod settings;
pub mod sidecar;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;
mod waits;

pub use counters::Counts;
#[doc(hidden)]
pub use disk::{hangs_under, wait_under};
pub use error::OpenError;
pub use geometry::Geometry;
pub use layout::remove_unused;
pub use lease::{LEASE_GRACE, Lease};
pub use local_file::{LocalFile, LocalFileError};
pub use pinned::{Damaged, PinnedRange};
pub use reservation::{Reservation, Stored};
pub use settings::{DIRS_MAX, DirSettings, Settings, TIERS_MAX, TierKind, TierSettings};
pub use store::PageStore;

use forebay_base::TimestampMs;
use std::{ops::Range, path::PathBuf};

/// The smallest page: one checksum chunk.
pub const PAGE_SIZE_MIN: u32 = forebay_base::checksum::CHECKSUM_CHUNK as u32;
/// The largest page.
pub const PAGE_SIZE_MAX: u32 = 64 << 20;

/// What the store must be told about a file version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Bytes of a page: a power of two from [`PAGE_SIZE_MIN`] to [`PAGE_SIZE_MAX`]; with any other nothing is cached.
    pub page_size: u32,
    /// Bytes of the file; none while it is being written.
    pub length: Option<u64>,
}

/// Why a range is looked up: what the eviction shall learn from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A reader reads it.
    Read,
    /// A reader reads it, and a page read again shall move to the top tier.
    ReadPromote,
    /// No reader: neither hits nor misses are counted.
    Peek,
}

/// One part of a lookup's answer.
#[derive(Debug)]
pub enum Run {
    /// Cached.
    Present(PinnedRange),
    /// Not cached, or being written.
    Missing {
        /// The bytes of the file asked for that are missing.
        range: Range<u64>,
        /// The pages that they lie in.
        pages: Range<u32>,
    },
}

/// How full a tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierUsage {
    /// What it is made of.
    pub kind: TierKind,
    /// Bytes that its directories may hold at present, at least what they do hold: less than the quota when a disk is full with other things. Broken
    /// directories count neither here nor below.
    pub capacity: u64,
    /// Bytes taken, with what is reserved and what is held only by leases.
    pub used: u64,
    /// The quotas.
    pub quota: u64,
    /// Bytes of other things on the disks.
    pub other: u64,
    /// Pages cached.
    pub pages: u64,
}

/// How a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirStatus {
    /// The directory.
    pub path: PathBuf,
    /// Its tier's kind.
    pub tier: TierKind,
    /// Whether it can be used.
    pub health: Health,
    /// As set.
    pub quota: u64,
    /// Bytes taken.
    pub used: u64,
    /// Whether all that was there at the start is accounted for.
    pub scanned: bool,
}

/// Whether a directory can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes.
    Healthy,
    /// Reads only: the disk is full or may not be written.
    ReadOnly {
        /// What happened.
        reason: String,
        /// When.
        since: TimestampMs,
    },
    /// Neither: what it holds counts as missing.
    Broken {
        /// What happened.
        reason: String,
        /// When.
        since: TimestampMs,
    },
}
