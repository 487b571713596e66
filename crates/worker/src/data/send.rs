//! Sending cached ranges: small ones in one write, large ones by `sendfile`, never waiting for a disk on the reactor.

use crate::data::read::{Ended, Failure};
use crate::data::reply::Reply;
use crate::data::resident::is_resident;
use crate::data::socket::in_time;
use crate::error::{ConnectionError, RequestError};
use crate::file::TicketFile;
use crate::node::{Node, permits_for};
use forebay_base::checksum::CHECKSUM_CHUNK;
use forebay_cache::PinnedRange;
use forebay_proto::frame::checksum_pieces;
use std::ops::Range;
use std::sync::Arc;

/// Ranges up to here are copied and go out with their head and the end of the answer in one write: cheaper than the six calls around a `sendfile`.
const SMALL_LEN: u64 = 128 << 10;
/// Larger ones are sent in such steps, each asked for in the page cache before.
const STEP_LEN: u64 = 1 << 20;
/// How far the kernel is told to read ahead of a cold step.
const COLD_AHEAD_LEN: u64 = 8 << 20;

/// Sends a cached range as one data frame, and the end of the answer (`hit`, `missed`) with it if that fits. None when the range is damaged and nothing has been sent.
pub(crate) async fn cached(
    reply: &mut Reply<'_>,
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    pinned: PinnedRange,
    end: Option<(u64, u64)>,
) -> Result<Option<Ended>, Failure> {
    let range = pinned.range();
    if range.end - range.start <= SMALL_LEN {
        return small(reply, node, pinned, end).await;
    }
    large(reply, node, file, pinned).await
}

async fn small(
    reply: &mut Reply<'_>,
    node: &Arc<Node>,
    pinned: PinnedRange,
    end: Option<(u64, u64)>,
) -> Result<Option<Ended>, Failure> {
    let range = pinned.range();
    let (body, _memory) = match is_resident(&pinned, &whole_chunks(&range)) {
        true => (read_small(&pinned), None),
        false => {
            let memory = memory(node, SMALL_LEN).await?;
            let body = on_waiting_thread(move || read_small(&pinned)).await?;
            (body, Some(memory))
        }
    };
    let Some(body) = body else {
        return Ok(None);
    };
    let checksums = checksum_pieces(range.start, &body);
    reply.data_with_end(range.start, &body, checksums, end).await.map_err(Failure::Connection)?;
    Ok(Some(match end {
        Some(_) => Ended::Sent,
        None => Ended::Unsent,
    }))
}

/// The range, checked; none when it is damaged.
fn read_small(pinned: &PinnedRange) -> Option<Vec<u8>> {
    let range = pinned.range();
    let mut body = vec![0; (range.end - range.start) as usize];
    pinned.read_verified(range.start, &mut body).ok()?;
    Some(body)
}

async fn large(
    reply: &mut Reply<'_>,
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    pinned: PinnedRange,
) -> Result<Option<Ended>, Failure> {
    let range = pinned.range();
    let (pinned, checksums) = match ends_are_resident(&pinned, &range) {
        true => {
            let checksums = pinned.piece_checksums();
            (pinned, checksums)
        }
        false => {
            on_waiting_thread(move || {
                let checksums = pinned.piece_checksums();
                (pinned, checksums)
            })
            .await?
        }
    };
    let Ok(checksums) = checksums else {
        return Ok(None);
    };
    let head = reply.data_head(range.start, range.end - range.start, checksums);
    reply.connection.send_more(&head).await.map_err(Failure::Connection)?;
    let pinned = Arc::new(pinned);
    let mut at = range.start;
    while at < range.end {
        let step = at..(at + STEP_LEN).min(range.end);
        at = step.end;
        send_step(reply, node, file, &pinned, step).await?;
    }
    Ok(Some(Ended::Unsent))
}

/// The chunks that are cut by the range's ends are read for its checksums.
fn ends_are_resident(pinned: &PinnedRange, range: &Range<u64>) -> bool {
    let whole = whole_chunks(range);
    let chunk = CHECKSUM_CHUNK as u64;
    let cut_start = whole.start < range.start;
    let cut_end = whole.end > range.end;
    (!cut_start || is_resident(pinned, &(whole.start..whole.start + chunk)))
        && (!cut_end || is_resident(pinned, &(whole.end - chunk..range.end)))
}

/// The range and the rest of the chunks that it cuts. Past the end of the file there is nothing to wait for.
fn whole_chunks(range: &Range<u64>) -> Range<u64> {
    let chunk = CHECKSUM_CHUNK as u64;
    range.start / chunk * chunk..range.end.next_multiple_of(chunk)
}

/// Sends a part of a frame's body. The frame has begun: it ends whole or the connection does.
async fn send_step(
    reply: &mut Reply<'_>,
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    pinned: &Arc<PinnedRange>,
    step: Range<u64>,
) -> Result<(), Failure> {
    let len = step.end - step.start;
    let sent = if is_resident(pinned, &step) {
        reply.connection.send_file(pinned.fd(), step.clone()).await
    } else {
        let _memory = memory(node, len).await?;
        let pinned = pinned.clone();
        let bytes = on_waiting_thread(move || read_cold(&pinned, step)).await?;
        let sent = in_time(len, node.limits.time_for_body(len), reply.connection.send(&bytes));
        sent.await.map(|()| bytes.len() as u64)
    };
    match sent {
        Ok(sent) if sent == len => Ok(()),
        Ok(_) => Err(Failure::Connection(ConnectionError::Source(file.id))),
        Err(error) => Err(Failure::Connection(error)),
    }
}

/// Reads a part of the range from the disk, as much as there is, and tells the kernel what comes next.
fn read_cold(pinned: &PinnedRange, step: Range<u64>) -> Vec<u8> {
    let ahead = (pinned.range().end - step.end).min(COLD_AHEAD_LEN);
    if let Some(ahead) = std::num::NonZeroU64::new(ahead) {
        let advice = rustix::fs::Advice::WillNeed;
        // Only advice: a file system that takes none is slower, not wrong.
        let _ = rustix::fs::fadvise(pinned.fd(), step.end, Some(ahead), advice);
    }
    let mut bytes = vec![0; (step.end - step.start) as usize];
    let mut got = 0;
    while got < bytes.len() {
        match rustix::io::pread(pinned.fd(), &mut bytes[got..], step.start + got as u64) {
            Ok(0) => break,
            Ok(len) => got += len,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot read cached bytes");
                break;
            }
        }
    }
    bytes.truncate(got);
    bytes
}

async fn memory(node: &Node, len: u64) -> Result<tokio::sync::SemaphorePermit<'_>, RequestError> {
    let permits = node.memory.acquire_many(permits_for(len)).await;
    permits.map_err(|_| RequestError::Unavailable("the worker is stopping".into()))
}

async fn on_waiting_thread<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, RequestError> {
    tokio::task::spawn_blocking(call).await.map_err(|_| RequestError::Internal("reading cached bytes panicked".into()))
}
