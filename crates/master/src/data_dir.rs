//! The masters' data directory: one process at a time, a format number, the cluster's identity and its keys.
//!
//! ```text
//! format       "forebay-master 1": refused when newer
//! lock         held (flock) while a master runs
//! cluster.id   32 hex digits, drawn once
//! secret.key   seals stored credentials; mode 0600
//! tickets.key  signs tickets; mode 0600
//! state/ log/  the state machine's store and the replicated log
//! restoring/   while a backup is being restored into it: what else is there does not count
//! backup/      copies of the state on their way to a backup's target; removed at start
//! set-aside-*  both as they were before they were to be built anew; for whoever wants to look
//! ```

use crate::secrets::KEY_LEN;
use forebay_base::data_dir::{self, FormatError};
use forebay_base::{Clock, FileLock, LockError, SystemClock};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The newest format that this binary reads and writes.
const FORMAT: u32 = 1;
const FORMAT_PREFIX: &str = "forebay-master ";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it open.
    #[error("data directory {0:?} is in use by another master: stop that one, or set data_dir to another directory")]
    InUse(PathBuf),
    /// Written by a newer version, or not by Forebay.
    #[error(
        "data directory {path:?} has format {found:?}, this version reads {FORMAT_PREFIX}{FORMAT}: use the version of Forebay that wrote it"
    )]
    Format {
        /// Where.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// A restore into it did not end.
    #[error(
        "a restore into data directory {0:?} did not end: start again with --restore-from, or remove the directory to begin with nothing"
    )]
    Restoring(PathBuf),
    /// There is a master's data, where none may be.
    #[error(
        "data directory {0:?} has the data of a master already: a backup is restored into an empty one only; leave out --restore-from if it was restored before, or set another data_dir"
    )]
    NotEmpty(PathBuf),
    /// A file of it does not hold what it should.
    #[error("{path:?} holds {len} bytes where {expected} are expected: restore it from a copy")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        len: usize,
        /// What it should have.
        expected: usize,
    },
    /// The file system refuses.
    #[error("cannot {what} {path:?}: {source}")]
    Io {
        /// The action.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// An open data directory. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: FileLock,
}

/// What all masters of a cluster have in common.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The cluster's identity, 32 hex digits.
    pub(crate) cluster_id: String,
    /// Signs tickets.
    pub(crate) ticket_key: [u8; KEY_LEN],
    /// Seals credentials.
    pub(crate) secret_key: [u8; KEY_LEN],
}

impl Keys {
    /// Those of a new cluster.
    pub(crate) fn draw() -> Keys {
        Keys {
            cluster_id: format!("{:032x}", rand::random::<u128>()),
            ticket_key: rand::random(),
            secret_key: rand::random(),
        }
    }
}

