//! The data directory of a process: one process at a time, one format, told apart before anything in it is touched.

use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The format of the directory as this build writes it. Each role's own subdirectory has a format of its own besides.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";

/// An open data directory; its lock ends with the value or the process.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
}

/// Why a data directory cannot be used. Nothing in it has been changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another process has it.
    #[error(
        "data directory {path} is in use by process {pid}: stop that one first, or set data_dir to another directory"
    )]
    InUse { path: PathBuf, pid: String },
    /// Made by a newer version.
    #[error(
        "data directory {path} has format {found}, this version of forebay reads formats up to {FORMAT}: use the version that wrote it, or a newer one"
    )]
    Newer { path: PathBuf, found: u32 },
    /// Something else's files.
    #[error("{path} is not a data directory of forebay ({reason}): set data_dir to an empty or new directory")]
    NotOurs { path: PathBuf, reason: String },
    /// The file system says no.
    #[error("cannot use data directory {path}: {source}; set data_dir to a directory that can be written")]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Makes the directory if it is missing, takes its lock, checks its format.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let io = |source| DataDirError::Io { path: path.into(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let is_new = !path.join(FORMAT_FILE).exists();
        if is_new {
            refuse_foreign(path)?;
        }
        let lock = lock(path)?;
        if is_new {
            write_format(path).map_err(io)?;
        }
        check_format(path)?;
        Ok(DataDir { _lock: lock })
    }
}

/// A directory without a format file must be empty, but for a lock that a start left which died before it wrote the format.
fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io { path: path.into(), source };
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if name != LOCK_FILE && name != "FORMAT.tmp" {
            let reason = format!("it has no FORMAT file but holds {}", name.to_string_lossy());
            return Err(DataDirError::NotOurs { path: path.into(), reason });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let io = |source| DataDirError::Io { path: path.into(), source };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(LOCK_FILE))
        .map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(DataDirError::InUse { path: path.into(), pid: pid.trim().to_owned() });
        }
        Err(errno) => return Err(io(errno.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
    Ok(file)
}

fn write_format(path: &Path) -> io::Result<()> {
    let temporary = path.join("FORMAT.tmp");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(temporary, path.join(FORMAT_FILE))?;
    File::open(path)?.sync_all()
}

fn check_format(path: &Path) -> Result<(), DataDirError> {
    let text =
        fs::read_to_string(path.join(FORMAT_FILE)).map_err(|source| DataDirError::Io { path: path.into(), source })?;
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(DataDirError::Newer { path: path.into(), found }),
        Ok(_) => Ok(()),
        Err(_) => Err(DataDirError::NotOurs { path: path.into(), reason: format!("its FORMAT file says {text:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn newer_and_foreign_directories_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        fs::write(dir.path().join(FORMAT_FILE), "2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Newer { found: 2, .. })));
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap(), "2\n");

        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("thesis.doc"), "").unwrap();
        assert!(matches!(DataDir::open(foreign.path()), Err(DataDirError::NotOurs { .. })));
        assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1);
    }
}
