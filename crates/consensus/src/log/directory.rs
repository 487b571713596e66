//! The directory of the log: one process at a time, one member for ever, a known format.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, TEMPORARY, read_file, replace_file};
use crate::error::OpenError;
use crate::settings::MemberId;

/// The newest format of the directory that this release knows.
pub(crate) const FORMAT: u32 = 1;

const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "member.json";

/// Held while the directory is open; the kernel drops it with the process.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

/// Locks `dir` (made when missing) against other processes.
pub(crate) fn lock(dir: &Path) -> Result<DirectoryLock, OpenError> {
    fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(io_error("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(io_error("lock", &path)(e)),
    }
}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    member: u64,
}

/// Just the format, so that a newer file with other fields is still told apart.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Checks that `dir` is of a known format and belongs to `member`; an empty one is given to it.
pub(crate) fn identify(disk: &dyn Disk, dir: &Path, member: MemberId) -> Result<(), OpenError> {
    let path = dir.join(IDENTITY_FILE);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return found(disk, dir, &path, member),
        Err(e) => return Err(io_error("read", &path)(e)),
    };
    let corrupt = |e: serde_json::Error| OpenError::Corrupt { file: path.clone(), offset: 0, reason: e.to_string() };
    let AnyFormat { format } = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if format > FORMAT {
        return Err(OpenError::NewerFormat { dir: dir.to_owned(), found: format, known: FORMAT });
    }
    let identity: Identity = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if identity.member != member.0 {
        return Err(OpenError::WrongMember { dir: dir.to_owned(), found: MemberId(identity.member), wanted: member });
    }
    Ok(())
}

/// Gives a directory without an identity to `member`, unless a log without an identity lies in it.
fn found(disk: &dyn Disk, dir: &Path, path: &Path, member: MemberId) -> Result<(), OpenError> {
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    if names.iter().any(|name| name.ends_with(".log")) {
        return Err(OpenError::Corrupt {
            file: path.to_owned(),
            offset: 0,
            reason: "the file is missing beside a log".to_owned(),
        });
    }
    let identity = Identity { format: FORMAT, member: member.0 };
    let bytes = serde_json::to_vec(&identity).expect("two numbers always serialize");
    replace_file(disk, path, &bytes).map_err(io_error("write", path))?;
    // The directory itself was perhaps just made: its own name must last, too.
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        disk.sync_dir(parent).map_err(io_error("sync", parent))?;
    }
    Ok(())
}

/// Removes what a crash left of files on their way.
pub(crate) fn remove_temporaries(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for name in disk.list(dir).map_err(io_error("list", dir))? {
        let path = dir.join(name);
        if path.extension().is_some_and(|e| e == TEMPORARY) {
            disk.remove(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Turns an I/O error into an [`OpenError`] that names the file.
pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
