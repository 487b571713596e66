//! A directory of this host, or a network file system mounted there, as an under store: `file:///path`.
//!
//! Directories are real, renames atomic. **Symbolic links**: one to a file below the root is shown as that file; one to a directory, to nothing or out of
//! the root is skipped by listings and does not exist for everything else; deleting or overwriting a link changes the link, never its target. Sockets,
//! pipes and devices are skipped. `.forebay-uploads` holds what is being written and is never shown.
//!
//! [`PutCondition::IfAbsent`] holds against every writer. [`PutCondition::IfTag`] holds against every writer that goes through Forebay on this host; a program that
//! replaces the file between the check and the rename loses, and so does, on a network file system, a worker on another host.

mod list;
mod meta;
mod read;
mod root;
mod sync;
mod turns;
mod write;

pub use meta::is_renamed;

use crate::failure::{At, Failures};
use crate::open::{OpenOptions, check_names, invalid};
use crate::{
    Access, ByteStream, Capabilities, DeleteCondition, DeleteTarget, Expected, GrantedWay, ListCursor, ListPage,
    ObjectKind, ObjectMeta, PartPosition, PendingUploads, PutCondition, ReadGrant, Ufs, UfsError, UfsResult,
    UploadCursor, UploadId, UploadedPart,
};
use async_trait::async_trait;
use bytes::Bytes;
use list::Windows;
use read::Reader;
use root::{Found, OpenRoot, Root, RootError, UPLOADS_DIR, split, unlink};
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use turns::Turns;
use write::{Publisher, WriteError};

const PARTS_MAX: u32 = 1_000_000;

/// A directory as an under store.
#[derive(Clone, Debug)]
pub struct LocalUfs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    failures: Failures,
    root: Root,
    windows: Windows,
    publisher: Publisher,
    turns: Turns,
}

pub(crate) fn open(uri: &str, rest: &str, options: &OpenOptions) -> UfsResult<Arc<dyn Ufs>> {
    check_names(uri, options, &[])?;
    if !rest.starts_with('/') {
        return Err(invalid(
            uri,
            "the path of a directory must be absolute",
            format!("write it with three slashes: file:///{rest}"),
        ));
    }
    Ok(Arc::new(LocalUfs::new(Path::new(rest))))
}

impl LocalUfs {
    /// The store of an absolute path. Whether there is a directory shows when it is used.
    pub fn new(path: &Path) -> LocalUfs {
        LocalUfs::of(Root::new(PathBuf::from(path)))
    }

    /// The same, also when another file system is mounted there later on. For readers who know the version that they want.
    pub(crate) fn of_any_device(path: &Path) -> LocalUfs {
        LocalUfs::of(Root::of_any_device(PathBuf::from(path)))
    }

    fn of(root: Root) -> LocalUfs {
        let uri = format!("file://{}", root.path().display());
        LocalUfs {
            inner: Arc::new(Inner {
                failures: Failures::new(&uri),
                root,
                windows: Windows::default(),
                publisher: Publisher::default(),
                turns: Turns::new(),
            }),
        }
    }

    /// Runs file system calls on a thread for blocking work, with the root open.
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &[u8],
        work: impl FnOnce(&Inner, &OpenRoot, At<'_>) -> UfsResult<T> + Send + 'static,
    ) -> UfsResult<T> {
        let at = self.inner.failures.at(operation, key);
        check(at)?;
        let turn = self.inner.turns.take().await;
        let inner = Arc::clone(&self.inner);
        let key = key.to_vec();
        blocking(&self.inner.failures, move || {
            let _turn = turn;
            let at = inner.failures.at(operation, &key);
            let root = inner.root.open().map_err(|why| root_error(at, why))?;
            work(&inner, &root, at)
        })
        .await?
    }
}

/// Runs `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(failures: &Failures, work: impl FnOnce() -> T + Send + 'static) -> UfsResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(|stopped| {
        let at = failures.at("use", b"");
        at.fail(UfsError::Unavailable, format!("the work was stopped: {stopped}"), "")
    })
}

