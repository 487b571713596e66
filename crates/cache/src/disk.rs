//! System calls on cached files, and in tests the faults that disks have. Those that may wait for the disk are shown the [`Wait`] that counts them.

use crate::waits::Wait;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::{
    fs::{File, OpenOptions},
    io,
    num::NonZeroU64,
    ops::Range,
    os::{
        fd::BorrowedFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

/// What a system call does, for fault injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Makes a file, or writes.
    Write,
    /// Opens a file, or reads.
    Read,
    /// Gives space back.
    Punch,
}

/// Makes a file for reading and writing; an existing one is an error.
pub(crate) fn create(wait: &Wait<'_>, path: &Path) -> io::Result<File> {
    ask(wait, path, Op::Write)?;
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens an existing file for reading and writing.
pub(crate) fn open(wait: &Wait<'_>, path: &Path) -> io::Result<File> {
    ask(wait, path, Op::Read)?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens an existing file for reading.
pub(crate) fn open_read_only(wait: &Wait<'_>, path: &Path) -> io::Result<File> {
    ask(wait, path, Op::Read)?;
    File::open(path)
}

/// Reads all of `buf`; the end of the file before that is an error.
pub(crate) fn read_at(wait: &Wait<'_>, path: &Path, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    ask(wait, path, Op::Read)?;
    file.read_exact_at(buf, offset)
}

/// Like [`read_at`], of a file system that is memory ([`is_memory`]): no wait.
pub(crate) fn read_memory(path: &Path, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    faults::check(path, Op::Read)?;
    file.read_exact_at(buf, offset)
}

/// Reads all of `buf` if that needs no disk, else [`io::ErrorKind::WouldBlock`]: also where the file system cannot tell.
pub(crate) fn read_now(path: &Path, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    if hangs(path) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    faults::check(path, Op::Read)?;
    let len = buf.len();
    match preadv2(file, &mut [io::IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
        Ok(got) if got == len => Ok(()),
        // A part of it is in memory, or the file ends.
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what one call gives of `buf`: 0 at the end of the file.
pub(crate) fn read_some(wait: &Wait<'_>, path: &Path, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    ask(wait, path, Op::Read)?;
    file.read_at(buf, offset)
}

/// Tells the kernel that a range will be read. Only advice: a file system that takes none is slower, not wrong.
pub(crate) fn advise_read(wait: &Wait<'_>, file: &File, offset: u64, len: NonZeroU64) {
    wait_for_disk(wait.dir());
    let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::WillNeed);
}

/// Writes all of `bytes`.
pub(crate) fn write_at(wait: &Wait<'_>, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    ask(wait, path, Op::Write)?;
    file.write_all_at(bytes, offset)
}

/// Has the disk itself take what was written.
pub(crate) fn sync(wait: &Wait<'_>, path: &Path, file: &File) -> io::Result<()> {
    ask(wait, path, Op::Write)?;
    file.sync_data()
}

/// Makes a file longer, without taking space.
pub(crate) fn set_len(wait: &Wait<'_>, path: &Path, file: &File, len: u64) -> io::Result<()> {
    ask(wait, path, Op::Write)?;
    file.set_len(len)
}

/// The length of a file.
pub(crate) fn len(wait: &Wait<'_>, file: &File) -> io::Result<u64> {
    wait_for_disk(wait.dir());
    Ok(file.metadata()?.len())
}

/// Gives the space of a range back; it reads as zeros then.
pub(crate) fn punch(wait: &Wait<'_>, path: &Path, file: &File, range: Range<u64>) -> io::Result<()> {
    ask(wait, path, Op::Punch)?;
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, mode, range.start, range.end - range.start)?)
}

/// The next range of a file from `offset` on that may hold data; none when there is only a hole.
pub(crate) fn next_data(wait: &Wait<'_>, file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    wait_for_disk(wait.dir());
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(start..seek(file, SeekFrom::Hole(start))?))
}

/// Closes a file.
pub(crate) fn close(wait: &Wait<'_>, file: File) {
    wait_for_disk(wait.dir());
    drop(file);
}

/// Whether a file is gone already counts as removed.
pub(crate) fn remove(wait: &Wait<'_>, path: &Path) -> io::Result<()> {
    wait_for_disk(wait.dir());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether there is a file.
pub(crate) fn exists(wait: &Wait<'_>, path: &Path) -> io::Result<bool> {
    wait_for_disk(wait.dir());
    path.try_exists()
}

/// Makes a directory in one that is there.
pub(crate) fn make_dir(wait: &Wait<'_>, path: &Path) -> io::Result<()> {
    wait_for_disk(wait.dir());
    std::fs::create_dir(path)
}

/// The names in a directory, those that are UTF-8.
pub(crate) fn names_in(wait: &Wait<'_>, path: &Path) -> io::Result<Vec<String>> {
    wait_for_disk(wait.dir());
    let names = std::fs::read_dir(path)?.flatten();
    Ok(names.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// What a small file holds.
pub(crate) fn read_text(wait: &Wait<'_>, path: &Path) -> io::Result<String> {
    wait_for_disk(wait.dir());
    std::fs::read_to_string(path)
}

/// Puts a small file in the place of another.
pub(crate) fn replace(wait: &Wait<'_>, new: &Path, path: &Path, text: &str) -> io::Result<()> {
    wait_for_disk(wait.dir());
    std::fs::write(new, text)?;
    std::fs::rename(new, path)
}

/// How full the file system is.
pub(crate) fn usage(wait: &Wait<'_>, path: &Path) -> io::Result<rustix::fs::StatVfs> {
    wait_for_disk(wait.dir());
    Ok(rustix::fs::statvfs(path)?)
}

/// Whether a file system is memory, so that reading it never waits for a disk.
pub(crate) fn is_memory(wait: &Wait<'_>, path: &Path) -> io::Result<bool> {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
    const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    wait_for_disk(wait.dir());
    Ok(MEMORY.contains(&(rustix::fs::statfs(path)?.f_type as u64)))
}

/// Whether a test says that the disk does not answer.
pub(crate) fn hangs(path: &Path) -> bool {
    #[cfg(any(test, feature = "testing"))]
    return crate::testing::hangs(path);
    #[cfg(not(any(test, feature = "testing")))]
    {
        let _ = path;
        false
    }
}

/// Whether a test says that the disk of an open file does not answer: for clients, who read cached files through descriptors.
#[doc(hidden)]
pub fn hangs_under(file: BorrowedFd<'_>) -> bool {
    #[cfg(any(test, feature = "testing"))]
    return crate::testing::hangs_under(file);
    #[cfg(not(any(test, feature = "testing")))]
    {
        let _ = file;
        false
    }
}

/// Where a test says that the disk of an open file does not answer, this does not return.
#[doc(hidden)]
pub fn wait_under(file: BorrowedFd<'_>) {
    #[cfg(any(test, feature = "testing"))]
    crate::testing::wait_under(file);
    #[cfg(not(any(test, feature = "testing")))]
    let _ = file;
}

fn ask(wait: &Wait<'_>, path: &Path, op: Op) -> io::Result<()> {
    wait_for_disk(wait.dir());
    faults::check(path, op)
}

/// Where a test says that the disk does not answer, this does not return.
pub(crate) fn wait_for_disk(path: &Path) {
    #[cfg(any(test, feature = "testing"))]
    crate::testing::wait_while_it_hangs(path);
    #[cfg(not(any(test, feature = "testing")))]
    let _ = path;
}

/// Faults that a test asked for, by directory.
#[cfg(test)]
pub(crate) mod faults {
    use super::{Op, Path, io};
    use parking_lot::Mutex;
    use std::path::PathBuf;

    static FAULTS: Mutex<Vec<(PathBuf, Op, i32)>> = Mutex::new(Vec::new());

    /// From now on `op` below `dir` fails with this error number.
    pub(crate) fn set(dir: &Path, op: Op, errno: i32) {
        FAULTS.lock().push((dir.to_owned(), op, errno));
    }

    /// The disk works again.
    pub(crate) fn clear(dir: &Path) {
        FAULTS.lock().retain(|fault| fault.0 != dir);
    }

    pub(crate) fn check(path: &Path, op: Op) -> io::Result<()> {
        let faults = FAULTS.lock();
        let fault = faults.iter().find(|fault| fault.1 == op && path.starts_with(&fault.0));
        fault.map_or(Ok(()), |fault| Err(io::Error::from_raw_os_error(fault.2)))
    }
}

#[cfg(not(test))]
mod faults {
    #[inline(always)]
    pub(super) fn check(_: &std::path::Path, _: super::Op) -> std::io::Result<()> {
        Ok(())
    }
}
