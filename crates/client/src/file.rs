//! Reading files.

mod direct;
mod grants;
mod near;
pub(crate) mod opened;
mod pattern;
mod range;
mod reader;
mod stream;

use crate::client::{Client, Inner};
use crate::error::{Error, Result};
use crate::path::ToPath;
use crate::rpc::Backoff;
use crate::types::{Entry, OpenOptions, ReadType, SyncMode};
use crate::waits::{Cause, Slowness, watch};
use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use near::Near;
use opened::Opened;
use parking_lot::RwLock;
use pattern::Pattern;
use range::{RangeReader, ReadError};
use std::ops::{Range, RangeBounds};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

pub use reader::FileReader;
pub use stream::ReadStream;

/// Blocks of one positioned read that are read at the same time.
const BLOCKS_AT_ONCE: usize = 8;

/// One version of a file, open for reading. Cheap to clone; reads may run side by side.
///
/// All bytes come from the same version, for as long as the file is open. When the file changes in the meantime and the cache does not have
/// the old content any more, reads fail with `conflict`; if none of its bytes have been handed out yet, the file turns to the new version instead.
/// A worker that fails or stays silent is left for the next one without an error, and the last one for the store itself, where the mount allows it; wrong bytes
/// are noticed by their checksums and fetched again.
#[derive(Clone, Debug)]
pub struct File {
    inner: Arc<FileInner>,
}

/// What the clones of a file, its streams and readers share.
#[derive(Debug)]
pub(crate) struct FileInner {
    client: Arc<Inner>,
    path: NsPath,
    read_type: ReadType,
    opened: RwLock<Arc<Opened>>,
    /// Bytes of `opened` have been handed out: there is no turning to another version any more. Set with `opened` locked for reading,
    /// so that it cannot be exchanged at the same time.
    handed_out: AtomicBool,
    /// Held while the file turns to another version.
    turning: tokio::sync::Mutex<()>,
    pattern: Pattern,
    near: Near,
    /// Why the last request for bytes failed.
    cause: Cause,
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
        let path = path.to_path()?;
        let opened = Opened::open(&self.inner, &path, options.sync).await?;
        Ok(File {
            inner: Arc::new(FileInner {
                client: self.inner.clone(),
                path,
                read_type: options.read_type.unwrap_or(self.inner.config.read_type),
                opened: RwLock::new(Arc::new(opened)),
                handed_out: AtomicBool::new(false),
                turning: tokio::sync::Mutex::new(()),
                pattern: Pattern::default(),
                near: Near::default(),
                cause: Cause::default(),
            }),
        })
    }
}

impl File {
    /// The file as it was when it was opened.
    pub fn entry(&self) -> Arc<Entry> {
        self.inner.opened.read().entry.clone()
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
    /// `unavailable` when neither a worker nor the store itself gives the bytes within [`Deadlines::read`](crate::Deadlines::read); `conflict` (see [`File`]); `corrupt` when
    /// every worker has damaged bytes.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let left = self.len().saturating_sub(offset);
        let mut buffer = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let read = self.read_at_into(offset, &mut buffer).await?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    /// [`read_at`](File::read_at) into a buffer of the caller. Returns how many bytes were read; after an error the buffer
    /// may hold anything.
    pub async fn read_at_into(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        // Reads that never wait must still give other tasks their turn.
        tokio::task::coop::consume_budget().await;
        if let Some(length) = self.inner.read_hot(offset, buffer) {
            return Ok(length);
        }
        self.inner.watch(pin!(self.read_waiting(offset, buffer))).await
    }

    /// A read that may have to wait for workers and the store.
    async fn read_waiting(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let deadline = Instant::now() + self.inner.client.config.deadlines.read;
        let mut backoff = Backoff::new();
        loop {
            let opened = self.inner.opened();
            let length = clamp(&opened, offset, buffer.len());
            let read = self.inner.read_blocks(&opened, offset, &mut buffer[..length], deadline);
            match read.await {
                Ok(()) if self.inner.hand_out(&opened) => return Ok(length),
                Ok(()) => {}
                Err(ReadError::Final(error)) => return Err(error),
                Err(ReadError::Conflict(cause)) => {
                    self.inner.turn(&opened, cause, &mut backoff, deadline).await?;
                }
            }
        }
    }

    /// Reads a range from its start to its end, ahead of the caller: the window begins at 8 MiB (or the range) and grows up to
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
        ReadStream::new(self.clone(), range, stream::WINDOW_OF_RANGE)
    }

