//! Writing files so that they are there whole or not at all: a temporary file beside the tree, synced, then renamed to its name.
//!
//! `.forebay-uploads/ID.put` is a file written at once, locked by its writer; `.forebay-uploads/ID/` holds an upload: `data`, written at any offset, and `key`.
//! After a crash they are left-overs without meaning. Uploads are listed, and aborting one removes it; the rest goes with the first write of a later process
//! ([`sweep`]).

use super::root::{OpenRoot, UPLOADS_DIR, split, unlink};
use super::{meta, root, sync};
use crate::{ObjectMeta, PendingUpload, PutCondition, UploadId, UploadedPart};
use bytes::Bytes;
use forebay_base::VersionTag;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::io::IoSlice;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

const DATA: &str = "data";
const KEY: &str = "key";
/// How the names of files written at once end.
const PUT: &str = ".put";
/// Nothing that is written lies untouched for so long.
const LEFT_AFTER_MS: u64 = 3_600_000;
/// Names looked at by one sweep.
const SWEPT_MAX: usize = 100_000;
/// Buffers handed to one write (IOV_MAX is 1024 on Linux).
const IOV_MAX: usize = 1024;

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    System(Errno),
    Exists,
    Changed(String),
    UploadGone,
    BadParts(String),
}

impl From<Errno> for WriteError {
    fn from(errno: Errno) -> WriteError {
        WriteError::System(errno)
    }
}

/// Gives files their names, one at a time, so that conditions hold against every writer of this process, and of this host ([`lock`]).
#[derive(Debug, Default)]
pub(super) struct Publisher {
    turn: Mutex<()>,
    swept: AtomicBool,
}

impl Publisher {
    /// Moves a finished file to its key.
    fn publish(
        &self,
        root: &OpenRoot,
        from: (&OwnedFd, &str),
        key: &[u8],
        condition: &PutCondition,
    ) -> Result<(), WriteError> {
        let (parent, name) = split(key);
        let directory = root.make_directories(parent)?;
        let name = OsStr::from_bytes(name);
        let moved = self.move_to(root, from, key, (&directory, name), condition);
        // Also when somebody was there before: it may be ourselves, killed before this, and our caller may recognise it as his own.
        if matches!(moved, Ok(()) | Err(WriteError::Exists | WriteError::Changed(_))) {
            sync::all(&directory)?;
        }
        moved
    }

    /// Gives an open file its name, and what it is then: its new name moved its change time. What others did to it since it has that name is not
    /// taken for ours.
    fn publish_file(
        &self,
        root: &OpenRoot,
        (file, directory, name): (&OwnedFd, &OwnedFd, &str),
        key: &[u8],
        condition: &PutCondition,
    ) -> Result<ObjectMeta, WriteError> {
        let before = meta::file(&fs::fstat(file)?);
        self.publish(root, (directory, name), key, condition)?;
        let after = meta::file(&fs::fstat(file)?);
        Ok(if meta::is_renamed(&before.tag, &after.tag) { after } else { before })
    }

