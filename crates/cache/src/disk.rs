//! System calls on cached files, and in tests the faults that disks have.

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// What a system call does, for fault injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Makes a file, or writes.
    Write,
    /// Opens a file, or reads.
    Read,
}

/// Makes a file for reading and writing; an existing one is an error.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    faults::check(path, Op::Write)?;
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens an existing file for reading and writing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    faults::check(path, Op::Read)?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens an existing file for reading.
pub(crate) fn open_read_only(path: &Path) -> io::Result<File> {
    faults::check(path, Op::Read)?;
    File::open(path)
}

/// Reads all of `buf`; the end of the file before that is an error.
pub(crate) fn read_at(path: &Path, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    faults::check(path, Op::Read)?;
    file.read_exact_at(buf, offset)
}

/// Writes all of `bytes`.
pub(crate) fn write_at(path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    faults::check(path, Op::Write)?;
    file.write_all_at(bytes, offset)
}

/// Makes a file longer, without taking space.
pub(crate) fn set_len(path: &Path, file: &File, len: u64) -> io::Result<()> {
    faults::check(path, Op::Write)?;
    file.set_len(len)
}

/// Gives the space of a range back; it reads as zeros then.
pub(crate) fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, mode, range.start, range.end - range.start)?)
}

/// The next range of a file from `offset` on that may hold data; none when there is only a hole.
pub(crate) fn next_data(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(start..seek(file, SeekFrom::Hole(start))?))
}

/// Whether a file is gone already counts as removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
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