/// Checks a key, and that it does not lead into the directory for uploads.
fn check(at: At<'_>) -> UfsResult<()> {
    at.check_key()?;
    let reserved = |name: &[u8]| name == UPLOADS_DIR.as_bytes();
    if at.key().split(|byte| *byte == b'/').any(reserved) {
        return Err(at.invalid(format!("the name {UPLOADS_DIR} is reserved")));
    }
    Ok(())
}

fn root_error(at: At<'_>, why: RootError) -> UfsError {
    match why {
        RootError::System(Errno::NOENT) => at.fail(
            UfsError::RootMissing,
            "the root directory does not exist",
            "create it, or mount the file system that holds it",
        ),
        RootError::System(Errno::NOTDIR) => at.fail(UfsError::NotADirectory, "the root is not a directory", ""),
        RootError::System(errno) => error(at, errno),
        RootError::OtherDevice => at.fail(
            UfsError::Unavailable,
            "another file system is mounted at the root than before",
            "mount the file system again, or restart to accept the new one",
        ),
    }
}

/// The error of a system call.
fn error(at: At<'_>, errno: Errno) -> UfsError {
    let text = std::io::Error::from(errno).to_string();
    match errno {
        Errno::NOENT => at.not_found(),
        Errno::ACCESS | Errno::PERM => at.fail(UfsError::Denied, text, "give the user that runs forebay access to it"),
        Errno::ROFS => at.fail(UfsError::Denied, text, "mount it with --read-only"),
        Errno::ISDIR => at.fail(UfsError::IsADirectory, text, ""),
        Errno::NOTDIR => at.fail(UfsError::NotADirectory, text, ""),
        Errno::NOTEMPTY => at.fail(UfsError::NotEmpty, text, ""),
        Errno::EXIST => at.exists(),
        Errno::INVAL | Errno::NAMETOOLONG | Errno::FBIG | Errno::ILSEQ => at.invalid(text),
        Errno::LOOP | Errno::XDEV => at.fail(
            UfsError::Invalid,
            format!("{text}: links and other file systems below the root cannot be written through"),
            "mount the other file system on its own",
        ),
        Errno::NOSYS => at.fail(UfsError::Unsupported, text, "linux 5.6 or newer is needed"),
        Errno::AGAIN => at.fail(UfsError::Unavailable, "another program holds a lease on the file", "try again later"),
        Errno::NOSPC | Errno::DQUOT => at.fail(UfsError::Unavailable, text, "free some space"),
        _ => at.fail(UfsError::Unavailable, text, ""),
    }
}

fn write_error(at: At<'_>, why: WriteError) -> UfsError {
    match why {
        WriteError::System(errno) => error(at, errno),
        WriteError::Exists => at.exists(),
        WriteError::Changed(why) => at.changed(why),
        WriteError::UploadGone => at.upload_gone(),
        WriteError::BadParts(why) => at.invalid(why),
    }
}

fn found_meta(found: Found) -> Option<ObjectMeta> {
    match found {
        Found::File(stat) => Some(meta::file(&stat)),
        Found::Directory(stat) => Some(meta::directory(&stat)),
        Found::Special | Found::Nothing => None,
    }
}

/// Opens a file that must be of a version.
fn open_reader(inner: &Inner, root: &OpenRoot, at: At<'_>, expected: &Expected) -> UfsResult<Reader> {
    let file = match root.file(at.key()) {
        Ok(file) => file,
        Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Err(at.not_found()),
        Err(errno) => return Err(error(at, errno)),
    };
    let (key, expected, turns) = (at.key().to_vec(), expected.clone(), inner.turns.clone());
    let reader = Reader { file, key, expected, failures: inner.failures.clone(), turns };
    reader.check()?;
    Ok(reader)
}