impl DataDir {
    /// Opens the directory, making it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        data_dir::create_private(path).map_err(|source| io_error("create", path, source))?;
        let lock = lock(path)?;
        check_format(path)?;
        Ok(DataDir { path: path.to_owned(), _lock: lock })
    }

    /// The keys that are here, if all of them are.
    pub(crate) fn keys(&self) -> Result<Option<Keys>, DataDirError> {
        let path = |name| self.path.join(name);
        let cluster_id = read(&path("cluster.id"), 32)?;
        let (ticket_key, secret_key) = (key(&path("tickets.key"))?, key(&path("secret.key"))?);
        let all = cluster_id.zip(ticket_key.zip(secret_key));
        Ok(all.map(|(cluster_id, (ticket_key, secret_key))| Keys {
            cluster_id: String::from_utf8_lossy(&cluster_id).into_owned(),
            ticket_key,
            secret_key,
        }))
    }

    /// Stores the keys of a master that has not all of them yet, each written whole or not at all. A crash in between leaves some: then the
    /// next start has the others again from where these come from, or draws new ones, when nothing can have been sealed or signed yet.
    pub(crate) fn store_keys(&self, keys: &Keys) -> Result<(), DataDirError> {
        write_whole(&self.path.join("tickets.key"), &keys.ticket_key, 0o600)?;
        write_whole(&self.path.join("secret.key"), &keys.secret_key, 0o600)?;
        write_whole(&self.path.join("cluster.id"), keys.cluster_id.as_bytes(), 0o644)
    }

    /// The keys that are here, and new ones in place of those that are missing.
    pub(crate) fn keys_or_draw(&self) -> Result<Keys, DataDirError> {
        if let Some(keys) = self.keys()? {
            return Ok(keys);
        }
        let mut keys = Keys::draw();
        let path = |name| self.path.join(name);
        if let Some(cluster_id) = read(&path("cluster.id"), 32)? {
            keys.cluster_id = String::from_utf8_lossy(&cluster_id).into_owned();
        }
        keys.ticket_key = key(&path("tickets.key"))?.unwrap_or(keys.ticket_key);
        match key(&path("secret.key"))? {
            Some(known) => keys.secret_key = known,
            None if self.has_begun()? => tracing::warn!(
                "{} is missing and drawn anew: what was sealed with the old one, such as stored credentials of mounts, cannot be decrypted; restore the file, or give the credentials again with forebay mount update",
                path("secret.key").display()
            ),
            None => {}
        }
        self.store_keys(&keys)?;
        Ok(keys)
    }

    /// Whether there is a state, or a log, that these keys may have sealed something in.
    pub(crate) fn has_begun(&self) -> Result<bool, DataDirError> {
        let exists = |path: PathBuf| path.try_exists().map_err(|source| io_error("look for", &path, source));
        Ok(exists(self.state())? || exists(self.log())?)
    }

    /// Refuses a directory into which a restore began and did not end.
    pub(crate) fn check_restored(&self) -> Result<(), DataDirError> {
        match self.restoring().exists() {
            true => Err(DataDirError::Restoring(self.path.clone())),
            false => Ok(()),
        }
    }

    /// Whether a restore may begin, or begin anew, in it.
    pub(crate) fn check_restorable(&self) -> Result<(), DataDirError> {
        match self.restoring().exists() || !self.parts().iter().any(|part| part.exists()) {
            true => Ok(()),
            false => Err(DataDirError::NotEmpty(self.path.clone())),
        }
    }

    /// What a restore makes.
    fn parts(&self) -> [PathBuf; 5] {
        [
            self.state(),
            self.log(),
            self.path.join("cluster.id"),
            self.path.join("tickets.key"),
            self.path.join("secret.key"),
        ]
    }

    /// Begins to restore into a directory without data, or with what a restore that did not end has left, which is removed.
    pub(crate) fn begin_restore(&self) -> Result<(), DataDirError> {
        self.check_restorable()?;
        let mark = self.restoring();
        if !mark.exists() {
            fs::create_dir(&mark).map_err(|source| io_error("create", &mark, source))?;
            self.sync()?;
        }
        for part in self.parts() {
            let removed = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
            match removed {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &part, source));
                }
                _ => {}
            }
        }
        self.sync()
    }

    /// What was restored is whole, and on disk.
    pub(crate) fn end_restore(&self) -> Result<(), DataDirError> {
        self.sync()?;
        let mark = self.restoring();
        fs::remove_dir(&mark).map_err(|source| io_error("remove", &mark, source))?;
        self.sync()
    }

    fn restoring(&self) -> PathBuf {
        self.path.join("restoring")
    }

    fn sync(&self) -> Result<(), DataDirError> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|source| io_error("sync", &self.path, source))
    }

    /// Where the state machine's store lies.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where the log lies.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

/// Fails if a master runs on the directory.
pub fn is_unused(directory: &Path) -> Result<(), DataDirError> {
    DataDir::open(directory).map(drop)
}

/// Moves the state and the log of a master that does not run into a directory beside them, which it returns. The next start begins with none,
/// as one that lost its disk; the keys stay. What a crash leaves half moved starts no more, and is moved by the next call.
pub fn set_aside(directory: &Path) -> Result<PathBuf, DataDirError> {
    let data = DataDir::open(directory)?;
    let aside = data.path.join(format!("set-aside-{}", SystemClock.now().0));
    fs::DirBuilder::new().mode(0o700).create(&aside).map_err(|source| io_error("create", &aside, source))?;
    for part in [data.state(), data.log()].into_iter().filter(|part| part.exists()) {
        let target = aside.join(part.file_name().unwrap_or_default());
        fs::rename(&part, &target).map_err(|source| io_error("move", &part, source))?;
    }
    data.sync()?;
    Ok(aside)
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { what, path: path.to_owned(), source }
}

fn lock(dir: &Path) -> Result<FileLock, DataDirError> {
    let path = dir.join("lock");
    FileLock::take(&path).map_err(|error| match error {
        LockError::Held { .. } => DataDirError::InUse(dir.to_owned()),
        LockError::Io(source) => io_error("lock", &path, source),
    })
}

