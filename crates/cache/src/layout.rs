//! What lies where in a tier directory, and who may use it.
//!
//! `forebay-cache` says that it is one, of which format, and which (an id drawn when it was made); `lock` is locked by the process that uses it; `usage` is an estimate of the
//! bytes taken, for the time before the next scan is through; `pages/hhh/` (three digits of the inode's hash) holds the data and checksum files,
//! `INODE.VERSION.data` and `.sums` in hexadecimal.

use crate::{
    OpenError, disk, hash,
    waits::{Wait, Waits},
};
use forebay_base::{FileId, FileLock, InodeId, LockError};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The newest format of a directory that is known here.
pub(crate) const FORMAT: u32 = 1;
/// Directories below `pages`: at 10 million files 5,000 in each.
pub(crate) const LEAVES: u32 = 4096;

/// So often a directory is made anew that another process removes at the same time.
const ATTACH_TRIES: u32 = 100;
const MARKER: &str = "forebay-cache";
const MARKER_START: &str = "forebay cache directory, format ";

/// The two files of a cached file version.
pub(crate) struct Paths {
    pub(crate) leaf: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) sums: PathBuf,
}

/// Which of the two a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Data,
    Sums,
}

/// The leaf directory of an inode's files.
pub(crate) fn leaf_of(root: &Path, inode: InodeId) -> PathBuf {
    leaf(root, hash::of_inode(inode) as u32 % LEAVES)
}

/// The leaf directory of a number.
pub(crate) fn leaf(root: &Path, number: u32) -> PathBuf {
    root.join("pages").join(format!("{number:03x}"))
}

/// Where the files of a file version are.
pub(crate) fn paths(root: &Path, file: FileId) -> Paths {
    let leaf = leaf_of(root, file.inode);
    Paths { data: leaf.join(format!("{file}.data")), sums: leaf.join(format!("{file}.sums")), leaf }
}

/// Reads a file name back.
pub(crate) fn parse_name(name: &str) -> Option<(FileId, Part)> {
    let mut pieces = name.split('.');
    let mut hex = || u64::from_str_radix(pieces.next()?, 16).ok();
    let file = FileId { inode: InodeId(hex()?), version: hex()? };
    let part = match pieces.next()? {
        "data" => Part::Data,
        "sums" => Part::Sums,
        _ => return None,
    };
    // Only what we would have named so.
    let suffix = if part == Part::Data { "data" } else { "sums" };
    (name == format!("{file}.{suffix}")).then_some((file, part))
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub(crate) enum AttachError {
    /// It must not be used.
    Refused(OpenError),
    /// It does not work now.
    Io(io::Error),
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        AttachError::Io(error)
    }
}

/// Makes the directory if it is missing, locks it and checks what it is. Nothing is changed in a directory that is refused because it is not ours.
pub(crate) fn attach(wait: &Wait<'_>, root: &Path) -> Result<FileLock, AttachError> {
    for _ in 0..ATTACH_TRIES {
        if let Some(lock) = try_attach(wait, root)? {
            return Ok(lock);
        }
    }
    Err(io::Error::other("it is removed again and again while it is opened").into())
}

/// None when the directory was removed meanwhile.
fn try_attach(wait: &Wait<'_>, root: &Path) -> Result<Option<FileLock>, AttachError> {
    disk::wait_for_disk(wait.dir());
    forebay_base::data_dir::create_private(root)?;
    if !has_marker(wait, root)? {
        check_empty(wait, root)?;
    }
    let lock = match lock(wait, root) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Err(AttachError::Refused(OpenError::Locked(root.to_owned()))),
        Err(LockError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(LockError::Io(error)) => return Err(error.into()),
    };
    // Only now nobody changes it any more.
    if !has_marker(wait, root)? {
        write_marker(wait, root)?;
    }
    forebay_base::data_dir::create_private(&root.join("pages"))?;
    if let Err(error) = try_out(wait, root) {
        check_holes(root, error)?;
    }
    Ok(Some(lock))
}

