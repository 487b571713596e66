//! The tiers of the cache: as configured, or the embedded default.

use crate::config::{self, DirectorySettings, Settings, TierKind};
use anyhow::{Context, ensure};
use forebay_base::{ByteSize, checksum::crc32c, data_dir::write_whole};
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
    if !settings.worker.tiers.is_empty() {
        return settings.worker.tiers.iter().map(for_cache).collect();
    }
    let shm = shared_memory();
    let memory = shm.map(|shm| Ok::<_, anyhow::Error>(shm.join(memory_directory(settings, shm)?))).transpose()?;
    default_tiers(settings, memory).iter().map(for_cache).collect()
}

/// The tiers that a server with these settings would use, told without making anything. The end of the memory tier's name is drawn at the first start.
pub(crate) fn planned(settings: &Settings) -> Vec<config::TierSettings> {
    if !settings.worker.tiers.is_empty() {
        return settings.worker.tiers.clone();
    }
    let settings = Settings { data_dir: config::resolved(&settings.data_dir), ..settings.clone() };
    let kept = std::fs::read_to_string(kept_name(&settings));
    let token = kept.map_or_else(|_| "(drawn at the first start)".to_owned(), |text| text.trim().to_owned());
    let memory = shared_memory().map(|shm| shm.join(stem(&settings) + &token));
    default_tiers(&settings, memory)
}

/// What the default is made of.
pub(crate) fn default_in_words() -> String {
    format!("default: a quarter of memory, at most {DEFAULT_MEM}, and {DEFAULT_SSD} below data_dir")
}

fn for_cache(tier: &config::TierSettings) -> anyhow::Result<TierSettings> {
    ensure!(!tier.directories.is_empty(), "bad value for worker.tiers: a {:?} tier has no directories", tier.kind);
    let directory = |d: &DirectorySettings| DirSettings { path: d.path.clone(), quota: d.quota };
    Ok(TierSettings { kind: kind(tier.kind), dirs: tier.directories.iter().map(directory).collect() })
}

fn kind(kind: TierKind) -> forebay_cache::TierKind {
    match kind {
        TierKind::Mem => forebay_cache::TierKind::Mem,
        TierKind::Ssd => forebay_cache::TierKind::Ssd,
        TierKind::Hdd => forebay_cache::TierKind::Hdd,
    }
}

/// Memory that can hold files, where there is some.
fn shared_memory() -> Option<&'static Path> {
    let shm = Path::new("/dev/shm");
    shm.is_dir().then_some(shm)
}

/// Memory on `/dev/shm` where there is one, and the data directory's disk.
fn default_tiers(settings: &Settings, memory: Option<PathBuf>) -> Vec<config::TierSettings> {
    let tier = |kind, path, quota| config::TierSettings { kind, directories: vec![DirectorySettings { path, quota }] };
    let quota = ByteSize(memory_bytes() / DEFAULT_MEM_SHARE).min(DEFAULT_MEM);
    let memory = memory.map(|path| tier(TierKind::Mem, path, quota));
    let disk = tier(TierKind::Ssd, settings.data_dir.join("worker/ssd"), DEFAULT_SSD);
    memory.into_iter().chain([disk]).collect()
}

/// How the names of memory tiers of this data directory begin.
fn stem(settings: &Settings) -> String {
    format!("forebay-{:08x}-", crc32c(settings.data_dir.as_os_str().as_bytes()))
}

/// Where the end of the name is kept.
fn kept_name(settings: &Settings) -> PathBuf {
    settings.data_dir.join("worker/memory-tier")
}

/// The name of the memory tier: the data directory's checksum, so that two servers of one machine do not meet, and a number that
/// is drawn once and kept in the data directory. Who empties the data directory starts another cluster, to which the old pages in
/// memory mean nothing: they go, unless a process has them after all (servers in containers may share the memory, but not the data directory).
fn memory_directory(settings: &Settings, shm: &Path) -> anyhow::Result<String> {
    let (stem, kept) = (stem(settings), kept_name(settings));
    let token = match std::fs::read_to_string(&kept) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = format!("{:016x}", rand::random::<u64>());
            forebay_base::data_dir::create_private(&settings.data_dir.join("worker"))?;
            write_whole(&kept, token.as_bytes(), 0o644).with_context(|| format!("cannot write {}", kept.display()))?;
            token
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", kept.display())),
    };
    let name = format!("{stem}{token}");
    remove_old(shm, &stem, &name);
    Ok(name)
}

/// Removes what is left of earlier clusters in the same data directory. What cannot be removed takes memory, but hinders no start.
fn remove_old(shm: &Path, stem: &str, current: &str) {
    for entry in std::fs::read_dir(shm).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if !name.to_string_lossy().starts_with(stem) || *name == *current {
            continue;
        }
        match forebay_cache::remove_unused(&path) {
            Ok(true) => tracing::info!(path = %path.display(), "removed the memory tier of an earlier cluster"),
            Ok(false) => tracing::info!(path = %path.display(), "not ours, or in use: left alone"),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove the memory tier of an earlier cluster")
            }
        }
    }
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_cache::{PageStore, Settings as CacheSettings};

    fn settings(data_dir: &Path) -> Settings {
        Settings { data_dir: data_dir.to_owned(), ..Settings::default() }
    }

    fn open(path: PathBuf) -> PageStore {
        let dirs = vec![DirSettings { path, quota: ByteSize::mib(16) }];
        PageStore::open(CacheSettings::new(vec![TierSettings { kind: forebay_cache::TierKind::Mem, dirs }])).unwrap()
    }

    #[test]
    fn what_is_planned_is_what_is_used() {
        let home = tempfile::tempdir().unwrap();
        let settings = settings(&home.path().join("data"));
        let before = planned(&settings);
        assert!(before[0].directories[0].path.to_string_lossy().contains("drawn at the first start"), "{before:?}");
        assert!(!settings.data_dir.exists(), "nothing is made");
        std::fs::create_dir(&settings.data_dir).unwrap();
        let used = from_settings(&settings).unwrap();
        let shown: Vec<_> = planned(&settings).iter().map(|tier| for_cache(tier).unwrap()).collect();
        assert_eq!(format!("{shown:?}"), format!("{used:?}"));
        assert_eq!(used.len(), 2);
    }

    #[test]
    fn the_memory_of_an_earlier_cluster_goes_unless_it_is_used() {
        let home = tempfile::tempdir().unwrap();
        let (data, shm) = (home.path().join("data"), home.path().join("shm"));
        std::fs::create_dir(&shm).unwrap();
        let first = memory_directory(&settings(&data), &shm).unwrap();
        assert_eq!(memory_directory(&settings(&data), &shm).unwrap(), first, "the same after a restart");
        let pages = open(shm.join(&first));
        std::fs::remove_dir_all(&data).unwrap();
        let second = memory_directory(&settings(&data), &shm).unwrap();
        assert_ne!(second, first);
        assert!(shm.join(&first).join("pages").exists(), "a process has it");
        pages.close();
        drop(pages);
        std::fs::create_dir(shm.join(format!("{}x", &first[..17]))).unwrap();
        std::fs::write(shm.join(format!("{}x/thesis.doc", &first[..17])), "").unwrap();
        memory_directory(&settings(&data), &shm).unwrap();
        assert!(!shm.join(&first).exists());
        assert!(shm.join(format!("{}x/thesis.doc", &first[..17])).exists(), "not ours");
    }
}
