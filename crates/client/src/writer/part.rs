//! A part of a file that is being written: its memory, and sending it until a worker has stored it.

use super::write::Write;
use crate::buffers::{CHUNK, Chunk};
use crate::data::fault::Fault;
use crate::data::part::send_part;
use crate::data::pool::Freshness;
use crate::error::{Error, Result};
use crate::metrics;
use crate::rpc::Backoff;
use crate::workers::{Near, Worker};
use forebay_base::ErrorKind;
use forebay_base::checksum::Crc32c;
use forebay_proto::frame::{WritePartHead, pieces};
use std::sync::Arc;
use tokio::time::Instant;

/// Bytes of a part that have been gathered.
#[derive(Debug, Default)]
pub(super) struct PartBytes {
    /// All full but the last.
    chunks: Vec<Chunk>,
    length: usize,
}

/// A part that is to be sent. It keeps its bytes until a worker has acknowledged it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) offset: u64,
    /// It is the whole file.
    pub(super) whole: bool,
    pub(super) bytes: PartBytes,
}

impl PartBytes {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Whether a further chunk is needed before more bytes fit.
    pub(super) fn is_full(&self) -> bool {
        self.length == self.chunks.len() * CHUNK
    }

    pub(super) fn add_chunk(&mut self, chunk: Chunk) {
        debug_assert!(self.is_full());
        self.chunks.push(chunk);
    }

    /// Copies as many of `bytes` as fit into the last chunk, and says how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        if self.is_full() {
            return 0;
        }
        let at = self.length % CHUNK;
        let chunk = self.chunks.last_mut().expect("not full, so there is one");
        let room = &mut chunk.as_mut()[at..];
        let taken = room.len().min(bytes.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
        taken
    }

    fn slices(&self) -> Vec<&[u8]> {
        let mut left = self.length;
        let slices = self.chunks.iter().map(|chunk| {
            let length = left.min(CHUNK);
            left -= length;
            &chunk.as_ref()[..length]
        });
        slices.collect()
    }
}

impl Part {
    /// Sends the part to the owner of the block it starts in, or to the next worker when that one fails, until one has
    /// stored it. Returns the store's mark.
    pub(super) async fn send(&self, write: &Write) -> Result<String> {
        let deadline = Instant::now() + write.client.config.deadlines.write;
        let mut backoff = Backoff::new();
        let mut sending = Sending { part: self, write, checksums: self.checksums(), renewed: false };
        loop {
            let table = write.client.workers.table();
            let mut last = Fault::Broken("there is no live worker".to_owned());
            for worker in table.ranked(write.block_at(self.offset), Near::Ignored) {
                match sending.to(&worker, deadline).await {
                    Ok(tag) => return Ok(tag),
                    Err(Outcome::Final(error)) => return Err(error),
                    Err(Outcome::Next(fault)) => last = fault,
                }
                metrics::part_resends().increment(1);
            }
            let wait = backoff.next();
            if Instant::now() + wait >= deadline {
                let what = format!("cannot store bytes of {} at {}", write.path, self.offset);
                return Err(last.into_error().context(what));
            }
            let _ = tokio::time::timeout_at(deadline, write.client.workers.refresh()).await;
            tokio::time::sleep(wait).await;
            sending.renewed = false;
        }
    }

    /// One checksum for each piece, also where a piece lies in two chunks.
    fn checksums(&self) -> Vec<u32> {
        let slices = self.bytes.slices();
        let mut slices = slices.into_iter();
        let mut slice: &[u8] = &[];
        let checksum = |mut left: usize| {
            let mut crc = Crc32c::new();
            while left > 0 {
                if slice.is_empty() {
                    slice = slices.next().expect("slices are as long as the part");
                }
                let (head, tail) = slice.split_at(left.min(slice.len()));
                crc.update(head);
                left -= head.len();
                slice = tail;
            }
            crc.finalize()
        };
        pieces(self.offset, self.bytes.len() as u64).map(checksum).collect()
    }
}

/// What to do after a worker did not store a part.
enum Outcome {
    Next(Fault),
    Final(Error),
}

/// A part on its way to one worker after the other.
struct Sending<'a> {
    part: &'a Part,
    write: &'a Write,
    checksums: Vec<u32>,
    /// The ticket was renewed in this round.
    renewed: bool,
}