/// Whether the directory has a marker of a format that is known.
fn has_marker(wait: &Wait<'_>, root: &Path) -> Result<bool, AttachError> {
    match disk::read_text(wait, &root.join(MARKER)) {
        Ok(text) => check_marker(root, &text).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Locks the directory.
fn lock(wait: &Wait<'_>, root: &Path) -> Result<FileLock, LockError> {
    disk::wait_for_disk(wait.dir());
    FileLock::take(&root.join("lock"))
}

/// Removes a tier directory, unless a process uses it; whether it is gone. What is not a tier directory of this user is left alone.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove_unused(root: &Path) -> io::Result<bool> {
    // Nobody waits for it, and nobody counts.
    let waits = Waits::default();
    let wait = &waits.enter(root);
    let metadata = fs::symlink_metadata(root)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    match disk::read_text(wait, &root.join(MARKER)) {
        Ok(text) if text.starts_with(MARKER_START) => {}
        Ok(_) => return Ok(false),
        // Its beginning may have been all there was of it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && check_empty(wait, root).is_ok() => {}
        Err(_) => return Ok(false),
    }
    let _lock = match lock(wait, root) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(false),
        Err(LockError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(LockError::Io(error)) => return Err(error),
    };
    remove_locked(wait, root)
}

/// The marker goes after all else, so that a removal that is cut short can be taken up again, and the lock last: who opens it before finds out that it is gone,
/// who makes another keeps the directory.
fn remove_locked(wait: &Wait<'_>, root: &Path) -> io::Result<bool> {
    fs::remove_dir_all(root.join("pages")).or_else(ignore_missing)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == MARKER || name == "lock" {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        }
        .or_else(ignore_missing)?;
    }
    disk::remove(wait, &root.join(MARKER))?;
    disk::remove(wait, &root.join("lock"))?;
    match fs::remove_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        removed => removed.map(|()| true),
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A file system without holes never gets any: the directory is refused. Other errors may pass.
fn check_holes(root: &Path, error: io::Error) -> Result<(), AttachError> {
    use rustix::io::Errno;
    let lacks = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    match Errno::from_io_error(&error).is_some_and(|errno| lacks.contains(&errno)) {
        true => Err(AttachError::Refused(OpenError::NoHoles { path: root.to_owned(), reason: error.to_string() })),
        false => Ok(()),
    }
}

fn check_marker(root: &Path, text: &str) -> Result<(), AttachError> {
    let format = text.lines().next().and_then(|line| line.strip_prefix(MARKER_START));
    match format.and_then(|format| format.parse().ok()) {
        Some(FORMAT) => Ok(()),
        Some(found) => {
            Err(AttachError::Refused(OpenError::NewerFormat { path: root.to_owned(), found, known: FORMAT }))
        }
        None => Err(AttachError::Refused(OpenError::Foreign(root.to_owned()))),
    }
}

/// A new directory may hold nothing but what a process that died just here has left, and what `mkfs` makes.
fn check_empty(wait: &Wait<'_>, root: &Path) -> Result<(), AttachError> {
    disk::wait_for_disk(wait.dir());
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if !["lock", "lost+found", "forebay-cache.new", "usage", "usage.new"].iter().any(|known| name == *known) {
            return Err(AttachError::Refused(OpenError::Foreign(root.to_owned())));
        }
    }
    Ok(())
}

