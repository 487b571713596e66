//! What the kernel asks, as it comes through FUSE, and what the tree answers.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::PAGE;
use super::file::{Change, FileData};
use super::names::NodeId;
use super::tree::{Attributes, Directory, Kind, Result, Tree};

/// The kernel may believe what it was told: nobody else changes anything.
const TRUST: Duration = Duration::from_secs(3600);
/// Bytes of one request to write.
const WRITE_BYTES_MAX: u32 = 1 << 20;
const BLOCK: u64 = 512;

/// The tree, and the disk below it, as all mounts of one file system share them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tree: Tree,
    /// Changes and syncs asked for so far.
    pub(super) changes: u64,
    /// The disk is gone from this one on.
    pub(super) unplug_at: Option<u64>,
}

impl Shared {
    pub(super) fn is_unplugged(&self) -> bool {
        self.unplug_at.is_some_and(|at| self.changes >= at)
    }
}

/// An entry of a directory.
type Listed = (NodeId, FileType, OsString);

/// One mount.
pub(super) struct Door {
    shared: Arc<Mutex<Shared>>,
    /// What those see that list a directory: as it was when they opened it.
    listings: Mutex<HashMap<u64, Vec<Listed>>>,
}

impl Door {
    pub(super) fn new(shared: Arc<Mutex<Shared>>) -> Door {
        Door { shared, listings: Mutex::new(HashMap::new()) }
    }

    fn read<T>(&self, work: impl FnOnce(&mut Tree) -> Result<T>) -> std::result::Result<T, Errno> {
        work(&mut lock(&self.shared).tree).map_err(Errno::from_i32)
    }

    /// Changes and syncs: they fail once the disk is gone.
    fn change<T>(&self, work: impl FnOnce(&mut Tree) -> Result<T>) -> std::result::Result<T, Errno> {
        let mut shared = lock(&self.shared);
        if shared.is_unplugged() {
            return Err(Errno::EIO);
        }
        shared.changes += 1;
        work(&mut shared.tree).map_err(Errno::from_i32)
    }

    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        kind: Kind,
        mode: u32,
    ) -> std::result::Result<FileAttr, Errno> {
        let attributes = Attributes {
            mode: (mode & 0o7777) as u16,
            uid: request.uid(),
            gid: request.gid(),
            modified: SystemTime::now(),
        };
        self.change(|tree| {
            let id = tree.make(parent.0, name, kind, attributes)?;
            attributes_of(tree, id)
        })
    }
}

/// What is behind the lock is whole between any two statements: a panic elsewhere says nothing about it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attributes_of(tree: &mut Tree, id: NodeId) -> Result<FileAttr> {
    let node = tree.node(id)?;
    let Attributes { mode, uid, gid, modified } = node.attributes;
    let (kind, size, blocks) = match &node.kind {
        Kind::File(file) => {
            (FileType::RegularFile, file.current().len(), file.current().stored_pages() * (PAGE / BLOCK))
        }
        Kind::Directory(directory) => (FileType::Directory, directory.names.len() as u64 + 2, 0),
        Kind::Link(target) => (FileType::Symlink, target.as_os_str().len() as u64, 0),
        Kind::Socket => (FileType::Socket, 0, 0),
    };
    let nlink = if kind == FileType::Directory { 2 } else { node.links };
    Ok(FileAttr {
        ino: INodeNo(id),
        size,
        blocks,
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind,
        perm: mode,
        nlink,
        uid,
        gid,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    })
}

fn listing(tree: &Tree, id: NodeId) -> Result<Vec<Listed>> {
    let directory = tree.directory(id)?;
    let dots = [(id, FileType::Directory, ".".into()), (directory.parent, FileType::Directory, "..".into())];
    let entry = |(name, id): (&OsString, &NodeId)| {
        let kind = match tree.node(*id)?.kind {
            Kind::File(_) => FileType::RegularFile,
            Kind::Directory(_) => FileType::Directory,
            Kind::Link(_) => FileType::Symlink,
            Kind::Socket => FileType::Socket,
        };
        Ok((*id, kind, name.clone()))
    };
    dots.into_iter().map(Ok).chain(directory.names.iter().map(entry)).collect()
}

fn end_of(offset: u64, length: u64) -> Result<u64> {
    offset.checked_add(length).filter(|end| i64::try_from(*end).is_ok()).ok_or(libc::EFBIG)
}

