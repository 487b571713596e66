//! The tiers of the cache: as configured, or the embedded default.

use crate::config::{Settings, TierKind};
use anyhow::ensure;
use forebay_base::{ByteSize, checksum::crc32c};
use forebay_cache::{DirSettings, TierSettings};
use std::{os::unix::ffi::OsStrExt, path::PathBuf};

/// Memory that the default takes at most, and its share of the machine's.
const DEFAULT_MEM: ByteSize = ByteSize::gib(1);
const DEFAULT_MEM_SHARE: u64 = 4;
/// Disk that the default takes.
const DEFAULT_SSD: ByteSize = ByteSize::gib(10);

/// The tiers that the settings ask for.
pub(super) fn from_settings(settings: &Settings) -> anyhow::Result<Vec<TierSettings>> {
    if settings.worker.tiers.is_empty() {
        return Ok(default_tiers(settings));
    }
    let mut tiers = Vec::new();
    for tier in &settings.worker.tiers {
        ensure!(!tier.directories.is_empty(), "bad value for worker.tiers: a {:?} tier has no directories", tier.kind);
        let directory = |d: &crate::config::DirectorySettings| DirSettings { path: d.path.clone(), quota: d.quota };
        tiers.push(TierSettings { kind: kind(tier.kind), dirs: tier.directories.iter().map(directory).collect() });
    }
    Ok(tiers)
}

fn kind(kind: TierKind) -> forebay_cache::TierKind {
    match kind {
        TierKind::Mem => forebay_cache::TierKind::Mem,
        TierKind::Ssd => forebay_cache::TierKind::Ssd,
        TierKind::Hdd => forebay_cache::TierKind::Hdd,
    }
}

/// Memory on `/dev/shm` where there is one, and the data directory's disk.
fn default_tiers(settings: &Settings) -> Vec<TierSettings> {
    let mut tiers = Vec::new();
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() {
        // Named by the data directory, so that two servers of one machine do not meet.
        let name = format!("forebay-{:08x}", crc32c(settings.data_dir.as_os_str().as_bytes()));
        let quota = ByteSize(memory_bytes() / DEFAULT_MEM_SHARE).min(DEFAULT_MEM);
        let dirs = vec![DirSettings { path: shm.join(name), quota }];
        tiers.push(TierSettings { kind: forebay_cache::TierKind::Mem, dirs });
    }
    let dirs = vec![DirSettings { path: settings.data_dir.join("worker/ssd"), quota: DEFAULT_SSD }];
    tiers.push(TierSettings { kind: forebay_cache::TierKind::Ssd, dirs });
    tiers
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram as u64)
}
