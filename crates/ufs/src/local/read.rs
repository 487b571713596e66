//! Reading a file's range of one version: the descriptor is checked before the first byte and again before each chunk is handed over.

use super::meta;
use super::turns::Turns;
use crate::failure::Failures;
use crate::{ByteStream, Expected, UfsError, UfsResult};
use bytes::Bytes;
use futures::StreamExt;
use rustix::fd::OwnedFd;
use rustix::fs::{self, FileType};
use rustix::io::Errno;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one chunk.
const CHUNK_LEN: u64 = 1 << 20;

/// A file that is being read.
pub(super) struct Reader {
    pub(super) file: OwnedFd,
    pub(super) key: Vec<u8>,
    pub(super) expected: Expected,
    pub(super) failures: Failures,
    /// Of the store's calls that block a thread: each chunk takes one.
    pub(super) turns: Turns,
}

impl Reader {
    /// Whether the file is still the version that is wanted.
    pub(super) fn check(&self) -> UfsResult<()> {
        let at = self.failures.at("read", &self.key);
        let stat = fs::fstat(&self.file).map_err(|errno| super::error(at, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(at.fail(UfsError::IsADirectory, "it is no file", ""));
        }
        let found = meta::file(&stat);
        if found.expected() == self.expected {
            return Ok(());
        }
        Err(at.changed(format!("its version is {}, not {}", found.tag, self.expected.tag)))
    }

    /// The bytes of a range, or an error when the file has changed meanwhile. A writer in place changes the modification time before the
    /// bytes, so the check comes after the read.
    fn chunk(&self, range: Range<u64>) -> UfsResult<Bytes> {
        let at = self.failures.at("read", &self.key);
        let wanted = usize::try_from(range.end - range.start).map_err(|_| at.invalid("the range is too long"))?;
        let mut buffer = Vec::with_capacity(wanted.max(1));
        while buffer.len() < wanted {
            let offset = range.start + buffer.len() as u64;
            let spare = rustix::buffer::spare_capacity(&mut buffer);
            match rustix::io::pread(&self.file, spare, offset) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(super::error(at, errno)),
            }
        }
        buffer.truncate(wanted);
        self.check()?;
        if buffer.len() < wanted {
            return Err(at.fail(UfsError::Unavailable, "the file ended early", "read it again"));
        }
        Ok(Bytes::from(buffer))
    }

    /// The range as a stream; each chunk is read by a thread for blocking work.
    pub(super) fn stream(self, range: Range<u64>) -> ByteStream {
        let reader = Arc::new(self);
        futures::stream::try_unfold(range.start, move |start| {
            let reader = Arc::clone(&reader);
            let end = range.end;
            async move {
                if start == end {
                    return Ok(None);
                }
                let piece = start..end.min(start + CHUNK_LEN);
                let next = piece.end;
                let failures = reader.failures.clone();
                let turn = reader.turns.take().await;
                let work = move || {
                    let _turn = turn;
                    reader.chunk(piece)
                };
                let bytes = super::blocking(&failures, work).await??;
                Ok(Some((bytes, next)))
            }
        })
        .boxed()
    }
}