/// Sends what came out, or the error.
macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:pat => $sent:expr) => {
        match $outcome {
            Ok($value) => $sent,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Door {
    /// Without the write-back cache each write(2) is here when it returns; locks are the kernel's own.
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS;
        // Where the kernel cannot, it asks for one thing at a time.
        let _ = config.add_capabilities(config.capabilities() & wanted);
        config.set_max_write(WRITE_BYTES_MAX).map(drop).map_err(|_| io::Error::other("1 MiB is a size for writes"))
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.read(|tree| {
            let id = tree.lookup(parent.0, name)?;
            attributes_of(tree, id)
        });
        answer!(reply, found, attributes => reply.entry(&TRUST, &attributes, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.read(|tree| attributes_of(tree, ino.0)), attributes => reply.attr(&TRUST, &attributes));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.change(|tree| {
            if let Some(size) = size {
                tree.change(ino.0, Change::SetLen(end_of(size, 0)?))?;
            }
            tree.set_attributes(ino.0, |attributes| {
                attributes.mode = mode.map_or(attributes.mode, |mode| (mode & 0o7777) as u16);
                attributes.uid = uid.unwrap_or(attributes.uid);
                attributes.gid = gid.unwrap_or(attributes.gid);
                match modified {
                    Some(TimeOrNow::SpecificTime(time)) => attributes.modified = time,
                    Some(TimeOrNow::Now) => attributes.modified = SystemTime::now(),
                    None => {}
                }
            })?;
            attributes_of(tree, ino.0)
        });
        answer!(reply, set, attributes => reply.attr(&TRUST, &attributes));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.read(|tree| match &tree.node(ino.0)?.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(libc::EINVAL),
        });
        answer!(reply, target, target => reply.data(target.as_os_str().as_encoded_bytes()));
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG => Kind::File(FileData::default()),
            libc::S_IFSOCK => Kind::Socket,
            _ => return reply.error(Errno::EPERM),
        };
        let made = self.make(request, parent, name, kind, mode);
        answer!(reply, made, attributes => reply.entry(&TRUST, &attributes, Generation(0)));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let kind = Kind::Directory(Directory::default());
        let made = self.make(request, parent, name, kind, mode);
        answer!(reply, made, attributes => reply.entry(&TRUST, &attributes, Generation(0)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.make(request, parent, name, Kind::Link(target.to_owned()), 0o777);
        answer!(reply, made, attributes => reply.entry(&TRUST, &attributes, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.change(|tree| tree.unlink(parent.0, name)), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.change(|tree| tree.remove_directory(parent.0, name)), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.change(|tree| {
            if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
                return Err(libc::EINVAL);
            }
            let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
            tree.rename((parent.0, name), (new_parent.0, new_name), replace)
        });
        answer!(reply, renamed, () => reply.ok());
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.change(|tree| {
            tree.link(ino.0, parent.0, name)?;
            attributes_of(tree, ino.0)
        });
        answer!(reply, linked, attributes => reply.entry(&TRUST, &attributes, Generation(0)));
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let made = self.make(request, parent, name, Kind::File(FileData::default()), mode).and_then(|attributes| {
            self.read(|tree| tree.opened(attributes.ino.0))?;
            Ok(attributes)
        });
        let flags = FopenFlags::FOPEN_KEEP_CACHE;
        answer!(reply, made, attributes => reply.created(&TRUST, &attributes, Generation(0), FileHandle(0), flags));
    }

    /// What the kernel has in memory it has from here.
    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.read(|tree| tree.opened(ino.0));
        answer!(reply, opened, () => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.shared).tree.closed(ino.0);
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let bytes = self.read(|tree| Ok(tree.file(ino.0)?.current().read(offset..end_of(offset, size.into())?)));
        answer!(reply, bytes, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.change(|tree| {
            end_of(offset, data.len() as u64)?;
            tree.change(ino.0, Change::Write { offset, bytes: data.to_vec() })
        });
        answer!(reply, written, () => reply.written(data.len() as u32));
    }

    /// A close is no sync.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        answer!(reply, self.change(|tree| tree.sync_file(ino.0, data_only)), () => reply.ok());
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.read(|tree| {
            tree.opened(ino.0)?;
            listing(tree, ino.0)
        });
        answer!(reply, opened, entries => {
            let mut listings = lock(&self.listings);
            let handle = (1..).find(|handle| !listings.contains_key(handle)).expect("there are numbers enough");
            listings.insert(handle, entries);
            reply.opened(FileHandle(handle), FopenFlags::empty());
        });
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = lock(&self.listings);
        let Some(entries) = listings.get(&handle.0) else { return reply.error(Errno::EBADF) };
        for (at, (id, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*id), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        lock(&self.listings).remove(&handle.0);
        lock(&self.shared).tree.closed(ino.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.change(|tree| tree.sync_directory(ino.0)), () => reply.ok());
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (all, used) = lock(&self.shared).tree.space();
        let free = all.saturating_sub(used);
        reply.statfs(all, free, free, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let done = self.change(|tree| {
            let end = end_of(offset, length)?;
            match mode {
                0 => tree.change(ino.0, Change::Grow(end)),
                // Space that is promised is no content.
                libc::FALLOC_FL_KEEP_SIZE => tree.file(ino.0).map(drop),
                PUNCH => tree.change(ino.0, Change::Punch(offset..end)),
                _ => Err(libc::EOPNOTSUPP),
            }
        });
        answer!(reply, done, () => reply.ok());
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let found = self.read(|tree| {
            let content = tree.file(ino.0)?.current();
            let offset = u64::try_from(offset).ok().filter(|offset| *offset < content.len()).ok_or(libc::ENXIO)?;
            match whence {
                libc::SEEK_DATA => content.next_data(offset).ok_or(libc::ENXIO),
                libc::SEEK_HOLE => Ok(content.next_hole(offset)),
                _ => Err(libc::EINVAL),
            }
        });
        answer!(reply, found, offset => reply.offset(offset as i64));
    }
}
