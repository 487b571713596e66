//! The data directory of a process: one process at a time, one format, told apart before anything in it is touched.

use forebay_base::data_dir::{self, FormatError};
use forebay_base::{FileLock, LockError};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The format of the directory as this build writes it. Each role's own subdirectory has a format of its own besides.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";

/// An open data directory; its lock ends with the value or the process.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: FileLock,
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
    #[error("cannot use data directory {path}; set data_dir to a directory that can be written")]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Makes the directory if it is missing, takes its lock, checks its format.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let io = |source| DataDirError::Io { path: path.into(), source };
        data_dir::create_private(path).map_err(io)?;
        // Before a lock is put there: one that is not for this version stays as it is.
        match path.join(FORMAT_FILE).exists() {
            true => check_format(path)?,
            false => refuse_foreign(path)?,
        }
        let lock = lock(path)?;
        check_format(path)?;
        Ok(DataDir { _lock: lock })
    }
}

/// A directory without a format file must be empty, but for a lock that a start left which died before it wrote the format.
fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io { path: path.into(), source };
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if name != LOCK_FILE && name != "FORMAT.new" && name != "FORMAT.tmp" {
            let reason = format!("it has no FORMAT file but holds {}", name.to_string_lossy());
            return Err(DataDirError::NotOurs { path: path.into(), reason });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<FileLock, DataDirError> {
    FileLock::take(&path.join(LOCK_FILE)).map_err(|error| match error {
        LockError::Held { pid } => DataDirError::InUse { path: path.into(), pid },
        LockError::Io(source) => DataDirError::Io { path: path.into(), source },
    })
}

fn check_format(path: &Path) -> Result<(), DataDirError> {
    data_dir::check_format(&path.join(FORMAT_FILE), "", FORMAT).map_err(|error| match error {
        FormatError::Newer { found } => DataDirError::Newer { path: path.into(), found },
        FormatError::Foreign { text } => {
            DataDirError::NotOurs { path: path.into(), reason: format!("its FORMAT file says {text:?}") }
        }
        FormatError::Io(source) => DataDirError::Io { path: path.into(), source },
    })
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
        fs::remove_file(dir.path().join(LOCK_FILE)).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Newer { found: 2, .. })));
        assert!(!dir.path().join(LOCK_FILE).exists());
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap(), "2\n");

        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("thesis.doc"), "").unwrap();
        assert!(matches!(DataDir::open(foreign.path()), Err(DataDirError::NotOurs { .. })));
        assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1);
    }
}
