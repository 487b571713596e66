//! A file system that loses what was not synced when the power is cut: for tests of processes that say that what they acknowledged is on disk.
//!
//! `forebay-lossyfs DIRECTORY` mounts it there by FUSE and takes orders from standard input, one a line, each answered by a line on
//! standard output ([`orders`]). It lies in memory and goes with this process. For each file it knows what readers see and what the disk has, for
//! each directory the same of its names. The promise is that of POSIX and no more:
//!
//! - Written, cut, grown or punched bytes are durable after fsync(2) or fdatasync(2) of the file; nothing else makes them so, neither
//!   close(2) nor sync_file_range(2) nor syncfs(2), which FUSE does not pass on.
//! - Names (made, linked, renamed, removed) are durable after fsync(2) of their directory. A file that was synced and whose directory was
//!   not may be gone: ext4 and XFS keep it in practice, and RocksDB and Forebay do without that.
//! - A rename is whole or not at all, between two directories too, and durable after a sync of either: so do all file systems with a journal.
//! - Mode and owner are durable after fsync(2), not after fdatasync(2).
//!
//! What a power cut leaves of the rest follows from its seed ([`loss`]): nothing, all, what came before some moment, or anything whatever
//! came before it, each sector of 512 bytes and each name for itself, a length perhaps without its bytes. A sector is written whole or not at all.
//!
//! Writes come here at once: there is no write-back cache in the kernel. The exception is memory that is mapped shared and written to, which comes
//! with msync(2), fsync(2) or at the unmounting, as late as on other file systems; neither RocksDB nor Forebay writes so. Locks are the kernel's.
//! Extended attributes and `RENAME_EXCHANGE` there are not.
//!
//! A crate and a program of its own: what it needs (fuser) wants `libc` with other features than all else does, and every crate of the
//! workspace would be compiled twice.

mod content;
mod door;
mod file;
mod loss;
mod mount;
mod names;
mod orders;
mod tree;

use anyhow::{Context, Result};
use std::path::PathBuf;

fn main() -> Result<()> {
    let point = std::env::args_os().nth(1).map(PathBuf::from).context("usage: forebay-lossyfs DIRECTORY")?;
    orders::serve(&point)
}
