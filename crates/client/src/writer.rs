//! Writing files.

mod give_up;
mod part;
mod write;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::path::ToPath;
use crate::types::{CreateOptions, Entry};
use bytes::{Buf, Bytes};
use forebay_base::{ByteSize, ErrorKind, NsPath};
use forebay_proto::parts::{PART_SIZE_MAX, PartSizes};
use forebay_proto::v1;
use part::{Allowance, Part, PartBytes};
use std::sync::Arc;
use tokio::task::{AbortHandle, JoinSet};
use write::Write;

/// A file that is being written, from its start to its end. It appears whole when [`close`](Writer::close) returns, or not
/// at all: dropping a writer abandons the write, and the write of a program that dies is abandoned when its lease ends.
///
/// Memory: [`ClientConfig::parts_in_flight_max`](crate::ClientConfig::parts_in_flight_max) parts of [`part_size`](Writer::part_size) bytes, and the one that is being filled; fewer when the
/// client's buffers are at their bound. A part is kept until a worker has acknowledged it; if one fails it goes to the next.
///
/// ```no_run
/// # use forebay_client::{Client, CreateOptions};
/// # async fn example(client: Client) -> forebay_client::Result<()> {
/// let options = CreateOptions { overwrite: true, parents: true, ..CreateOptions::default() };
/// let mut writer = client.create("/lake/results/today.csv", options).await?;
/// for row in 0..1000 {
///     writer.write(format!("{row},{}\n", row * row)).await?;
/// }
/// let entry = writer.close().await?;
/// assert!(entry.complete);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer {
    write: Arc<Write>,
    sizes: PartSizes,
    /// More bytes cannot be stored in as many parts as the store takes.
    length_max: u64,
    modified_ms: u64,
    written: u64,
    /// What has been taken and not been sent.
    filling: PartBytes,
    /// Parts that were sent or are under way.
    parts: u32,
    sending: JoinSet<Result<(u32, u64, String)>>,
    stored: Vec<v1::Part>,
    lease: AbortHandle,
    failed: Option<Error>,
    /// The masters know how it ended.
    ended: bool,
}

impl Client {
    /// Begins to write a file.
    ///
    /// # Errors
    /// `already_exists` unless `overwrite`; `is_a_directory`; `not_found` when the parent is missing, unless `parents`;
    /// `permission_denied` below a read-only mount.
    pub async fn create(&self, path: impl ToPath, options: CreateOptions) -> Result<Writer> {
        let path = path.to_path()?;
        let id = self.inner.begin_change().await?;
        let modified_ms = options.modified.map_or(0, |time| time.0);
        let request = create_request(&path, options, id.meta())?;
        let asked = tokio::time::Instant::now();
        let reply = self.inner.ask_within(id.left(), request);
        let reply = reply.await?;
        let write = Arc::new(Write::new(self.inner.clone(), path, &reply, asked)?);
        self.inner.workers.at_least(reply.workers_epoch).await;
        let sizes = PartSizes::new(reply.part_size);
        let length_max = match reply.parts_max {
            0 => u64::MAX,
            parts_max => sizes.length_max(parts_max),
        };
        Ok(Writer {
            lease: tokio::spawn(write.clone().keep_lease()).abort_handle(),
            write,
            sizes,
            length_max,
            modified_ms,
            written: 0,
            filling: PartBytes::new(0),
            parts: 0,
            sending: JoinSet::new(),
            stored: Vec::new(),
            failed: None,
            ended: false,
        })
    }
}

fn create_request(path: &NsPath, options: CreateOptions, meta: Option<v1::RequestMeta>) -> Result<v1::CreateRequest> {
    let page_size = options.page_size.map_or(0, |size| size.bytes());
    let page_size = u32::try_from(page_size).map_err(|_| {
        let message = format!("a page of {page_size} bytes is too large");
        Error::new(ErrorKind::InvalidArgument, message).with_hint("choose 64MiB or less")
    })?;
    Ok(v1::CreateRequest {
        meta,
        path: path.to_bytes(),
        overwrite: options.overwrite,
        parents: options.parents,
        write_type: options.write_type.to_wire(),
        owner: options.owner,
        group: options.group,
        mode: options.mode,
        block_size: options.block_size.map_or(0, |size| size.bytes()),
        page_size,
    })
}

