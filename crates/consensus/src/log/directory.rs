//! The directory of the log: one process at a time, one member for ever, a known format.

use std::io;
use std::path::Path;

use forebay_base::data_dir::create_private;
use forebay_base::{FileLock, LockError};
use serde::{Deserialize, Serialize};

use super::disk::{Disk, OsDisk, TEMPORARY, read_file, replace_file};
use crate::error::OpenError;
use crate::runtime::draw;
use crate::settings::MemberId;

/// The newest format of the directory that this release knows.
pub(crate) const FORMAT: u32 = 1;

const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "member.json";

/// Locks `dir` (made when missing) against other processes.
pub(crate) fn lock(dir: &Path) -> Result<FileLock, OpenError> {
    create_private(dir).map_err(io_error("create", dir))?;
    let path = dir.join(LOCK_FILE);
    FileLock::take(&path).map_err(|error| match error {
        LockError::Held { .. } => OpenError::Locked { dir: dir.to_owned() },
        LockError::Io(source) => io_error("lock", &path)(source),
    })
}

/// Whose directory this is, as `member.json` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(super) format: u32,
    /// The member; never another one.
    pub(crate) member: u64,
    /// Drawn once for each directory: a member whose directory was lost and made anew is told from the one that it was. Zero in a file
    /// of an older release, which gets one when it is opened.
    #[serde(default, with = "hex")]
    pub(crate) incarnation: u64,
    /// The group that this directory belongs to for ever; zero before it has met any.
    #[serde(default, with = "hex")]
    pub(crate) group: u64,
    /// The longest lease, in milliseconds, that what this directory has confirmed may have given a leader. Zero in a file of an older release.
    #[serde(default)]
    pub(crate) lease_ms: u64,
    /// There is a segment: noted after the first one was made and before anything in it is confirmed, and taken back before the only one is removed, with
    /// which the log is as if it had never begun. False in a file of an older release.
    #[serde(default)]
    pub(crate) begun: bool,
    /// There is a vote: noted after the first one was stored and before anybody hears of it. False in a file of an older release.
    #[serde(default)]
    pub(crate) voted: bool,
}

impl Identity {
    /// Stores it in `dir`; the old one or the new one is there after a crash, the new one after the return.
    pub(crate) fn store(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).expect("numbers always serialize");
        replace_file(disk, &dir.join(IDENTITY_FILE), &bytes).map(drop)
    }
}

/// Numbers as 16 hexadecimal digits, which every reader of JSON keeps whole.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map_err(|e| D::Error::custom(format!("{text:?} is not a hexadecimal number: {e}")))
    }
}

/// A number that no other directory has, and not zero.
pub(crate) fn new_number() -> u64 {
    draw().max(1)
}

/// Just the format, so that a newer file with other fields is still told apart.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Checks that `dir` is of a known format and belongs to `member`; an empty one is given to it.
pub(crate) fn identify(disk: &dyn Disk, dir: &Path, member: MemberId) -> Result<Identity, OpenError> {
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
    let mut identity: Identity = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if identity.member != member.0 {
        return Err(OpenError::WrongMember { dir: dir.to_owned(), found: MemberId(identity.member), wanted: member });
    }
    if identity.incarnation == 0 {
        identity.incarnation = new_number();
        identity.store(disk, dir).map_err(io_error("write", &path))?;
    }
    Ok(identity)
}

/// The member that `dir` belongs to, if it belongs to any.
pub(crate) fn owner(disk: &dyn Disk, dir: &Path) -> Result<Option<MemberId>, OpenError> {
    let path = dir.join(IDENTITY_FILE);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("read", &path)(e)),
    };
    let corrupt = |e: serde_json::Error| OpenError::Corrupt { file: path.clone(), offset: 0, reason: e.to_string() };
    let identity: Identity = serde_json::from_slice(&bytes).map_err(corrupt)?;
    Ok(Some(MemberId(identity.member)))
}

/// Makes `dir` if it is missing, and refuses one with a log of some member in it.
pub(crate) fn no_log_in(dir: &Path) -> Result<(), OpenError> {
    create_private(dir).map_err(io_error("create", dir))?;
    let names = OsDisk.list(dir).map_err(io_error("list", dir))?;
    match names.iter().find(|name| name.ends_with(".log") || *name == IDENTITY_FILE || *name == "vote") {
        Some(name) => Err(OpenError::Start { reason: format!("there is a log already: {}", dir.join(name).display()) }),
        None => Ok(()),
    }
}

/// Gives a directory without an identity to `member`, unless a log without an identity lies in it.
fn found(disk: &dyn Disk, dir: &Path, path: &Path, member: MemberId) -> Result<Identity, OpenError> {
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    if names.iter().any(|name| name.ends_with(".log")) {
        return Err(OpenError::Corrupt {
            file: path.to_owned(),
            offset: 0,
            reason: "the file is missing beside a log".to_owned(),
        });
    }
    let identity = Identity {
        format: FORMAT,
        member: member.0,
        incarnation: new_number(),
        group: 0,
        lease_ms: 0,
        begun: false,
        voted: false,
    };
    identity.store(disk, dir).map_err(io_error("write", path))?;
    // The directory itself was perhaps just made: its own name must last, too.
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        disk.sync_dir(parent).map_err(io_error("sync", parent))?;
    }
    Ok(identity)
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
