//! What the operator decides about the page store.

use forebay_base::ByteSize;
use std::{fmt, path::PathBuf, time::Duration};

/// Where the page store keeps its pages, and how full it lets them get.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// From the fastest to the slowest; new pages enter the first. At least one, [`TIERS_MAX`] at most.
    pub tiers: Vec<TierSettings>,
    /// A tier fuller than this share of its quota is emptied in the background, down to [`Settings::low_watermark`].
    pub high_watermark: f64,
    /// Where the emptying stops.
    pub low_watermark: f64,
    /// Bytes left free on each file system, for others than us.
    pub keep_free: ByteSize,
    /// Cached files held open at one time, two descriptors each. More are opened only while all of
    /// these are being read. Lowered when the process may not open as many.
    pub open_files_max: usize,
    /// Extents (runs of pages of one file, at most 16 MiB and 64 pages) cached at one time: bounds the memory of the index, about 90 bytes each. At the bound
    /// others are evicted, however much space is left.
    pub extents_max: usize,
    /// Descriptors handed out to clients at one time, in [`crate::Lease`]s; at the bound no more are given and clients read over the wire.
    /// Lowered when the process may not have as many open: each takes up to four descriptors.
    pub leases_max: usize,
    /// How often free space is measured and a broken directory is tried again.
    pub probe_interval: Duration,
    /// A disk that keeps a call waiting for so long counts as broken until it has answered.
    pub silence_max: Duration,
}

/// At most so many tiers.
pub const TIERS_MAX: usize = 8;
/// At most so many directories in all tiers together.
pub const DIRS_MAX: usize = 128;

/// What a tier is made of: a name for people; the order of the tiers is what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TierKind {
    /// Memory: directories on a tmpfs.
    Mem,
    /// Solid-state disks.
    Ssd,
    /// Spinning disks.
    Hdd,
}

/// One tier.
#[derive(Clone, Debug, PartialEq)]
pub struct TierSettings {
    /// What it is made of.
    pub kind: TierKind,
    /// Its directories: one for each disk.
    pub dirs: Vec<DirSettings>,
}

/// One directory of a tier. Nobody else may write into it.
#[derive(Clone, Debug, PartialEq)]
pub struct DirSettings {
    /// Where; made when it is missing.
    pub path: PathBuf,
    /// Bytes that the cache may take there, checksum files included.
    pub quota: ByteSize,
}

impl Settings {
    /// The defaults around these tiers.
    pub fn new(tiers: Vec<TierSettings>) -> Settings {
        Settings {
            tiers,
            high_watermark: 0.95,
            low_watermark: 0.90,
            keep_free: ByteSize::mib(64),
            open_files_max: 4096,
            extents_max: 16 << 20,
            leases_max: 16384,
            probe_interval: Duration::from_secs(2),
            silence_max: Duration::from_secs(5),
        }
    }
}

impl TierKind {
    /// The name in settings, metrics and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            TierKind::Mem => "MEM",
            TierKind::Ssd => "SSD",
            TierKind::Hdd => "HDD",
        }
    }
}

impl fmt::Display for TierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
