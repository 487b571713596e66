//! A part of a file that is being written: its memory, and sending it until a worker has stored it.

use super::write::Write;
use crate::buffers::{Buffers, CHUNK, Chunk, Reservation};
use crate::data::fault::Fault;
use crate::data::part::send_part;
use crate::data::pool::Freshness;
use crate::error::{Error, Result};
use crate::metrics;
use crate::rpc::Backoff;
use crate::waits::{Cause, Slowness, watch};
use crate::workers::{Near, Worker};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_base::checksum::{CHECKSUM_CHUNK, Crc32c};
use forebay_proto::frame::{WritePartHead, pieces};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes handed over in pieces of this length or longer are kept as they are; shorter ones are copied together.
const KEPT_MIN: usize = 64 << 10;

/// Rounds in which each worker refuses in a way that does not pass by waiting, access to the store for one, before that is believed: a worker that has just started
/// refuses tickets whose key it has not heard of yet.
const REFUSED_ROUNDS: u32 = 2;

/// Bytes of a part that have been gathered, with the checksums of their pieces: made as they come, while they are in the CPU's cache.
pub(super) struct PartBytes {
    segments: Vec<Segment>,
    length: usize,
    /// The memory allowed for what is kept, of which `kept_room` bytes are left.
    allowances: Vec<Allowance>,
    kept_room: usize,
    checksums: Checksums,
}

enum Segment {
    /// The first bytes of a chunk of ours. Only the last chunk has room.
    Copied(Chunk, usize),
    /// The caller's own.
    Kept(Bytes),
}

/// Memory for one chunk's worth of bytes.
#[derive(Debug)]
pub(super) enum Allowance {
    Reserved(Reservation),
    /// Beyond the bound: the one that its user cannot go on without.
    Needed,
}

impl std::fmt::Debug for PartBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartBytes({} in {} segments)", self.length, self.segments.len())
    }
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Copied(chunk, length) => &chunk.as_ref()[..*length],
            Segment::Kept(bytes) => bytes,
        }
    }
}

/// One checksum for each piece of a part, cut where the file's chunks end.
struct Checksums {
    done: Vec<u32>,
    crc: Crc32c,
    /// What is missing of the piece at hand.
    left: usize,
}

impl Checksums {
    /// Of a part that begins at `offset`.
    fn new(offset: u64) -> Checksums {
        let in_chunk = (offset % CHECKSUM_CHUNK as u64) as usize;
        Checksums { done: Vec::new(), crc: Crc32c::new(), left: CHECKSUM_CHUNK - in_chunk }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (head, tail) = bytes.split_at(self.left.min(bytes.len()));
            self.crc.update(head);
            self.left -= head.len();
            bytes = tail;
            if self.left == 0 {
                self.done.push(std::mem::replace(&mut self.crc, Crc32c::new()).finalize());
                self.left = CHECKSUM_CHUNK;
            }
        }
    }

    /// Those of a part that ends here.
    fn end(mut self, offset: u64, length: usize) -> Vec<u32> {
        if self.done.len() < pieces(offset, length as u64).count() {
            self.done.push(self.crc.finalize());
        }
        self.done
    }
}

/// A part that is to be sent. It keeps its bytes until a worker has acknowledged it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) offset: u64,
    /// It is the whole file.
    pub(super) whole: bool,
    bytes: PartBytes,
    checksums: Vec<u32>,
}

