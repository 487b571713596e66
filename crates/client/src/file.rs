//! Reading files.

mod reader;
mod stream;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::path::ToPath;
use crate::types::{Entry, OpenOptions};
use bytes::Bytes;
use forebay_base::ErrorKind;
use std::ops::RangeBounds;
use std::sync::Arc;

pub use reader::FileReader;
pub use stream::ReadStream;

/// One version of a file, open for reading. Cheap to clone; reads may run side by side.
///
/// All bytes come from the same version, for as long as the file is open. When the file changes in the meantime and the cache does not have
/// the old content any more, reads fail with `conflict`; if none of its bytes have been handed out yet, the file turns to the new version instead.
/// A worker that fails or stays silent is left for the next one without an error; wrong bytes are noticed by their checksums and
/// fetched again.
#[derive(Clone, Debug)]
pub struct File {
    entry: Arc<Entry>,
}

impl Client {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// `not_found`; `is_a_directory`.
    pub async fn open(&self, path: impl ToPath) -> Result<File> {
        self.open_with(path, OpenOptions::default()).await
    }

    /// [`open`](Client::open) with choices.
    pub async fn open_with(&self, path: impl ToPath, options: OpenOptions) -> Result<File> {
        let _ = (path.to_path()?, options);
        Err(Error::new(ErrorKind::Unavailable, "open is being built"))
    }
}

impl File {
    /// The file as it was when it was opened.
    pub fn entry(&self) -> Arc<Entry> {
        self.entry.clone()
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.entry().length
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `length` bytes at `offset`; fewer only where the file ends, none past its end. The range may span blocks,
    /// which are then read in parallel.
    ///
    /// # Errors
    /// `unavailable` when no worker answers within [`Deadlines::read`](crate::Deadlines::read); `conflict` (see [`File`]); `corrupt` when
    /// every worker has damaged bytes.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut buffer = vec![0; length];
        let read = self.read_at_into(offset, &mut buffer).await?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    /// [`read_at`](File::read_at) into a buffer of the caller. Returns how many bytes were read; after an error the buffer
    /// may hold anything.
    pub async fn read_at_into(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let _ = (offset, buffer);
        Err(Error::new(ErrorKind::Unavailable, "reads are being built"))
    }

    /// Reads a range from its start to its end, ahead of the caller: the window grows up to
    /// [`ClientConfig::read_ahead_max`](crate::ClientConfig::read_ahead_max), with several requests under way at several workers.
    ///
    /// ```no_run
    /// # use futures::TryStreamExt;
    /// # async fn example(file: forebay_client::File) -> forebay_client::Result<()> {
    /// let mut chunks = file.stream(..);
    /// while let Some(chunk) = chunks.try_next().await? {
    ///     println!("{} bytes", chunk.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&self, range: impl RangeBounds<u64>) -> ReadStream {
        ReadStream::new(self.clone(), range)
    }

    /// A sequential reader with a position, for code that wants tokio's `AsyncRead` and `AsyncSeek`. It reads ahead as
    /// [`stream`](File::stream) does.
    pub fn reader(&self) -> FileReader {
        FileReader::new(self.clone())
    }
}