    /// A sequential reader with a position, for code that wants tokio's `AsyncRead` and `AsyncSeek`. It reads ahead as
    /// [`stream`](File::stream) does.
    pub fn reader(&self) -> FileReader {
        FileReader::new(self.clone())
    }
}

/// How many of `wanted` bytes at `offset` there are.
fn clamp(opened: &Opened, offset: u64, wanted: usize) -> usize {
    let left = opened.entry.length.saturating_sub(offset);
    usize::try_from(left).map_or(wanted, |left| wanted.min(left))
}

impl FileInner {
    /// Runs a read, and tells who wants to hear it when it takes long.
    async fn watch<T>(&self, work: Pin<&mut impl Future<Output = T>>) -> T {
        let config = &self.client.config;
        let what = || format!("bytes of {}", self.path);
        watch(config.on_wait.as_ref(), Slowness::Odd, config.deadlines.read, &self.cause, what, work).await
    }

    fn opened(&self) -> Arc<Opened> {
        self.opened.read().clone()
    }

    /// Notes that bytes of `opened` are given to the caller. False when the file has turned to another version: they must not be.
    fn hand_out(&self, opened: &Arc<Opened>) -> bool {
        let current = self.opened.read();
        let same = Arc::ptr_eq(&current, opened) || current.file_id() == opened.file_id();
        if same {
            self.handed_out.store(true, Ordering::Release);
        }
        same
    }

    /// After a conflict: turns to the version that the store has now, if that mixes nothing.
    async fn turn(&self, stale: &Arc<Opened>, cause: Error, backoff: &mut Backoff, deadline: Instant) -> Result<()> {
        let _turning = self.turning.lock().await;
        if !Arc::ptr_eq(&self.opened.read(), stale) {
            return Ok(());
        }
        let fresh = Opened::open(&self.client, &self.path, SyncMode::Now).await?;
        let same = fresh.file_id() == stale.file_id();
        if same {
            // The worker and the masters do not see the same: one of them is a moment behind.
            let wait = backoff.next();
            if Instant::now() + wait >= deadline {
                return Err(cause.context(format_args!("cannot read {}", self.path)));
            }
            tokio::time::sleep(wait).await;
        }
        let mut current = self.opened.write();
        if !same && self.handed_out.load(Ordering::Acquire) {
            let message = format!("{} changed while it was being read: {cause}", self.path);
            return Err(Error::new(ErrorKind::Conflict, message).with_hint("open it again"));
        }
        *current = Arc::new(fresh);
        Ok(())
    }

    /// Reads a range, its blocks side by side.
    async fn read_blocks(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        offset: u64,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<(), ReadError> {
        let read_ahead = self.pattern.note(offset, buffer.len() as u64);
        let read_ahead = read_ahead.min(self.client.config.read_ahead_max.bytes());
        let mut blocks = Vec::new();
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (_, block_end) = opened.block_at(at);
            let length = usize::try_from(block_end - at).map_or(rest.len(), |left| left.min(rest.len()));
            let (head, tail) = rest.split_at_mut(length);
            blocks.push((at, head));
            (at, rest) = (at + length as u64, tail);
        }
        if blocks.len() <= 1 {
            for (at, out) in blocks {
                self.read_block(opened, at, out, read_ahead, deadline).await?;
            }
            return Ok(());
        }
        // Boxed, and made before they are awaited: a closure over borrowed buffers inside the stream would make this future
        // one that `tokio::spawn` refuses.
        let reads: Vec<BoxFuture<'_, Result<(), ReadError>>> = blocks
            .into_iter()
            .map(|(at, out)| self.read_block(opened, at, out, read_ahead, deadline).boxed())
            .collect();
        futures::stream::iter(reads).buffer_unordered(BLOCKS_AT_ONCE).try_collect().await
    }

    async fn read_block(
        self: &Arc<Self>,
        opened: &Arc<Opened>,
        at: u64,
        out: &mut [u8],
        read_ahead: u64,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        let done = self.read_near(opened, at, out, read_ahead).await;
        if done == out.len() {
            return Ok(());
        }
        let range = at + done as u64..at + out.len() as u64;
        let mut reader = self.range(opened, range, read_ahead);
        reader.fill(&mut out[done..], deadline).await
    }

    fn range(self: &Arc<Self>, opened: &Arc<Opened>, range: Range<u64>, read_ahead: u64) -> RangeReader {
        RangeReader::new(self.clone(), opened.clone(), range, read_ahead)
    }
}
