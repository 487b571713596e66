//! Bringing to the disk, one place for all of it, so that tests see what was brought there and in which order.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// The bytes of a file, and what is needed to find them again.
pub(super) fn data(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fdatasync(&file)?;
    log::note(file)
}

/// A file with all its attributes, or the names in a directory.
pub(super) fn all(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fsync(&file)?;
    log::note(file)
}

/// The inodes that this thread has synced.
#[cfg(test)]
pub(super) mod log {
    use super::{AsFd, Errno};
    use std::cell::RefCell;

    thread_local! {
        static SYNCED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(file: impl AsFd) -> Result<(), Errno> {
        let inode = rustix::fs::fstat(file)?.st_ino;
        SYNCED.with_borrow_mut(|synced| synced.push(inode));
        Ok(())
    }

    /// What was synced since this was asked last.
    pub(in crate::local) fn take() -> Vec<u64> {
        SYNCED.take()
    }
}

#[cfg(not(test))]
mod log {
    pub(super) fn note(_: impl super::AsFd) -> Result<(), super::Errno> {
        Ok(())
    }
}