#[async_trait]
impl Ufs for LocalUfs {
    fn uri(&self) -> &str {
        self.inner.failures.uri()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_rename: true,
            real_directories: true,
            atomic_put_condition: false,
            atomic_complete_condition: false,
            any_byte_names: true,
            part_len_min: 1,
            part_len_max: 1 << 40,
            parts_max: PARTS_MAX,
            put_len_max: 1 << 40,
            delete_batch: 1000,
        }
    }

    async fn check(&self, access: Access) -> UfsResult<()> {
        self.list(b"", None, 1).await?;
        if access == Access::Read {
            return Ok(());
        }
        let key = format!(".forebay-probe-{:016x}", rand::random::<u64>());
        let body = vec![Bytes::from_static(b"written by forebay to see whether it may; remove it")];
        self.put(key.as_bytes(), body, &PutCondition::IfAbsent).await?;
        let mut removed = self.delete(&[DeleteTarget::file(key)]).await?;
        removed.pop().unwrap_or(Ok(()))
    }

    async fn stat(&self, key: &[u8]) -> UfsResult<Option<ObjectMeta>> {
        self.call("stat", key, |_, root, at| {
            if at.key().is_empty() {
                let stat = root.stat().map_err(|errno| error(at, errno))?;
                return Ok(Some(meta::directory(&stat)));
            }
            let found = root.find(at.key()).map_err(|errno| error(at, errno))?;
            Ok(found_meta(found))
        })
        .await
    }

    async fn stat_object(&self, key: &[u8], kind: ObjectKind) -> UfsResult<Option<ObjectMeta>> {
        Ok(self.stat(key).await?.filter(|meta| meta.kind == kind))
    }

    async fn list(&self, directory: &[u8], from: Option<&ListCursor>, limit: usize) -> UfsResult<ListPage> {
        let from = from.cloned();
        self.call("list", directory, move |inner, root, at| {
            inner.windows.page(root, at.key(), from.as_ref(), limit).map_err(|errno| match errno {
                Errno::LOOP => at.not_found(),
                errno => error(at, errno),
            })
        })
        .await
    }

    async fn read(&self, key: &[u8], range: Range<u64>, expected: &Expected) -> UfsResult<ByteStream> {
        self.inner.failures.at("read", key).check_file_key()?;
        let expected = expected.clone();
        let wanted = range.clone();
        let reader = self
            .call("read", key, move |inner, root, at| {
                let reader = open_reader(inner, root, at, &expected)?;
                at.check_range(&wanted, expected.length)?;
                Ok(reader)
            })
            .await?;
        Ok(reader.stream(range))
    }

    async fn grant_read(&self, key: &[u8], expected: &Expected, lifetime: Duration) -> UfsResult<ReadGrant> {
        let at = self.inner.failures.at("let others read", key);
        at.check_file_key()?;
        check(at)?;
        Ok(ReadGrant {
            store: self.uri().to_owned(),
            key: Bytes::copy_from_slice(key),
            expected: expected.clone(),
            lifetime,
            way: GrantedWay::Directory(self.inner.root.path().to_owned()),
        })
    }

    async fn put(&self, key: &[u8], body: Vec<Bytes>, condition: &PutCondition) -> UfsResult<ObjectMeta> {
        self.inner.failures.at("write", key).check_file_key()?;
        let condition = condition.clone();
        self.call("write", key, move |inner, root, at| {
            inner.publisher.put(root, at.key(), &body, &condition).map_err(|why| write_error(at, why))
        })
        .await
    }

    async fn begin_upload(&self, key: &[u8]) -> UfsResult<UploadId> {
        let operation = "begin the upload of";
        self.inner.failures.at(operation, key).check_file_key()?;
        self.call(operation, key, |_, root, at| write::begin(root, at.key()).map_err(|why| write_error(at, why))).await
    }

    async fn put_part(
        &self,
        key: &[u8],
        upload: &UploadId,
        position: PartPosition,
        body: Vec<Bytes>,
    ) -> UfsResult<UploadedPart> {
        let upload = upload.clone();
        self.call("write a part of", key, move |_, root, at| {
            if !(1..=PARTS_MAX).contains(&position.number) {
                let number = position.number;
                return Err(at.invalid(format!("part number {number} is not in 1..={PARTS_MAX}")));
            }
            write::put_part(root, at.key(), &upload, position, &body).map_err(|why| write_error(at, why))
        })
        .await
    }

    async fn complete_upload(
        &self,
        key: &[u8],
        upload: &UploadId,
        parts: &[UploadedPart],
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        let operation = "complete the upload of";
        self.inner.failures.at(operation, key).check_parts(parts)?;
        let (upload, parts, condition) = (upload.clone(), parts.to_vec(), condition.clone());
        self.call(operation, key, move |inner, root, at| {
            inner.publisher.complete(root, at.key(), &upload, &parts, &condition).map_err(|why| write_error(at, why))
        })
        .await
    }

    async fn abort_upload(&self, key: &[u8], upload: &UploadId) -> UfsResult<()> {
        let upload = upload.clone();
        self.call("abort the upload of", key, move |_, root, at| {
            write::abort(root, &upload).map_err(|why| write_error(at, why))
        })
        .await
    }

    async fn list_uploads(
        &self,
        prefix: &[u8],
        from: Option<&UploadCursor>,
        limit: usize,
    ) -> UfsResult<PendingUploads> {
        let (prefix, from) = (prefix.to_vec(), from.cloned());
        self.call("list the uploads of", b"", move |_, root, at| {
            let uploads = write::uploads(root, &prefix).map_err(|why| write_error(at, why))?;
            Ok(crate::types::upload_page(uploads, from.as_ref(), limit))
        })
        .await
    }

    async fn make_directory(&self, key: &[u8]) -> UfsResult<()> {
        self.call("make the directory", key, |_, root, at| match root.make_directories(at.key()) {
            Ok(_) => Ok(()),
            Err(Errno::NOTDIR) => Err(match root.find(at.key()) {
                Ok(Found::Nothing) => error(at, Errno::NOTDIR),
                _ => at.exists(),
            }),
            Err(errno) => Err(error(at, errno)),
        })
        .await
    }

    async fn delete(&self, targets: &[DeleteTarget]) -> UfsResult<Vec<UfsResult<()>>> {
        let targets = targets.to_vec();
        self.call("delete", b"", move |inner, root, _| Ok(delete_all(&inner.failures, root, &targets))).await
    }

    async fn copy(
        &self,
        from: &[u8],
        to: &[u8],
        expected: &Expected,
        condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        check(self.inner.failures.at("copy", from))?;
        self.inner.failures.at("copy to", to).check_file_key()?;
        let (from, expected, condition) = (from.to_vec(), expected.clone(), condition.clone());
        self.call("copy to", to, move |inner, root, at| {
            let source = inner.failures.at("copy", &from);
            let reader = open_reader(inner, root, source, &expected)?;
            let copy = |file: &_| {
                copy_bytes(&reader, file)?;
                let changed = |_| WriteError::Changed("the source changed meanwhile".to_owned());
                reader.check().map_err(changed)
            };
            inner.publisher.write_whole(root, at.key(), &condition, copy).map_err(|why| write_error(at, why))
        })
        .await
    }

    async fn copy_marker(
        &self,
        from: &[u8],
        _to: &[u8],
        _expected: &Expected,
        _condition: &PutCondition,
    ) -> UfsResult<ObjectMeta> {
        let at = self.inner.failures.at("copy the mark of", from);
        Err(at.fail(UfsError::Unsupported, "directories on disk have no marks", "make the directory"))
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<()> {
        check(self.inner.failures.at("rename", from))?;
        self.inner.failures.at("rename to", to).check_file_key()?;
        let from = from.to_vec();
        self.call("rename to", to, move |inner, root, at| {
            let source = inner.failures.at("rename", &from);
            source.check_file_key()?;
            rename(root, &from, at.key()).map_err(|errno| error(at, errno))
        })
        .await
    }
}