impl Sending<'_> {
    async fn to(&mut self, worker: &Worker, deadline: Instant) -> Result<String, Outcome> {
        let mut freshness = Freshness::Any;
        loop {
            self.write.check_lease().map_err(Outcome::Final)?;
            let ticket = self.write.ticket();
            let (fault, may_be_stale) = match self.once(worker, freshness, &ticket, deadline).await {
                Ok(tag) => {
                    worker.health.succeeded();
                    return Ok(tag);
                }
                Err(failed) => failed,
            };
            match &fault {
                Fault::Broken(_) if may_be_stale && freshness == Freshness::Any => {
                    freshness = Freshness::New;
                    continue;
                }
                Fault::Refused(error) if error.kind == ErrorKind::PermissionDenied && !self.renewed => {
                    self.renewed = true;
                    let renewed = self.write.renew_ticket(&ticket).await;
                    renewed.map_err(Outcome::Final)?;
                    continue;
                }
                Fault::Refused(error) => match error.kind {
                    ErrorKind::Unavailable
                    | ErrorKind::DeadlineExceeded
                    | ErrorKind::Internal
                    | ErrorKind::Corrupt
                    | ErrorKind::PermissionDenied => {}
                    _ => return Err(Outcome::Final(fault.into_error())),
                },
                Fault::Broken(_) | Fault::Silent(_) | Fault::BadChecksum { .. } => {
                    let now = Instant::now();
                    if now < deadline {
                        worker.health.failed(now);
                    }
                    self.write.client.workers.refresh_in_background();
                }
            }
            tracing::debug!(worker = %worker.info.data, %fault, part = self.part.number, "part goes on to the next worker");
            return Err(Outcome::Next(fault));
        }
    }

    /// Sends the part once. With a fault comes whether the connection may just have been idle for too long.
    async fn once(
        &self,
        worker: &Worker,
        freshness: Freshness,
        ticket: &bytes::Bytes,
        deadline: Instant,
    ) -> Result<String, (Fault, bool)> {
        let left = deadline.saturating_duration_since(Instant::now());
        // More than for reads: what is sent twice is stored twice.
        let patience = self.write.client.config.deadlines.worker_silence.saturating_mul(5).min(left);
        let connection = worker.pool.get(freshness, patience).await;
        let mut connection = connection.map_err(|fault| (fault, false))?;
        let used_before = connection.used_before;
        let head = WritePartHead {
            ticket: ticket.clone(),
            number: self.part.number,
            offset: self.part.offset,
            whole: self.part.whole,
            checksums: self.checksums.clone(),
        };
        let slices = self.part.bytes.slices();
        let sent = send_part(&mut connection, &head, &slices, patience);
        let sent = tokio::time::timeout_at(deadline, sent).await.unwrap_or(Err(Fault::Silent(left)));
        sent.map_err(|fault| (fault, used_before))
    }
}

/// Keeps `Arc` in the signature of tasks short.
pub(super) async fn send(part: Part, write: Arc<Write>) -> Result<(u32, u64, String)> {
    let tag = part.send(&write).await?;
    metrics::written_bytes().increment(part.bytes.len() as u64);
    Ok((part.number, part.bytes.len() as u64, tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;

    #[test]
    fn gathers_and_checksums_across_chunks() {
        let buffers = Buffers::new(4 * CHUNK as u64);
        let content: Vec<u8> = (0..2 * CHUNK + 777).map(|at| (at / 3) as u8).collect();
        let mut bytes = PartBytes::default();
        let mut rest = &content[..];
        while !rest.is_empty() {
            if bytes.is_full() {
                bytes.add_chunk(buffers.need());
            }
            let taken = bytes.push(&rest[..rest.len().min(100_000)]);
            rest = &rest[taken..];
        }
        assert_eq!(bytes.slices().concat(), content);
        for offset in [0, 5, 3 * CHUNK as u64 + 16_000] {
            let part = Part { number: 1, offset, whole: false, bytes };
            assert_eq!(part.checksums(), forebay_proto::frame::checksum_pieces(offset, &content));
            bytes = part.bytes;
        }
    }
}
