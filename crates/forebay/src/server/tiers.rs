//! The tiers of the cache: as configured, or the embedded default.

use crate::config::{Settings, TierKind};
use anyhow::{Context, ensure};
use forebay_base::{ByteSize, checksum::crc32c};
use forebay_cache::{DirSettings, TierSettings};
use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Memory that the default takes at most, and its share of the machine's.
const DEFAULT_MEM: ByteSize = ByteSize::gib(1);
const DEFAULT_MEM_SHARE: u64 = 4;
/// Disk that the default takes.
const DEFAULT_SSD: ByteSize = ByteSize::gib(10);

/// The tiers that the settings ask for.
pub(super) fn from_settings(settings: &Settings) -> anyhow::Result<Vec<TierSettings>> {
    if settings.worker.tiers.is_empty() {
        return default_tiers(settings);
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
fn default_tiers(settings: &Settings) -> anyhow::Result<Vec<TierSettings>> {
    let mut tiers = Vec::new();
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() {
        let name = memory_directory(settings, &shm)?;
        let quota = ByteSize(memory_bytes() / DEFAULT_MEM_SHARE).min(DEFAULT_MEM);
        let dirs = vec![DirSettings { path: shm.join(name), quota }];
        tiers.push(TierSettings { kind: forebay_cache::TierKind::Mem, dirs });
    }
    let dirs = vec![DirSettings { path: settings.data_dir.join("worker/ssd"), quota: DEFAULT_SSD }];
    tiers.push(TierSettings { kind: forebay_cache::TierKind::Ssd, dirs });
    Ok(tiers)
}

/// The name of the memory tier: the data directory's checksum, so that two servers of one machine do not meet, and a number that
/// is drawn once and kept in the data directory. Who empties the data directory starts another cluster, to which the old pages in
/// memory mean nothing: they go.
fn memory_directory(settings: &Settings, shm: &Path) -> anyhow::Result<String> {
    let stem = format!("forebay-{:08x}-", crc32c(settings.data_dir.as_os_str().as_bytes()));
    let kept = settings.data_dir.join("worker/memory-tier");
    let token = match std::fs::read_to_string(&kept) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = format!("{:016x}", rand::random::<u64>());
            std::fs::create_dir_all(settings.data_dir.join("worker"))?;
            std::fs::write(&kept, &token).with_context(|| format!("cannot write {}", kept.display()))?;
            token
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", kept.display())),
    };
    let name = format!("{stem}{token}");
    for entry in std::fs::read_dir(shm)?.flatten() {
        let old = entry.file_name();
        if old.to_string_lossy().starts_with(&stem) && *old != *name {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(name)
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram as u64)
}
