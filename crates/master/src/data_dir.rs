//! The masters' data directory: one process at a time, a format number, the cluster's identity and its keys.
//!
//! ```text
//! format       "forebay-master 1": refused when newer
//! lock         held (flock) while a master runs
//! cluster.id   32 hex digits, drawn once
//! secret.key   seals stored credentials; mode 0600
//! tickets.key  signs tickets; mode 0600
//! state/ log/  the state machine's store and the replicated log
//! ```

use crate::secrets::KEY_LEN;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The newest format that this binary reads and writes.
const FORMAT: u32 = 1;
const FORMAT_PREFIX: &str = "forebay-master ";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it open.
    #[error("data directory {0:?} is in use by another master: stop that one, or set another master.data_dir")]
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
    /// The cluster's identity, 32 hex digits.
    pub(crate) cluster_id: String,
    /// Signs tickets.
    pub(crate) ticket_key: [u8; KEY_LEN],
    /// Seals credentials.
    pub(crate) secret_key: [u8; KEY_LEN],
    _lock: File,
}

impl DataDir {
    /// Opens the directory, making what is missing. Keys are written whole or not at all: a crash in between draws new ones
    /// next time, when nothing can have been sealed or signed yet.
    pub(crate) fn open(path: &Path) -> Result<DataDir, DataDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| io_error("create", path, source))?;
        let lock = lock(path)?;
        check_format(path)?;
        let cluster_id = read_or_make(&path.join("cluster.id"), 32, 0o644, || {
            format!("{:032x}", rand::random::<u128>()).into_bytes()
        })?;
        Ok(DataDir {
            cluster_id: String::from_utf8_lossy(&cluster_id).into_owned(),
            ticket_key: key(&path.join("tickets.key"))?,
            secret_key: key(&path.join("secret.key"))?,
            path: path.to_owned(),
            _lock: lock,
        })
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

fn io_error(what: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { what, path: path.to_owned(), source }
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(dir.to_owned())),
        Err(error) => Err(io_error("lock", &path, error.into())),
    }
}

fn check_format(dir: &Path) -> Result<(), DataDirError> {
    let path = dir.join("format");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return write_whole(&path, format!("{FORMAT_PREFIX}{FORMAT}\n").as_bytes(), 0o644);
        }
        Err(error) => return Err(io_error("read", &path, error)),
    };
    let number = text.trim().strip_prefix(FORMAT_PREFIX).and_then(|number| number.parse::<u32>().ok());
    match number {
        Some(1..=FORMAT) => Ok(()),
        _ => Err(DataDirError::Format { path: dir.to_owned(), found: text.trim().chars().take(40).collect() }),
    }
}

fn key(path: &Path) -> Result<[u8; KEY_LEN], DataDirError> {
    let bytes = read_or_make(path, KEY_LEN, 0o600, || rand::random::<[u8; KEY_LEN]>().to_vec())?;
    // A copy made by hand may have lost its mode; the secret must not stay readable by others.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|source| io_error("protect", path, source))?;
    Ok(bytes.try_into().expect("read_or_make checked the length"))
}

fn read_or_make(
    path: &Path,
    expected: usize,
    mode: u32,
    make: impl FnOnce() -> Vec<u8>,
) -> Result<Vec<u8>, DataDirError> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() == expected => Ok(bytes),
        Ok(bytes) => Err(DataDirError::Damaged { path: path.to_owned(), len: bytes.len(), expected }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = make();
            write_whole(path, &bytes, mode)?;
            Ok(bytes)
        }
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Writes a file so that after a crash it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    write().map_err(|source| io_error("write", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_identity_and_keys() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let (id, keys) = (first.cluster_id.clone(), (first.ticket_key, first.secret_key));
        assert_eq!(id.len(), 32);
        assert_ne!(keys.0, keys.1);
        drop(first);
        let again = DataDir::open(dir.path()).unwrap();
        assert_eq!((&again.cluster_id, (again.ticket_key, again.secret_key)), (&id, keys));
        for name in ["secret.key", "tickets.key"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
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
        drop(DataDir::open(dir.path()).unwrap());
        fs::write(dir.path().join("format"), "forebay-master 2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Format { .. })));
        fs::write(dir.path().join("format"), "forebay-master 1\n").unwrap();
        fs::write(dir.path().join("secret.key"), "short").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Damaged { .. })));
    }
}
