//! RocksDB as a unity build: the sources that the `librocksdb-sys` crate carries, compiled as a few large files.
//!
//! The crate's own build script compiles 340 files one by one, which costs 18 minutes of two cores. Each file spends
//! most of its time on the same headers, so sixteen files that `#include` twenty of them each cost three. The library is
//! kept in the cache directory and found by the crate through `ROCKSDB_LIB_DIR` and `ROCKSDB_STATIC`; without
//! these variables a plain `cargo build` still works, slower.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{cache, cargo};

/// Raised when the flags or the grouping below change, so that an older library is not taken for this one.
const RECIPE: u32 = 1;

/// 16 units of about 21 sources: enough to keep many cores busy, few enough that headers are parsed rarely.
const UNITS: usize = 16;

const LIBRARY: &str = "librocksdb.a";

/// Those of the crate's `build.rs` for Linux, with the features that the workspace turns on (lz4, zstd).
const DEFINES: &[&str] = &[
    "NDEBUG=1",
    "LZ4=1",
    "ZSTD=1",
    "HAVE_ALIGNED_NEW",
    "HAVE_UINT128_EXTENSION",
    "OS_LINUX",
    "ROCKSDB_PLATFORM_POSIX",
    "ROCKSDB_LIB_IO_POSIX",
    "ROCKSDB_SCHED_GETCPU_PRESENT",
    "ROCKSDB_AUXV_GETAUXVAL_PRESENT",
    "ROCKSDB_FALLOCATE_PRESENT",
    "ROCKSDB_RANGESYNC_PRESENT",
];

/// The directory for `ROCKSDB_LIB_DIR`: named by the version in `Cargo.lock` and by our recipe.
pub(crate) fn lib_dir() -> Result<PathBuf> {
    let version = cargo::locked_version("librocksdb-sys")?;
    Ok(cache::dir()?.join(format!("rocksdb-{version}-r{RECIPE}")))
}

/// Whether the library is there.
pub(crate) fn is_built() -> Result<bool> {
    Ok(lib_dir()?.join(LIBRARY).is_file())
}

/// Builds the library unless it is there already.
pub(crate) fn build() -> Result<()> {
    if is_built()? {
        return Ok(());
    }
    let _lock = cache::lock("rocksdb")?;
    if is_built()? {
        return Ok(());
    }
    let started = Instant::now();
    let sources = Sources::locate()?;
    println!("rocksdb: building {LIBRARY} once, {UNITS} units, 3 CPU minutes on two quiet cores");
    cache::install_dir(&lib_dir()?, |scratch| {
        let objects = compile(&sources, scratch)?;
        archive(&objects, &scratch.join(LIBRARY))?;
        remove_all_but_library(scratch)
    })?;
    println!("rocksdb: built in {} s: {}", started.elapsed().as_secs(), lib_dir()?.display());
    Ok(())
}

/// The unpacked crates in cargo's registry.
struct Sources {
    rocksdb_crate: PathBuf,
    lz4_include: PathBuf,
    zstd_include: PathBuf,
}

impl Sources {
    fn locate() -> Result<Self> {
        let crates = cargo::package_dirs(&["librocksdb-sys", "lz4-sys", "zstd-sys"])?;
        let [rocksdb_crate, lz4, zstd] = &crates[..] else {
            bail!("cargo metadata named {} of three crates", crates.len());
        };
        Ok(Self {
            rocksdb_crate: rocksdb_crate.clone(),
            lz4_include: lz4.join("liblz4/lib"),
            zstd_include: zstd.join("zstd/lib"),
        })
    }

    /// What the crate compiles, as absolute paths, sorted so that the units are the same on every machine.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let list_path = self.rocksdb_crate.join("rocksdb_lib_sources.txt");
        let list = fs::read_to_string(&list_path).with_context(|| format!("reading {}", list_path.display()))?;
        let mut names: Vec<&str> =
            list.lines().map(str::trim).filter(|name| !name.is_empty() && *name != "util/build_version.cc").collect();
        names.sort_unstable();
        let mut files: Vec<PathBuf> = names.iter().map(|name| self.rocksdb_crate.join("rocksdb").join(name)).collect();
        files.push(self.rocksdb_crate.join("build_version.cc"));
        Ok(files)
    }

    fn include_dirs(&self) -> [PathBuf; 5] {
        let rocksdb = self.rocksdb_crate.join("rocksdb");
        [
            rocksdb.join("include"),
            rocksdb,
            self.rocksdb_crate.clone(),
            self.lz4_include.clone(),
            self.zstd_include.clone(),
        ]
    }
}