fn write_marker(wait: &Wait<'_>, root: &Path) -> io::Result<()> {
    disk::wait_for_disk(wait.dir());
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let text = format!("{MARKER_START}{FORMAT}\nid {id}");
    let new = root.join("forebay-cache.new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, root.join(MARKER))?;
    File::open(root)?.sync_all()
}

/// The marker's text: tells whether the same directory is still mounted here.
pub(crate) fn read_marker(wait: &Wait<'_>, root: &Path) -> io::Result<String> {
    disk::read_text(wait, &root.join(MARKER))
}

/// How many bytes were taken when it was last noted; 0 when that is not known.
pub(crate) fn read_usage(wait: &Wait<'_>, root: &Path) -> u64 {
    let text = disk::read_text(wait, &root.join("usage")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Notes how many bytes are taken.
pub(crate) fn write_usage(wait: &Wait<'_>, root: &Path, bytes: u64) -> io::Result<()> {
    disk::replace(wait, &root.join("usage.new"), &root.join("usage"), &format!("{bytes}\n"))
}

/// Writes, reads, punches and removes a file: whether the directory works, and its disk with it.
pub(crate) fn try_out(wait: &Wait<'_>, root: &Path) -> io::Result<()> {
    const BYTES: [u8; 16 << 10] = [0x5a; 16 << 10];
    let path = root.join("probe");
    disk::remove(wait, &path)?;
    let file = disk::create(wait, &path)?;
    let written = disk::write_at(wait, &path, &file, &BYTES, 0).and_then(|()| {
        // What it takes into memory proves nothing.
        disk::sync(wait, &path, &file)?;
        let mut read = [0; BYTES.len()];
        disk::read_at(wait, &path, &file, &mut read, 0)?;
        if read != BYTES {
            return Err(io::Error::other("reads back other bytes than were written"));
        }
        disk::punch(wait, &path, &file, 0..BYTES.len() as u64)?;
        // Whether it finds the hole depends on the size of its blocks; it must be able to look.
        disk::next_data(wait, &file, 0)?;
        disk::read_at(wait, &path, &file, &mut read, 0)?;
        if read.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(io::Error::other("reads bytes out of a hole")) }
    });
    disk::remove(wait, &path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(root: &Path) -> Result<FileLock, AttachError> {
        super::attach(&Waits::default().enter(root), root)
    }

    #[test]
    fn names_return() {
        let file = FileId { inode: InodeId(0xabc), version: 17 };
        assert_eq!(parse_name("abc.11.data"), Some((file, Part::Data)));
        assert_eq!(parse_name("abc.11.sums"), Some((file, Part::Sums)));
        assert!(paths(Path::new("/d"), file).data.ends_with("abc.11.data"));
        for other in ["abc.11", "ABC.11.data", "0abc.11.data", "abc.11.data.new", "probe", "+1.1.data"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn only_unused_directories_of_ours_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let ours = temp.path().join("ours");
        let held = attach(&ours).unwrap();
        fs::write(ours.join("pages/page"), "x").unwrap();
        assert!(!remove_unused(&ours).unwrap(), "in use");
        assert!(ours.join("pages/page").exists());
        drop(held);
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        assert!(!remove_unused(&link).unwrap());
        assert!(remove_unused(&ours).unwrap());
        assert!(!ours.exists());
        let foreign = temp.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.doc"), "").unwrap();
        assert!(!remove_unused(&foreign).unwrap() && foreign.join("thesis.doc").exists());
        fs::create_dir(temp.path().join("begun")).unwrap();
        assert!(remove_unused(&temp.path().join("begun")).unwrap());
    }

    #[test]
    fn who_attaches_while_another_removes_has_it_or_not() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("ours");
        let ended = std::sync::atomic::AtomicBool::new(false);
        let ends = || ended.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends() {
                    let _ = remove_unused(&root);
                }
            });
            for _ in 0..2000 {
                let attached = attach(&root);
                let Ok(lock) = attached else {
                    assert!(
                        matches!(attached, Err(AttachError::Refused(OpenError::Locked(_)) | AttachError::Io(_))),
                        "{attached:?}"
                    );
                    continue;
                };
                assert!(read_marker(&Waits::default().enter(&root), &root).is_ok() && root.join("pages").is_dir());
                drop(lock);
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        drop(attach(&root).unwrap());
    }

    fn refusal(root: &Path) -> OpenError {
        match attach(root) {
            Err(AttachError::Refused(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directories_are_refused_and_left_as_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let foreign = temp.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(refusal(&foreign), OpenError::Foreign(_)));
        assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

        let newer = temp.path().join("newer");
        fs::create_dir(&newer).unwrap();
        fs::write(newer.join(MARKER), format!("{MARKER_START}2\nid x\n")).unwrap();
        assert!(matches!(refusal(&newer), OpenError::NewerFormat { found: 2, .. }));
        assert_eq!(fs::read_dir(&newer).unwrap().count(), 1);

        let ours = temp.path().join("a/b");
        let lock = attach(&ours).unwrap();
        assert!(matches!(refusal(&ours), OpenError::Locked(_)));
        let marker = read_marker(&Waits::default().enter(&ours), &ours).unwrap();
        drop(lock);
        attach(&ours).unwrap();
        assert_eq!(read_marker(&Waits::default().enter(&ours), &ours).unwrap(), marker);
    }
}
