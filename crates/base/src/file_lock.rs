//! A directory is used by one process at a time: who holds the lock on a file in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How often a file that is removed while it is locked is made anew.
const TRIES: u32 = 100;

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, has it.
    #[error("in use by process {pid}")]
    Held {
        /// As it wrote it into the file; empty when it has not, or could not.
        pid: String,
    },
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A lock (flock(2)) on a file. It ends with the value or the process.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Locks the file `path`, which is made when it is missing, and writes the number of this process into it, for people.
    pub fn take(path: &Path) -> Result<FileLock, LockError> {
        for _ in 0..TRIES {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            if let Some(lock) = FileLock::on(file, path)? {
                return Ok(lock);
            }
        }
        Err(io::Error::other("its lock is removed again and again while it is taken").into())
    }

    /// None when `path` is another file by now, or none: a lock on a file that was removed protects nothing.
    fn on(mut file: File, path: &Path) -> Result<Option<FileLock>, LockError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Who holds it tells people more; without it they know enough.
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                return Err(LockError::Held { pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut lock = FileLock { file };
        let ours = lock.file.metadata()?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // On a full disk the lock is as good without it.
        let _ = lock.file.set_len(0).and_then(|()| writeln!(lock.file, "{}", std::process::id()));
        Ok(Some(lock))
    }
}

impl Drop for FileLock {
    /// Closing the file is not enough: a process that this one is just starting has a copy of the descriptor until it runs its program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::Dir;

    #[test]
    fn one_holder_at_a_time() {
        let dir = Dir::new("lock");
        let path = dir.path().join("lock");
        let first = FileLock::take(&path).unwrap();
        let held = FileLock::take(&path).unwrap_err();
        assert_eq!(held.to_string(), format!("in use by process {}", std::process::id()));
        drop(first);
        FileLock::take(&path).unwrap();
    }

    #[test]
    fn a_copy_of_the_descriptor_holds_nobody_up() {
        let dir = Dir::new("copy");
        let path = dir.path().join("lock");
        let first = FileLock::take(&path).unwrap();
        // What a child process has between fork(2) and execve(2).
        let _copy = first.file.try_clone().unwrap();
        drop(first);
        FileLock::take(&path).unwrap();
    }

    #[test]
    fn a_lock_on_a_file_that_is_gone_is_none() {
        let dir = Dir::new("gone");
        let path = dir.path().join("lock");
        let opened = || OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
        let (first, second) = (opened(), opened());
        fs::remove_file(&path).unwrap();
        assert!(FileLock::on(first, &path).unwrap().is_none());
        let other = FileLock::take(&path).unwrap();
        assert!(FileLock::on(second, &path).unwrap().is_none(), "another file by now");
        drop(other);
    }
}