/// Writes the units into `scratch` and compiles them, one compiler a core.
fn compile(sources: &Sources, scratch: &Path) -> Result<Vec<PathBuf>> {
    let units = write_units(&sources.files()?, scratch)?;
    let started = Instant::now();
    let queue = Mutex::new(units.iter());
    let done = Mutex::new(0_usize);
    let next = || queue.lock().ok().and_then(|mut units| units.next());
    let worker = || -> Result<()> {
        while let Some(unit) = next() {
            compile_one(sources, unit)?;
            let mut done = done.lock().expect("a thread that panics ends the process's build anyway");
            *done += 1;
            println!("rocksdb: {done} of {} units, {} s", units.len(), started.elapsed().as_secs());
        }
        Ok(())
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a compiling thread does not panic"))
    })?;
    Ok(units.iter().map(|unit| unit.with_extension("o")).collect())
}

fn write_units(files: &[PathBuf], scratch: &Path) -> Result<Vec<PathBuf>> {
    let per_unit = files.len().div_ceil(UNITS);
    let mut units = Vec::new();
    for (index, group) in files.chunks(per_unit).enumerate() {
        let text: String = group.iter().map(|file| format!("#include \"{}\"\n", file.display())).collect();
        let path = scratch.join(format!("unit{index:02}.cc"));
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        units.push(path);
    }
    Ok(units)
}

fn compile_one(sources: &Sources, unit: &Path) -> Result<()> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++20", "-O2", "-fPIC", "-ffunction-sections", "-fdata-sections", "-w", "-include", "cstdint"]);
    command.args(cpu_flags());
    command.args(DEFINES.iter().map(|define| format!("-D{define}")));
    for dir in sources.include_dirs() {
        command.arg("-I").arg(dir);
    }
    command.arg("-c").arg(unit).arg("-o").arg(unit.with_extension("o"));
    let status = command
        .status()
        .with_context(|| format!("starting {}: run `cargo xtask setup` to install it", compiler.display()))?;
    ensure!(status.success(), "compiling {} failed: {status}", unit.display());
    Ok(())
}

/// The hardware CRC that RocksDB checks every block with; every server CPU since 2011 has it.
fn cpu_flags() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["-msse4.2", "-mpclmul"],
        "aarch64" => &["-march=armv8-a+crc+aes+crypto"],
        _ => &[],
    }
}

fn archive(objects: &[PathBuf], library: &Path) -> Result<()> {
    let status = Command::new("ar")
        .arg("crs")
        .arg(library)
        .args(objects)
        .status()
        .context("starting ar: run `cargo xtask setup` to install binutils")?;
    ensure!(status.success(), "ar failed on {}: {status}", library.display());
    Ok(())
}

fn remove_all_but_library(scratch: &Path) -> Result<()> {
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != LIBRARY) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn units_of(count: usize) -> Vec<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..count).map(|index| PathBuf::from(format!("/src/{index:03}.cc"))).collect();
        let units = write_units(&files, dir.path()).unwrap();
        let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        units.iter().map(lines).collect()
    }

    #[test]
    fn every_source_is_in_one_unit() {
        for count in [1, 15, 16, 17, 342] {
            let units = units_of(count);
            assert!(units.len() <= UNITS, "{count} sources in {} units", units.len());
            let mut seen = BTreeMap::new();
            units.iter().flatten().for_each(|line| *seen.entry(line.clone()).or_insert(0) += 1);
            assert_eq!(seen.len(), count);
            assert!(seen.values().all(|times| *times == 1));
            assert!(seen.contains_key("#include \"/src/000.cc\""));
        }
    }

    /// The recipe holds for the crate that is locked now: its list is there, and names files that are there.
    #[test]
    fn the_locked_crate_has_what_the_recipe_wants() {
        let sources = Sources::locate().unwrap();
        let files = sources.files().unwrap();
        assert!(files.len() > 300, "{} files", files.len());
        for path in files.iter().chain(&sources.include_dirs()) {
            assert!(path.exists(), "{}", path.display());
        }
        assert!(!files.iter().any(|file| file.ends_with("util/build_version.cc")));
    }
}
