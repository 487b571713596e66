//! Tests leave nothing behind: they run in a temporary directory of their own, and what is in it, uses it or is mounted below it
//! at the end is told.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A directory for the temporary files of one run; removed with this value, whatever is in it.
pub(crate) struct TemporaryDir {
    path: PathBuf,
}

impl TemporaryDir {
    /// Makes it where temporary files go. Its path is short: sockets below it may have about 100 bytes.
    pub(crate) fn make() -> Result<TemporaryDir> {
        let path = std::env::temp_dir().join(format!("forebay-{}", std::process::id()));
        make_empty(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(TemporaryDir { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error that names what is left of the run: files, mounts, processes that were started with this directory.
    pub(crate) fn check_empty(&self) -> Result<()> {
        let entries = fs::read_dir(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        let files = entries.flatten().map(|entry| format!("file {}{}", entry.path().display(), below(&entry.path())));
        let left: Vec<String> = files.chain(self.mounts()?).chain(self.processes()?).collect();
        ensure!(left.is_empty(), "the tests left something behind:\n  {}", left.join("\n  "));
        Ok(())
    }

    fn mounts(&self) -> Result<Vec<String>> {
        let table = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
        let points = table.lines().filter_map(|line| line.split(' ').nth(1));
        Ok(points.filter(|point| Path::new(point).starts_with(&self.path)).map(|p| format!("mount {p}")).collect())
    }

    fn processes(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
            // What is no process, has ended or is somebody else's cannot be read.
            let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
            let value = environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"TMPDIR="));
            if value.is_some_and(|value| Path::new(OsStr::from_bytes(value)).starts_with(&self.path)) {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                found.push(format!("process {} {command}", entry.file_name().display()));
            }
        }
        Ok(found)
    }
}

/// Makes a directory. What is there already was left by a killed run that had the number of our process, and is not blamed on this one.
fn make_empty(path: &Path) -> std::io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_dir_all(path)?;
            fs::create_dir(path)
        }
        made => made,
    }
}

/// What lies below a directory that was left, as much as tells whose it is.
fn below(path: &Path) -> String {
    const SHOWN_MAX: usize = 8;
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(dir) = waiting.pop()
        && found.len() <= SHOWN_MAX
    {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Links are not followed.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
            found.push(format!("\n    {}", entry.path().display()));
        }
    }
    let more = if found.len() > SHOWN_MAX { "\n    …" } else { "" };
    found.truncate(SHOWN_MAX);
    found.concat() + more
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_has_left_is_not_this_ones() {
        let path = std::env::temp_dir().join(format!("forebay-leftovers-{}", std::process::id()));
        fs::create_dir_all(path.join("left")).unwrap();
        make_empty(&path).unwrap();
        assert!(fs::read_dir(&path).unwrap().next().is_none());
        fs::remove_dir(&path).unwrap();
    }
}