fn check_format(dir: &Path) -> Result<(), DataDirError> {
    let path = dir.join("format");
    let wrong = |found| DataDirError::Format { path: dir.to_owned(), found };
    data_dir::check_format(&path, FORMAT_PREFIX, FORMAT).map_err(|error| match error {
        FormatError::Newer { found } => wrong(format!("{FORMAT_PREFIX}{found}")),
        FormatError::Foreign { text } => wrong(text),
        FormatError::Io(source) => io_error("read", &path, source),
    })
}

/// A key in a file; none if there is no such file.
fn key(path: &Path) -> Result<Option<[u8; KEY_LEN]>, DataDirError> {
    let Some(bytes) = read(path, KEY_LEN)? else {
        return Ok(None);
    };
    // A copy made by hand may have lost its mode; the secret must not stay readable by others.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|source| io_error("protect", path, source))?;
    Ok(Some(bytes.try_into().expect("read checked the length")))
}

/// A key in a file outside of the data directory, which stays as it is, and may be on a disk that nobody can write to; none if there is no such file, or it has
/// not the length of a key.
pub(crate) fn foreign_key(path: &Path) -> Result<Option<[u8; KEY_LEN]>, DataDirError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(KEY_LEN as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

fn read(path: &Path, expected: usize) -> Result<Option<Vec<u8>>, DataDirError> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() == expected => Ok(Some(bytes)),
        Ok(bytes) => Err(DataDirError::Damaged { path: path.to_owned(), len: bytes.len(), expected }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Writes a file so that after a crash it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
    data_dir::write_whole(path, bytes, mode).map_err(|source| io_error("write", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_from_elsewhere_are_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        assert!(foreign_key(&path).unwrap().is_none());
        fs::write(&path, [7; KEY_LEN]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(foreign_key(&path).unwrap(), Some([7; KEY_LEN]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for length in [0, KEY_LEN - 1, KEY_LEN + 1] {
            fs::write(&path, vec![7; length]).unwrap();
            assert!(foreign_key(&path).unwrap().is_none(), "{length} bytes are no key");
        }
    }

    #[test]
    fn keeps_identity_and_keys() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(first.keys().unwrap().is_none());
        let keys = first.keys_or_draw().unwrap();
        assert_eq!(keys.cluster_id.len(), 32);
        assert_ne!(keys.ticket_key, keys.secret_key);
        drop(first);
        let again = DataDir::open(dir.path()).unwrap();
        assert!(again.keys().unwrap() == Some(keys.clone()) && again.keys_or_draw().unwrap() == keys);
        // A lost one does not take the others along.
        fs::remove_file(dir.path().join("tickets.key")).unwrap();
        assert!(again.keys().unwrap().is_none());
        let mended = again.keys_or_draw().unwrap();
        assert!(mended.secret_key == keys.secret_key && mended.cluster_id == keys.cluster_id);
        drop(again);
        for name in ["secret.key", "tickets.key"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn sets_state_and_log_aside_and_keeps_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let keys = data.keys_or_draw().unwrap();
        for part in [data.state(), data.log()] {
            fs::create_dir(&part).unwrap();
            fs::write(part.join("file"), "damaged").unwrap();
        }
        assert!(matches!(set_aside(dir.path()), Err(DataDirError::InUse(_))), "a running one is left alone");
        drop(data);
        let aside = set_aside(dir.path()).unwrap();
        assert_eq!(fs::read(aside.join("log/file")).unwrap(), b"damaged");
        assert_eq!(fs::read(aside.join("state/file")).unwrap(), b"damaged");
        let data = DataDir::open(dir.path()).unwrap();
        assert!(!data.state().exists() && !data.log().exists() && data.keys().unwrap() == Some(keys));
    }

    #[test]
    fn lets_one_process_in() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn refuses_a_newer_format_and_damage() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::open(dir.path()).unwrap().keys_or_draw().unwrap();
        fs::write(dir.path().join("format"), "forebay-master 2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Format { .. })));
        fs::write(dir.path().join("format"), "forebay-master 1\n").unwrap();
        fs::write(dir.path().join("secret.key"), "short").unwrap();
        assert!(matches!(DataDir::open(dir.path()).unwrap().keys(), Err(DataDirError::Damaged { .. })));
    }
}