fn rename(root: &OpenRoot, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    let (from_parent, from_name) = split(from);
    let (to_parent, to_name) = split(to);
    let from_directory = root.directory(from_parent)?;
    let to_directory = root.make_directories(to_parent)?;
    fs::renameat(&from_directory, OsStr::from_bytes(from_name), &to_directory, OsStr::from_bytes(to_name))?;
    sync::all(&to_directory)?;
    sync::all(&from_directory)
}

/// Deletes each target and makes it last; targets of one directory that follow one another share its sync.
fn delete_all(failures: &Failures, root: &OpenRoot, targets: &[DeleteTarget]) -> Vec<UfsResult<()>> {
    let mut results = Vec::with_capacity(targets.len());
    for group in targets.chunk_by(|a, b| split(&a.key).0 == split(&b.key).0) {
        let first = results.len();
        let mut changed = None;
        for target in group {
            let at = failures.at("delete", &target.key);
            results.push(delete_one(at, root, target, &mut changed));
        }
        let Some(Err(errno)) = changed.map(sync::all) else {
            continue;
        };
        for (target, result) in group.iter().zip(&mut results[first..]) {
            if result.is_ok() {
                *result = Err(error(failures.at("delete", &target.key), errno));
            }
        }
    }
    results
}

fn delete_one(at: At<'_>, root: &OpenRoot, target: &DeleteTarget, changed: &mut Option<OwnedFd>) -> UfsResult<()> {
    check(at)?;
    at.check_file_key()?;
    let (parent, name) = split(&target.key);
    let directory = match root.directory(parent) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(error(at, errno)),
    };
    if let DeleteCondition::IfTag(tag) | DeleteCondition::IfListed(tag) = &target.condition
        && target.kind == ObjectKind::File
    {
        match root.find(&target.key).map_err(|errno| error(at, errno))? {
            Found::File(stat) if meta::file(&stat).tag == *tag => {}
            Found::File(stat) => {
                return Err(at.changed(format!("its version is {}, not {tag}", meta::file(&stat).tag)));
            }
            Found::Nothing => return Ok(()),
            Found::Directory(_) | Found::Special => {
                return Err(at.changed(format!("it is no file any more; its version was {tag}")));
            }
        }
    }
    let flags = match target.kind {
        ObjectKind::File => AtFlags::empty(),
        ObjectKind::Directory => AtFlags::REMOVEDIR,
    };
    if unlink(&directory, name, flags).map_err(|errno| error(at, errno))? {
        *changed = Some(directory);
    }
    Ok(())
}

/// Copies the bytes of a file, without moving them through this process where the file system can.
fn copy_bytes(reader: &Reader, to: &OwnedFd) -> Result<(), WriteError> {
    if fs::ioctl_ficlone(to, &reader.file).is_ok() {
        return Ok(());
    }
    let mut offset = 0u64;
    while offset < reader.expected.length {
        let left = usize::try_from(reader.expected.length - offset).unwrap_or(usize::MAX);
        let (mut from_offset, mut to_offset) = (offset, offset);
        let copied =
            fs::copy_file_range(&reader.file, Some(&mut from_offset), to, Some(&mut to_offset), left.min(1 << 30));
        match copied {
            Ok(0) => break,
            Ok(count) => offset += count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_by_hand(reader, to, offset);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(reader: &Reader, to: &OwnedFd, offset: u64) -> Result<(), WriteError> {
    let mut offset = offset;
    let mut buffer = Vec::with_capacity(1 << 20);
    loop {
        buffer.clear();
        let spare = rustix::buffer::spare_capacity(&mut buffer);
        match rustix::io::pread(&reader.file, spare, offset) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                let bytes = Bytes::copy_from_slice(&buffer);
                write::write_at(to, &[bytes], offset)?;
                offset += buffer.len() as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
