//! The directory that is the store's root, and every way below it. Nothing outside can be reached: paths are resolved by the kernel with
//! `RESOLVE_BENEATH` (openat2(2)), and no directory on the way may be a symbolic link.

use super::sync;
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The name of the directory that holds what is being written. Reserved at every level, so that a mount of a subdirectory cannot show it either.
pub(super) const UPLOADS_DIR: &str = ".forebay-uploads";

const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIR_MODE: Mode = Mode::from_raw_mode(0o777);
/// So often an opening is tried again at once; then so often, so far apart: half a second in all.
const TRIES_AT_ONCE: u32 = 20;
const TRIES_LATER: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);
/// No device has this number.
const DEVICE_UNKNOWN: u64 = u64::MAX;

/// Where the root is. Opened anew for each call, so that a file system mounted later is seen.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// The device of the root when it was first opened; none when any will do.
    device: Option<AtomicU64>,
}

/// Why the root itself cannot be used.
#[derive(Debug)]
pub(super) enum RootError {
    System(Errno),
    /// Another file system is there than before: something was mounted or unmounted.
    OtherDevice,
}

/// The root, open.
#[derive(Debug)]
pub(super) struct OpenRoot(OwnedFd);

/// What a key resolves to.
pub(super) enum Found {
    File(Stat),
    Directory(Stat),
    /// A link to a directory or to nothing, a socket, a device.
    Special,
    Nothing,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Root {
        Root { path, device: Some(AtomicU64::new(DEVICE_UNKNOWN)) }
    }

    /// Whatever is mounted there.
    pub(super) fn of_any_device(path: PathBuf) -> Root {
        Root { path, device: None }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the root. When a network file system is unmounted, its empty mount point must not look as if all files were deleted.
    pub(super) fn open(&self) -> Result<OpenRoot, RootError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = fs::open(&self.path, flags, Mode::empty()).map_err(RootError::System)?;
        let Some(first_device) = &self.device else { return Ok(OpenRoot(fd)) };
        let device = fs::fstat(&fd).map_err(RootError::System)?.st_dev;
        let first = first_device.compare_exchange(DEVICE_UNKNOWN, device, Ordering::Relaxed, Ordering::Relaxed);
        match first {
            Ok(_) => Ok(OpenRoot(fd)),
            Err(known) if known == device => Ok(OpenRoot(fd)),
            Err(_) => Err(RootError::OtherDevice),
        }
    }
}

/// Splits a key into its directory's key and its name.
pub(super) fn split(key: &[u8]) -> (&[u8], &[u8]) {
    match key.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&key[..slash], &key[slash + 1..]),
        None => (b"", key),
    }
}

fn path(key: &[u8]) -> &Path {
    match key {
        b"" => Path::new("."),
        _ => Path::new(OsStr::from_bytes(key)),
    }
}

fn no_links() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS
}

/// Tries again what may work in a moment. EAGAIN: a rename raced with the resolution, and the kernel could not prove that it stayed below
/// (openat2(2)); or another program has a write lease on the file and is asked to end it (fcntl(2)), which may take it a minute: then the caller is told.
fn patiently<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut tries = 0;
    loop {
        match open() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if tries < TRIES_AT_ONCE + TRIES_LATER => {
                tries += 1;
                if tries > TRIES_AT_ONCE {
                    std::thread::sleep(BETWEEN_TRIES);
                }
            }
            other => return other,
        }
    }
}

impl OpenRoot {
    fn open_at(&self, key: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        patiently(|| fs::openat2(&self.0, path(key), flags | OFlags::CLOEXEC, Mode::empty(), resolve))
    }

    /// A directory, to list it or to name what is in it.
    pub(super) fn directory(&self, key: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_at(key, OFlags::DIRECTORY | OFlags::RDONLY, no_links())
    }

    /// A regular file, or one that the last name, a link, leads to below the root.
    pub(super) fn file(&self, key: &[u8]) -> Result<OwnedFd, Errno> {
        // NONBLOCK: opening a pipe must not wait for a writer; regular files do not care.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        match self.open_at(key, flags | OFlags::NOFOLLOW, no_links()) {
            Err(Errno::LOOP) => {
                self.directory(split(key).0)?;
                self.open_at(key, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
            }
            other => other,
        }
    }

    /// What lies at a key.
    pub(super) fn find(&self, key: &[u8]) -> Result<Found, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = match self.open_at(key, flags, no_links()) {
            Ok(fd) => fd,
            // LOOP: one of the directories is a link.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let stat = fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(stat)),
            FileType::Directory => Ok(Found::Directory(stat)),
            FileType::Symlink => self.find_target(key),
            _ => Ok(Found::Special),
        }
    }

    fn find_target(&self, key: &[u8]) -> Result<Found, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match self.open_at(key, OFlags::PATH, resolve) {
            Ok(fd) => {
                let stat = fs::fstat(&fd)?;
                Ok(match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => Found::File(stat),
                    _ => Found::Special,
                })
            }
            // XDEV: it leads out of the root.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS) => Ok(Found::Special),
            Err(error) => Err(error),
        }
    }

    /// A directory, made with its parents where they are missing; each new one is on disk when this returns.
    pub(super) fn make_directories(&self, key: &[u8]) -> Result<OwnedFd, Errno> {
        match self.directory(key) {
            Err(Errno::NOENT) if !key.is_empty() => {}
            other => return other,
        }
        let (parent, name) = split(key);
        let parent = self.make_directories(parent)?;
        match fs::mkdirat(&parent, path(name), DIR_MODE) {
            Ok(()) => sync::all(&parent)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        self.directory(key)
    }

    /// A new file in a directory, for writing.
    pub(super) fn create(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        fs::openat(directory, name, flags, FILE_MODE)
    }

    /// The file system that the root lies on can be written; for checks.
    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        fs::fstat(&self.0)
    }
}

/// Removes a name; whether it was there.
pub(super) fn unlink(directory: &OwnedFd, name: &[u8], flags: AtFlags) -> Result<bool, Errno> {
    match fs::unlinkat(directory, path(name), flags) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let mut calls = 0;
        let mut fail = |errno| {
            calls += 1;
            Err::<(), _>(errno)
        };
        assert_eq!(patiently(|| fail(Errno::AGAIN)), Err(Errno::AGAIN));
        assert_eq!(patiently(|| fail(Errno::NOENT)), Err(Errno::NOENT));
        assert_eq!(calls, 1 + TRIES_AT_ONCE + TRIES_LATER + 1);
        let mut answers = [Err(Errno::AGAIN), Err(Errno::INTR), Ok(7)].into_iter();
        assert_eq!(patiently(|| answers.next().unwrap()), Ok(7));
    }
}