impl PartBytes {
    /// Of a part that begins at `offset`; nothing yet.
    pub(super) fn new(offset: u64) -> PartBytes {
        PartBytes {
            segments: Vec::new(),
            length: 0,
            allowances: Vec::new(),
            kept_room: 0,
            checksums: Checksums::new(offset),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn chunk_room(&self) -> usize {
        match self.segments.last() {
            Some(Segment::Copied(_, length)) => CHUNK - length,
            _ => 0,
        }
    }

    fn is_to_be_kept(&self, bytes: &[u8]) -> bool {
        self.chunk_room() == 0 && bytes.len() >= KEPT_MIN
    }

    /// Whether memory is needed before more of `bytes` can be taken.
    pub(super) fn is_full_for(&self, bytes: &[u8]) -> bool {
        match self.is_to_be_kept(bytes) {
            true => self.kept_room == 0,
            false => self.chunk_room() == 0,
        }
    }

    /// Takes memory for more of `bytes`.
    pub(super) fn allow(&mut self, buffers: &Arc<Buffers>, allowance: Allowance, bytes: &[u8]) {
        if self.is_to_be_kept(bytes) {
            self.kept_room += CHUNK;
            self.allowances.push(allowance);
            return;
        }
        let chunk = match allowance {
            Allowance::Reserved(mut reserved) => reserved.take(),
            Allowance::Needed => None,
        };
        self.segments.push(Segment::Copied(chunk.unwrap_or_else(|| buffers.need()), 0));
    }

    /// Takes as many of `bytes` as there is memory for, and says how many.
    pub(super) fn push(&mut self, bytes: &Bytes) -> usize {
        let taken = match self.is_to_be_kept(bytes) {
            true => self.keep(bytes),
            false => self.copy(bytes),
        };
        self.checksums.add(&bytes[..taken]);
        self.length += taken;
        taken
    }

    fn keep(&mut self, bytes: &Bytes) -> usize {
        let taken = self.kept_room.min(bytes.len());
        self.kept_room -= taken;
        self.segments.push(Segment::Kept(bytes.slice(..taken)));
        taken
    }

    fn copy(&mut self, bytes: &[u8]) -> usize {
        let Some(Segment::Copied(chunk, length)) = self.segments.last_mut() else {
            return 0;
        };
        let room = &mut chunk.as_mut()[*length..];
        let taken = room.len().min(bytes.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        *length += taken;
        taken
    }

    fn slices(&self) -> Vec<&[u8]> {
        self.segments.iter().map(Segment::bytes).collect()
    }
}

impl Part {
    pub(super) fn new(number: u32, offset: u64, whole: bool, mut bytes: PartBytes) -> Part {
        let checksums = std::mem::replace(&mut bytes.checksums, Checksums::new(0)).end(offset, bytes.length);
        Part { number, offset, whole, bytes, checksums }
    }

    /// Sends the part to the owner of the block it starts in, or to the next worker when that one fails, until one has
    /// stored it. Returns the store's mark.
    pub(super) async fn send(&self, write: &Write) -> Result<String> {
        let (config, cause) = (&write.client.config, Cause::default());
        let what = || format!("a worker to store bytes of {}", write.path);
        let deadline = config.deadlines.write;
        watch(
            config.on_wait.as_ref(),
            Slowness::Expected,
            deadline,
            &cause,
            what,
            pin!(self.send_within(write, deadline, &cause)),
        )
        .await
    }

    async fn send_within(&self, write: &Write, deadline: Duration, cause: &Cause) -> Result<String> {
        let deadline = Instant::now() + deadline;
        let mut backoff = Backoff::new();
        let mut sending = Sending { part: self, write, renewed: false };
        let what = || format!("cannot store bytes of {} at {}", write.path, self.offset);
        let (mut last, mut refused_rounds) = (None, 0);
        loop {
            let workers = write.client.workers.table().ranked(write.block_at(self.offset), Near::Ignored).workers;
            let mut may_pass = workers.is_empty();
            for worker in workers {
                match sending.to(&worker, deadline).await {
                    Ok(tag) => return Ok(tag),
                    Err(Outcome::Final(error)) => return Err(error),
                    Err(Outcome::Late(error)) => return Err(last.map_or(error, Fault::into_error).context(what())),
                    Err(Outcome::Next(fault)) => {
                        may_pass |= fault.may_pass();
                        if !(Instant::now() >= deadline && fault.says_less_than(last.as_ref())) {
                            cause.set(fault.to_string());
                            last = Some(fault);
                        }
                    }
                }
                metrics::part_resends().increment(1);
            }
            refused_rounds = if may_pass { 0 } else { refused_rounds + 1 };
            let wait = backoff.next();
            if refused_rounds >= REFUSED_ROUNDS || Instant::now() + wait >= deadline {
                let none = || Fault::Broken("there is no live worker".to_owned());
                return Err(last.unwrap_or_else(none).into_error().context(what()));
            }
            let _ = tokio::time::timeout_at(deadline, write.client.workers.refresh()).await;
            tokio::time::sleep(wait).await;
            sending.renewed = false;
        }
    }
}

/// What to do after a worker did not store a part.
enum Outcome {
    Next(Fault),
    Final(Error),
    /// There was no time left to send it at all: what a worker said before says more.
    Late(Error),
}

fn late_or_final(error: Error) -> Outcome {
    match error.kind() {
        ErrorKind::DeadlineExceeded | ErrorKind::Unavailable => Outcome::Late(error),
        _ => Outcome::Final(error),
    }
}

/// A part on its way to one worker after the other.
struct Sending<'a> {
    part: &'a Part,
    write: &'a Write,
    /// The ticket was renewed in this round.
    renewed: bool,
}

impl Sending<'_> {
    async fn to(&mut self, worker: &Worker, deadline: Instant) -> Result<String, Outcome> {
        let mut freshness = Freshness::Any;
        loop {
            self.write.check_lease().map_err(Outcome::Final)?;
            if self.part.whole {
                self.write.make_certain(deadline).await.map_err(late_or_final)?;
            }
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
                Fault::Crowded(_) => {}
                Fault::Broken(_) | Fault::Silent(_) | Fault::Trickle { .. } | Fault::BadChecksum { .. } => {
                    let now = Instant::now();
                    if now < deadline {
                        worker.health.failed(now, fault.cost());
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
            checksums: self.part.checksums.clone(),
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
    use bytes::Buf;

    /// Hands `content` over in pieces of these lengths, in turn.
    fn gathered(buffers: &Arc<Buffers>, offset: u64, content: &[u8], lengths: &[usize]) -> Part {
        let (mut bytes, mut rest) = (PartBytes::new(offset), Bytes::copy_from_slice(content));
        let mut lengths = lengths.iter().cycle();
        while !rest.is_empty() {
            let mut piece = rest.split_to(rest.len().min(*lengths.next().unwrap()));
            while !piece.is_empty() {
                if bytes.is_full_for(&piece) {
                    let reserved = buffers.reserve(1);
                    bytes.allow(buffers, reserved.map_or(Allowance::Needed, Allowance::Reserved), &piece);
                }
                let taken = bytes.push(&piece);
                assert!(taken > 0);
                piece.advance(taken);
            }
        }
        assert_eq!(bytes.len(), content.len());
        Part::new(1, offset, false, bytes)
    }

    #[test]
    fn gathers_and_checksums_across_pieces_of_any_length() {
        let content: Vec<u8> = (0..2 * CHUNK + 777).map(|at| (at / 3) as u8).collect();
        for lengths in [&[100_000][..], &[1], &[CHUNK], &[3 * CHUNK], &[10, 200_000], &[CHUNK, 7], &[KEPT_MIN]] {
            let buffers = Buffers::new(4 * CHUNK as u64);
            let content = if lengths == [1] { &content[..50_000] } else { &content[..] };
            for offset in [0, 5, 3 * CHUNK as u64 + 16_000] {
                let part = gathered(&buffers, offset, content, lengths);
                assert!(part.bytes.slices().concat() == content, "{lengths:?} at {offset}");
                let expected = forebay_proto::frame::checksum_pieces(offset, content);
                assert_eq!(part.checksums, expected, "{lengths:?} at {offset}");
            }
            assert!(buffers.reserve(4).is_some(), "all memory is given back");
        }
    }

    #[test]
    fn what_is_kept_counts_and_mixed_pieces_take_no_more_memory_than_their_bytes() {
        let buffers = Buffers::new(4 * CHUNK as u64);
        let content = vec![7; 3 * CHUNK];
        for lengths in [&[3 * CHUNK][..], &[1, KEPT_MIN], &[KEPT_MIN, 1]] {
            let part = gathered(&buffers, 0, &content, lengths);
            assert!(buffers.reserve(2).is_none(), "{lengths:?}");
            let chunks = part.bytes.segments.iter().filter(|segment| matches!(segment, Segment::Copied(..))).count();
            assert!(chunks <= 4, "{chunks} chunks for {lengths:?}");
        }
        assert!(buffers.reserve(4).is_some());
    }
}
