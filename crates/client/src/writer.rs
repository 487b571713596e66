//! Writing files.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::path::ToPath;
use crate::types::{CreateOptions, Entry};
use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};

/// A file that is being written, from its start to its end. It appears whole when [`close`](Writer::close) returns, or not
/// at all: dropping a writer abandons the write, and the write of a program that dies is abandoned when its lease ends.
///
/// Memory: [`ClientConfig::parts_in_flight_max`](crate::ClientConfig::parts_in_flight_max) parts of [`part_size`](Writer::part_size) bytes. A part is kept until a worker
/// has acknowledged it; if one fails it goes to the next.
#[derive(Debug)]
pub struct Writer {
    path: NsPath,
    part_size: u64,
    written: u64,
}

impl Client {
    /// Begins to write a file.
    ///
    /// # Errors
    /// `already_exists` unless `overwrite`; `is_a_directory`; `not_found` when the parent is missing, unless `parents`;
    /// `permission_denied` below a read-only mount.
    pub async fn create(&self, path: impl ToPath, options: CreateOptions) -> Result<Writer> {
        let _ = (path.to_path()?, options);
        Err(Error::new(ErrorKind::Unavailable, "create is being built"))
    }
}

impl Writer {
    /// The path of the file.
    pub fn path(&self) -> &NsPath {
        &self.path
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of a part: the best size of one [`write`](Writer::write) is this or more.
    pub fn part_size(&self) -> u64 {
        self.part_size
    }

    /// Takes the next bytes. Waits while all parts that may be in flight are.
    ///
    /// # Errors
    /// Any error is final: the write cannot be completed any more. `conflict` when somebody else changed the file in its store;
    /// `unavailable` when no worker took a part within [`Deadlines::write`](crate::Deadlines::write).
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        let _ = bytes.into();
        Err(Error::new(ErrorKind::Unavailable, "writes are being built"))
    }

    /// Sends what is left and completes the file. When this returns the under store has it.
    ///
    /// # Errors
    /// As [`write`](Writer::write); the file is then absent, or as before.
    pub async fn close(self) -> Result<Entry> {
        Err(Error::new(ErrorKind::Unavailable, "close is being built"))
    }

    /// Abandons the write and waits until the masters know: nothing becomes visible.
    pub async fn abandon(self) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "abandon is being built"))
    }
}
