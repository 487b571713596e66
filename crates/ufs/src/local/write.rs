//! Writing files so that they are there whole or not at all: a temporary file beside the tree, synced, then renamed to its name.
//!
//! `.forebay-uploads/ID.put` is a file written at once; `.forebay-uploads/ID/` holds an upload: `data`, written at any offset, and `key`. After a crash they are
//! left-overs without meaning; uploads are listed, and aborting one removes it.

use super::root::{OpenRoot, UPLOADS_DIR, split, unlink};
use super::{meta, root, sync};
use crate::{ObjectMeta, PendingUpload, PutCondition, UploadId, UploadedPart};
use bytes::Bytes;
use forebay_base::VersionTag;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::unix::ffi::OsStrExt;

const DATA: &str = "data";
const KEY: &str = "key";
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

/// Gives files their names, one at a time, so that conditions hold against every writer of this process.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    turn: Mutex<()>,
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

    fn move_to(
        &self,
        root: &OpenRoot,
        from: (&OwnedFd, &str),
        key: &[u8],
        to: (&OwnedFd, &OsStr),
        condition: &PutCondition,
    ) -> Result<(), WriteError> {
        let _turn = self.turn.lock();
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
        let name = format!("{:032x}.put", rand::random::<u128>());
        let file = OpenRoot::create(&directory, &name)?;
        let written = (|| {
            fill(&file)?;
            sync::all(&file)?;
            let stat = fs::fstat(&file)?;
            self.publish(root, (&directory, &name), key, condition)?;
            Ok(meta::file(&stat))
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
        let stat = fs::fstat(&file)?;
        self.publish(root, (&directory, DATA), key, condition)?;
        abort(root, upload)?;
        Ok(meta::file(&stat))
    }
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

    fn bytes(text: &'static str) -> Vec<Bytes> {
        vec![Bytes::from_static(text.as_bytes())]
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