impl Writer {
    /// The path of the file.
    pub fn path(&self) -> &NsPath {
        &self.write.path
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of the part that is being filled: the best size of one [`write`](Writer::write) is this or more.
    pub fn part_size(&self) -> u64 {
        self.sizes.len_of(self.parts + 1)
    }

    /// Says whether a file of that length can be written at all, for those who know it before.
    ///
    /// # Errors
    /// `invalid_argument` when the store cannot take it.
    pub fn check_length(&self, length: u64) -> Result<()> {
        if length <= self.length_max {
            return Ok(());
        }
        let message = format!(
            "{} cannot have {length} bytes: in parts that begin with {} the store takes {} at most",
            self.write.path,
            ByteSize(self.sizes.len_of(1)),
            ByteSize(self.length_max)
        );
        let hint = format!(
            "raise part_size of the mount or master.part_size; with {} {} can be written",
            ByteSize(PART_SIZE_MAX),
            ByteSize(PartSizes::new(PART_SIZE_MAX).length_max(10_000))
        );
        Err(Error::new(ErrorKind::InvalidArgument, message).with_hint(hint))
    }

    /// Takes the next bytes. Waits while all parts that may be in flight are. Long ones (64 KiB and more) are kept as they are until they are stored, short ones
    /// copied together.
    ///
    /// # Errors
    /// Any error is final: the write cannot be completed any more. `conflict` when somebody else changed the file in its store;
    /// `unavailable` when no worker took a part within [`Deadlines::write`](crate::Deadlines::write).
    ///
    /// # Cancellation
    /// When this future is dropped before it is ready, part of the bytes may have been taken: abandon the writer.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        let taken = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.take(bytes.into()).await,
        };
        taken.inspect_err(|error| self.failed = Some(error.clone()))
    }

    async fn take(&mut self, bytes: Bytes) -> Result<()> {
        self.check_length(self.written.saturating_add(bytes.len() as u64))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            // Only now is it known that the file is longer than this part.
            if self.filling.len() as u64 == self.part_size() {
                self.send_filled().await?;
            }
            let room = self.part_size() - self.filling.len() as u64;
            let fits = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let mut piece = rest.split_to(fits);
            while !piece.is_empty() {
                if self.filling.is_full_for(&piece) {
                    self.allow(&piece).await?;
                }
                let taken = self.filling.push(&piece);
                piece.advance(taken);
                self.written += taken as u64;
                // A caller whose bytes never make it wait has others wait for their checksums.
                tokio::task::coop::consume_budget().await;
            }
        }
        Ok(())
    }

    /// Makes room in the part that is being filled: within the client's bound, or with memory that a sent part gives back.
    async fn allow(&mut self, piece: &[u8]) -> Result<()> {
        loop {
            let allowance = match self.write.client.buffers.reserve(1) {
                Some(reserved) => Allowance::Reserved(reserved),
                None if self.sending.is_empty() => Allowance::Needed,
                None => {
                    self.wait_for_one().await?;
                    continue;
                }
            };
            self.filling.allow(&self.write.client.buffers, allowance, piece);
            return Ok(());
        }
    }

    /// Sends the part that has been filled, of a file of several parts.
    async fn send_filled(&mut self) -> Result<()> {
        if self.parts == 0 {
            self.write.start_upload().await?;
        }
        while self.sending.len() >= self.write.client.config.parts_in_flight_max.max(1) {
            self.wait_for_one().await?;
        }
        self.begin_part(false);
        Ok(())
    }

    fn begin_part(&mut self, whole: bool) {
        let (number, next) = (self.parts + 1, self.sizes.offset_of(self.parts + 2));
        let filled = std::mem::replace(&mut self.filling, PartBytes::new(next));
        let part = Part::new(number, self.sizes.offset_of(number), whole, filled);
        self.parts += 1;
        self.sending.spawn(part::send(part, self.write.clone()));
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        let Some(sent) = self.sending.join_next().await else {
            return Ok(());
        };
        let (number, length, tag) =
            sent.map_err(|error| Error::new(ErrorKind::Internal, "sending a part broke off").with_source(error))??;
        self.stored.push(v1::Part { number, length, tag });
        Ok(())
    }

    /// Sends what is left and completes the file. When this returns the under store has it.
    ///
    /// # Errors
    /// As [`write`](Writer::write); the file is then absent, or as before. Only after `deadline_exceeded` it is not known which:
    /// the masters may have completed it, but did not answer in time.
    pub async fn close(mut self) -> Result<Entry> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let whole = self.parts == 0;
        if self.filling.len() > 0 {
            match whole {
                true => self.begin_part(true),
                false => self.send_filled().await?,
            }
        }
        while !self.sending.is_empty() {
            self.wait_for_one().await?;
        }
        self.write.check_lease()?;
        let mut parts = std::mem::take(&mut self.stored);
        parts.sort_unstable_by_key(|part| part.number);
        let whole_tag = match whole {
            true => parts.pop().map(|part| part.tag).unwrap_or_default(),
            false => String::new(),
        };
        let complete = self.write.complete(self.written, parts, whole_tag, self.modified_ms);
        let reply = complete.await?;
        self.ended = true;
        Entry::at(self.write.path.clone(), reply.entry)
    }

    /// Abandons the write and waits until the masters know: nothing becomes visible. The parts under way are waited for before, for two seconds at most.
    pub async fn abandon(mut self) -> Result<()> {
        self.ended = true;
        let sending = std::mem::take(&mut self.sending);
        give_up::give_up(&self.write, sending).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lease.abort();
        if self.ended {
            return;
        }
        // Best effort: without a runtime, or when the masters do not answer, the lease ends by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (write, sending) = (self.write.clone(), std::mem::take(&mut self.sending));
            let ending = write.client.ending.begin();
            runtime.spawn(async move {
                if let Err(error) = give_up::give_up(&write, sending).await {
                    tracing::debug!(%error, path = %write.path, "write not abandoned, its lease will end");
                }
                drop(ending);
            });
        }
    }
}