    fn move_to(
        &self,
        root: &OpenRoot,
        from: (&OwnedFd, &str),
        key: &[u8],
        to: (&OwnedFd, &OsStr),
        condition: &PutCondition,
    ) -> Result<(), WriteError> {
        let _turn = self.turn.lock();
        let _lock = lock(root)?;
        let flags = match condition {
            PutCondition::None => RenameFlags::empty(),
            PutCondition::IfAbsent => RenameFlags::NOREPLACE,
            PutCondition::IfTag(tag) => {
                check_tag(root, key, tag)?;
                RenameFlags::empty()
            }
        };
        match fs::renameat_with(from.0, from.1, to.0, to.1, flags) {
            Err(Errno::EXIST) if flags == RenameFlags::NOREPLACE => Err(WriteError::Exists),
            // File systems without the flag: a link refuses to replace as well.
            Err(Errno::INVAL) if flags == RenameFlags::NOREPLACE => {
                match fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty()) {
                    Err(Errno::EXIST) => return Err(WriteError::Exists),
                    other => other?,
                }
                unlink(from.0, from.1.as_bytes(), AtFlags::empty())?;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Writes a whole file.
    pub(super) fn put(
        &self,
        root: &OpenRoot,
        key: &[u8],
        body: &[Bytes],
        condition: &PutCondition,
    ) -> Result<ObjectMeta, WriteError> {
        self.write_whole(root, key, condition, |file| write_at(file, body, 0))
    }

    /// Writes a file whose bytes `fill` brings.
    pub(super) fn write_whole(
        &self,
        root: &OpenRoot,
        key: &[u8],
        condition: &PutCondition,
        fill: impl FnOnce(&OwnedFd) -> Result<(), WriteError>,
    ) -> Result<ObjectMeta, WriteError> {
        let directory = root.make_directories(UPLOADS_DIR.as_bytes())?;
        let name = format!("{:032x}{PUT}", rand::random::<u128>());
        let file = OpenRoot::create(&directory, &name)?;
        // Held until the file is closed. Where there are no locks, age alone protects it.
        fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok();
        if !self.swept.swap(true, Ordering::Relaxed) {
            sweep(&directory, &fs::fstat(&file)?);
        }
        let written = (|| {
            fill(&file)?;
            sync::all(&file)?;
            self.publish_file(root, (&file, &directory, &name), key, condition)
        })();
        if written.is_err() {
            // The first error is the one to tell; a left-over is harmless.
            unlink(&directory, name.as_bytes(), AtFlags::empty()).ok();
        }
        written
    }

    /// Makes the file of an upload out of its parts.
    pub(super) fn complete(
        &self,
        root: &OpenRoot,
        key: &[u8],
        upload: &UploadId,
        parts: &[UploadedPart],
        condition: &PutCondition,
    ) -> Result<ObjectMeta, WriteError> {
        let length = check_parts(parts)?;
        let Some((directory, file)) = open_upload(root, key, upload)? else {
            return completed_before(root, key, upload, length);
        };
        if meta::length(&fs::fstat(&file)?) < length {
            return Err(WriteError::BadParts("the file is shorter than its parts".into()));
        }
        fs::ftruncate(&file, length)?;
        sync::all(&file)?;
        let meta = self.publish_file(root, (&file, &directory, DATA), key, condition)?;
        abort(root, upload)?;
        Ok(meta)
    }
}

/// Locks the directory of uploads, against other processes and stores of the same root, until it is closed. Network file systems lock no directories: there conditions
/// on a version hold within one store alone.
fn lock(root: &OpenRoot) -> Result<OwnedFd, Errno> {
    let uploads = root.directory(UPLOADS_DIR.as_bytes())?;
    while let Err(Errno::INTR) = fs::flock(&uploads, FlockOperation::LockExclusive) {}
    Ok(uploads)
}

/// Removes what processes that were killed have left: files that nobody has locked, and uploads without a key, whose beginning or end was cut off. Only what is an
/// hour older than a file made just now, by the clock of the file system: what is younger may be on its way. Errors are left to the next process.
fn sweep(directory: &OwnedFd, made_now: &Stat) {
    let Ok(entries) = fs::Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten().take(SWEPT_MAX) {
        let name = entry.file_name();
        let Ok(stat) = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if meta::file(&stat).modified_ms.saturating_add(LEFT_AFTER_MS) > meta::file(made_now).modified_ms {
            continue;
        }
        let bytes = name.to_bytes();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if bytes.ends_with(PUT.as_bytes()) => sweep_put(directory, name),
            FileType::Directory if bytes.len() == 32 => sweep_upload(directory, name),
            _ => Ok(()),
        }
        .ok();
    }
}

fn sweep_put(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    // For writing: network file systems lock nothing else exclusively.
    let file = fs::openat(directory, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    fs::unlinkat(directory, name, AtFlags::empty())
}

fn sweep_upload(uploads: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = fs::openat(uploads, name, flags, Mode::empty())?;
    if read_key(&directory)?.is_none() {
        unlink(&directory, DATA.as_bytes(), AtFlags::empty())?;
        fs::unlinkat(uploads, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Whether the file at a key is still the one of that tag.
fn check_tag(root: &OpenRoot, key: &[u8], tag: &VersionTag) -> Result<(), WriteError> {
    match root.find(key)? {
        root::Found::File(stat) if meta::file(&stat).tag == *tag => Ok(()),
        root::Found::File(stat) => {
            Err(WriteError::Changed(format!("its version is {}, not {tag}", meta::file(&stat).tag)))
        }
        _ => Err(WriteError::Changed(format!("it is gone; its version was {tag}"))),
    }
}

/// Writes chunks one behind the other from an offset on.
pub(super) fn write_at(file: &OwnedFd, body: &[Bytes], offset: u64) -> Result<(), WriteError> {
    let mut offset = offset;
    let mut slices: Vec<IoSlice<'_>> =
        body.iter().filter(|chunk| !chunk.is_empty()).map(|chunk| IoSlice::new(chunk)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(IOV_MAX)];
        match rustix::io::pwritev(file, batch, offset) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An upload's name: what its directory is called, and the inode of its file, which tells after the fact whether it has become the object.
fn parse(upload: &UploadId) -> Option<(&str, u64)> {
    let (name, inode) = upload.0.split_once('-')?;
    let hex = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let inode = u64::from_str_radix(inode, 16).ok()?;
    hex.then_some((name, inode))
}

fn upload_directory(name: &str) -> Vec<u8> {
    format!("{UPLOADS_DIR}/{name}").into_bytes()
}

/// Begins an upload.
pub(super) fn begin(root: &OpenRoot, key: &[u8]) -> Result<UploadId, WriteError> {
    let name = format!("{:032x}", rand::random::<u128>());
    let directory = root.make_directories(&upload_directory(&name))?;
    let key_file = OpenRoot::create(&directory, KEY)?;
    write_at(&key_file, &[Bytes::copy_from_slice(key)], 0)?;
    let data = OpenRoot::create(&directory, DATA)?;
    let inode = fs::fstat(&data)?.st_ino;
    sync::all(&key_file)?;
    sync::all(&directory)?;
    Ok(UploadId(format!("{name}-{inode:x}")))
}

/// The directory and file of an upload for this key; `None` when it is not there.
fn open_upload(root: &OpenRoot, key: &[u8], upload: &UploadId) -> Result<Option<(OwnedFd, OwnedFd)>, WriteError> {
    let Some((name, _)) = parse(upload) else {
        return Ok(None);
    };
    let directory = match root.directory(&upload_directory(name)) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if read_key(&directory)?.as_deref() != Some(key) {
        return Ok(None);
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(&directory, DATA, flags, Mode::empty()) {
        Ok(data) => Ok(Some((directory, data))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_key(directory: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match fs::openat(directory, KEY, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    // One byte more than the longest path, so that a longer one shows.
    let mut key = Vec::with_capacity(forebay_base::path::PATH_LEN_MAX + 1);
    rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut key), 0)?;
    Ok(Some(key))
}

/// Stores one part.
pub(super) fn put_part(
    root: &OpenRoot,
    key: &[u8],
    upload: &UploadId,
    position: crate::PartPosition,
    body: &[Bytes],
) -> Result<UploadedPart, WriteError> {
    let (_, file) = open_upload(root, key, upload)?.ok_or(WriteError::UploadGone)?;
    write_at(&file, body, position.offset)?;
    // What is acknowledged is sent by nobody again.
    sync::data(&file)?;
    let length: u64 = body.iter().map(|chunk| chunk.len() as u64).sum();
    Ok(UploadedPart { number: position.number, length, tag: VersionTag(format!("{:x}-{length:x}", position.offset)) })
}

/// Checks that the parts lie one behind the other; their length together.
fn check_parts(parts: &[UploadedPart]) -> Result<u64, WriteError> {
    let mut offset = 0u64;
    for part in parts {
        if part.tag.0 != format!("{offset:x}-{:x}", part.length) {
            return Err(WriteError::BadParts(format!(
                "part {} does not begin at byte {offset}, where the part before it ends",
                part.number
            )));
        }
        offset += part.length;
    }
    Ok(offset)
}

/// The object, when it is what the upload made.
fn completed_before(root: &OpenRoot, key: &[u8], upload: &UploadId, length: u64) -> Result<ObjectMeta, WriteError> {
    let inode = parse(upload).map(|(_, inode)| inode);
    match root.find(key)? {
        root::Found::File(stat) if Some(stat.st_ino) == inode && meta::length(&stat) == length => {
            // Whoever completed it may have been killed before he did this.
            sync::all(root.directory(split(key).0)?)?;
            abort(root, upload)?;
            Ok(meta::file(&stat))
        }
        _ => Err(WriteError::UploadGone),
    }
}

/// Removes what an upload has left.
pub(super) fn abort(root: &OpenRoot, upload: &UploadId) -> Result<(), WriteError> {
    let Some((name, _)) = parse(upload) else {
        return Ok(());
    };
    let uploads = match root.directory(UPLOADS_DIR.as_bytes()) {
        Ok(uploads) => uploads,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let directory = match root.directory(&upload_directory(name)) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    unlink(&directory, DATA.as_bytes(), AtFlags::empty())?;
    unlink(&directory, KEY.as_bytes(), AtFlags::empty())?;
    unlink(&uploads, name.as_bytes(), AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Every upload for keys of a prefix, by key.
pub(super) fn uploads(root: &OpenRoot, prefix: &[u8]) -> Result<Vec<PendingUpload>, WriteError> {
    let directory = match root.directory(UPLOADS_DIR.as_bytes()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name.len() != 32 {
            continue;
        }
        if let Some(upload) = pending(root, name)?.filter(|found| found.key.starts_with(prefix)) {
            found.push(upload);
        }
    }
    found.sort_by(|a, b| (&a.key, &a.upload).cmp(&(&b.key, &b.upload)));
    Ok(found)
}

fn pending(root: &OpenRoot, name: &str) -> Result<Option<PendingUpload>, WriteError> {
    let directory = match root.directory(&upload_directory(name)) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(key) = read_key(&directory)? else {
        return Ok(None);
    };
    let key_stat = fs::statat(&directory, KEY, AtFlags::SYMLINK_NOFOLLOW)?;
    let inode = match fs::statat(&directory, DATA, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat.st_ino,
        Err(Errno::NOENT) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(Some(PendingUpload {
        key: key.into(),
        upload: UploadId(format!("{name}-{inode:x}")),
        begun_ms: meta::file(&key_stat).modified_ms,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::root::Root;
    use super::*;
    use crate::PartPosition;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn inode(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().ino()
    }

    fn old(path: &Path) {
        let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        std::fs::File::open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn what_killed_processes_left_is_swept() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().to_owned()).open().unwrap();
        let uploads = temp.path().join(UPLOADS_DIR);
        let make = |name: &str| {
            let path = uploads.join(name);
            std::fs::write(&path, "bytes").unwrap();
            old(&path);
            std::fs::File::open(path).unwrap()
        };
        let [pending, cut_off, empty] = [0, 1, 2].map(|_| uploads.join(&begin(&root, b"file").unwrap().0[..32]));
        std::fs::remove_file(cut_off.join(KEY)).unwrap();
        std::fs::remove_file(empty.join(KEY)).unwrap();
        std::fs::remove_file(empty.join(DATA)).unwrap();
        [&pending, &cut_off, &empty].into_iter().for_each(|path| old(path));
        let [left, locked, other] = ["1.put", "2.put", "README"].map(make);
        fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
        std::fs::write(uploads.join("young.put"), "bytes").unwrap();
        drop((left, other));

        Publisher::default().put(&root, b"file", &bytes("x"), &PutCondition::None).unwrap();
        let names = std::fs::read_dir(&uploads).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        let pending = pending.file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected = ["2.put", "README", "young.put", &pending];
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
    }

    fn bytes(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
    }

    #[test]
    fn conditions_hold_against_other_processes() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().to_owned()).open().unwrap();
        let put = |text, condition| Publisher::default().put(&root, b"file", &bytes(text), &condition);
        let before = put("old", PutCondition::None).unwrap();
        // As another process does while it publishes.
        let theirs = lock(&root).unwrap();
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| put("ours", PutCondition::IfTag(before.tag.clone())));
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let uploads = temp.path().join(UPLOADS_DIR);
            while std::fs::read_dir(&uploads).unwrap().next().is_none() && !ours.is_finished() {
                assert!(std::time::Instant::now() < deadline, "nothing is written");
                std::thread::yield_now();
            }
            let new = temp.path().join("new");
            std::fs::write(&new, "theirs").unwrap();
            std::fs::rename(new, temp.path().join("file")).unwrap();
            drop(theirs);
            assert!(matches!(ours.join().unwrap(), Err(WriteError::Changed(_))));
        });
        assert_eq!(std::fs::read(temp.path().join("file")).unwrap(), b"theirs");
    }

    #[test]
    fn what_is_acknowledged_is_on_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().to_owned()).open().unwrap();
        let publisher = Publisher::default();
        let synced = sync::log::take;

        let upload = begin(&root, b"d/file").unwrap();
        let directory = temp.path().join(UPLOADS_DIR).join(&upload.0[..32]);
        let data = inode(&directory.join(DATA));
        assert!(synced().ends_with(&[inode(&directory)]), "the upload");
        let parts = [("abc", 0), ("defg", 3)].map(|(text, offset)| {
            let position = PartPosition { number: offset as u32 + 1, offset };
            let part = put_part(&root, b"d/file", &upload, position, &bytes(text)).unwrap();
            assert_eq!(synced(), [data], "each part");
            part
        });
        publisher.complete(&root, b"d/file", &upload, &parts, &PutCondition::IfAbsent).unwrap();
        let parent = inode(&temp.path().join("d"));
        assert_eq!(synced(), [data, inode(temp.path()), parent], "bytes before names");
        publisher.complete(&root, b"d/file", &upload, &parts, &PutCondition::IfAbsent).unwrap();
        assert_eq!(synced(), [parent], "again, after a lost answer");

        publisher.put(&root, b"d/whole", &bytes("x"), &PutCondition::IfAbsent).unwrap();
        assert_eq!(synced(), [inode(&temp.path().join("d/whole")), parent]);
        let again = publisher.put(&root, b"d/whole", &bytes("x"), &PutCondition::IfAbsent);
        assert!(matches!(again, Err(WriteError::Exists)));
        assert!(synced().ends_with(&[parent]), "the caller may find that it is his");
    }
}
