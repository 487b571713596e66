//! What lies where in a tier directory, and who may use it.
//!
//! `forebay-cache` says that it is one, of which format, and which (an id drawn when it was made); `lock` is locked by the process that uses it; `usage` is an estimate of the
//! bytes taken, for the time before the next scan is through; `pages/hhh/` (three digits of the inode's hash) holds the data and checksum files,
//! `INODE.VERSION.data` and `.sums` in hexadecimal.

use crate::{OpenError, disk, hash};
use forebay_base::{FileId, InodeId};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The newest format of a directory that is known here.
pub(crate) const FORMAT: u32 = 1;
/// Directories below `pages`: at 10 million files 5,000 in each.
pub(crate) const LEAVES: u32 = 4096;

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

/// Makes the directory if it is missing, locks it and checks what it is. Nothing is changed in a directory that is refused.
pub(crate) fn attach(root: &Path) -> Result<File, AttachError> {
    fs::create_dir_all(root)?;
    let marker = fs::read_to_string(root.join(MARKER));
    match &marker {
        Ok(text) => check_marker(root, text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_empty(root)?,
        Err(error) => return Err(io::Error::new(error.kind(), error.to_string()).into()),
    }
    let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(AttachError::Refused(OpenError::Locked(root.to_owned())));
    }
    if marker.is_err() {
        write_marker(root)?;
    }
    fs::create_dir_all(root.join("pages"))?;
    Ok(lock)
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
fn check_empty(root: &Path) -> Result<(), AttachError> {
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if !["lock", "lost+found", "forebay-cache.new"].iter().any(|known| name == *known) {
            return Err(AttachError::Refused(OpenError::Foreign(root.to_owned())));
        }
    }
    Ok(())
}

fn write_marker(root: &Path) -> io::Result<()> {
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
pub(crate) fn read_marker(root: &Path) -> io::Result<String> {
    fs::read_to_string(root.join(MARKER))
}

/// How many bytes were taken when it was last noted; 0 when that is not known.
pub(crate) fn read_usage(root: &Path) -> u64 {
    let text = fs::read_to_string(root.join("usage")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Notes how many bytes are taken.
pub(crate) fn write_usage(root: &Path, bytes: u64) -> io::Result<()> {
    let new = root.join("usage.new");
    fs::write(&new, format!("{bytes}\n"))?;
    fs::rename(&new, root.join("usage"))
}

/// Writes, reads and removes a file: whether the directory works.
pub(crate) fn try_out(root: &Path) -> io::Result<()> {
    const BYTES: [u8; 16 << 10] = [0x5a; 16 << 10];
    let path = root.join("probe");
    disk::remove(&path)?;
    let file = disk::create(&path)?;
    let written = disk::write_at(&path, &file, &BYTES, 0).and_then(|()| {
        let mut read = [0; BYTES.len()];
        disk::read_at(&path, &file, &mut read, 0)?;
        if read == BYTES { Ok(()) } else { Err(io::Error::other("reads back other bytes than were written")) }
    });
    disk::remove(&path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let marker = read_marker(&ours).unwrap();
        drop(lock);
        attach(&ours).unwrap();
        assert_eq!(read_marker(&ours).unwrap(), marker);
    }
}
