//! Sending cached ranges: small ones in one write, large ones by `sendfile`, never waiting for a disk on the reactor.

use crate::data::read::{Ended, Failure};
use crate::data::reply::Reply;
use crate::data::resident::is_resident;
use crate::data::socket::in_time;
use crate::disk_threads::{Disk, DiskError};
use crate::error::ConnectionError;
use crate::file::TicketFile;
use crate::node::{Node, permits_for};
use forebay_cache::PinnedRange;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Ranges up to here are copied and go out with their head and the end of the answer in one write: cheaper than the six calls around a `sendfile`.
const SMALL_LEN: u64 = 128 << 10;
/// Larger ones are sent in such steps, each asked for in the page cache before.
const STEP_LEN: u64 = 1 << 20;
/// How far the kernel is told to read ahead of a cold step.
const COLD_AHEAD_LEN: u64 = 8 << 20;

/// What became of a cached range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is sent.
    Whole(Ended),
    /// It is damaged; nothing has been sent.
    Damaged,
    /// The disk does not answer; nothing has been sent.
    NoAnswer,
}

/// Sends a cached range as one data frame, and the end of the answer (`hit`, `missed`) with it if that fits.
pub(crate) async fn cached(
    reply: &mut Reply<'_>,
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    pinned: PinnedRange,
    end: Option<(u64, u64)>,
) -> Result<Sent, Failure> {
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
) -> Result<Sent, Failure> {
    let range = pinned.range();
    let (body, memory) = match try_read_small(&pinned) {
        Some(body) => (Some(body), None),
        None => match reply.while_waiting(range.start, cold_small(node, pinned)).await.map_err(Failure::Connection)? {
            Ok((body, memory)) => (body, Some(memory)),
            Err(DiskError::NoAnswer) => return Ok(Sent::NoAnswer),
            Err(error) => return Err(error.into()),
        },
    };
    let Some((body, checksums)) = body else {
        return Ok(Sent::Damaged);
    };
    let len = body.len() as u64;
    let sent = reply.data_with_end(range.start, &body, checksums, end);
    // Only memory that others wait for has its time: a slow peer is not cut off for nothing.
    let sent = match memory {
        Some(_) => in_time(len, node.limits.time_for_body(len), sent).await,
        None => sent.await,
    };
    sent.map_err(Failure::Connection)?;
    Ok(Sent::Whole(match end {
        Some(_) => Ended::Sent,
        None => Ended::Unsent,
    }))
}

/// Reads a range on a thread that may wait; no body when it is damaged. The memory is the reader's, to be held until the body is sent. The thread has its
/// body beside that, as one of few.
async fn cold_small(
    node: &Arc<Node>,
    pinned: PinnedRange,
) -> Result<(Option<SmallBody>, OwnedSemaphorePermit), DiskError> {
    let memory = node.send_memory.clone().acquire_many_owned(permits_for(SMALL_LEN));
    // Who is slow to take its bytes holds it for as long as it may.
    let memory = tokio::time::timeout(node.disks.patience(), memory).await;
    let memory = memory.ok().and_then(Result::ok).ok_or(DiskError::NoAnswer)?;
    let disk = Disk::Of(pinned.directory());
    let body = node.disks.run(disk, move || read_small(&pinned)).await?;
    Ok((body, memory))
}

/// The bytes of a range, and the checksums of its pieces.
type SmallBody = (Vec<u8>, Vec<u32>);

/// The range, checked; none when it is damaged.
fn read_small(pinned: &PinnedRange) -> Option<SmallBody> {
    let mut body = empty_body(pinned);
    let checksums = pinned.read_summed(&mut body).ok()?;
    Some((body, checksums))
}

/// The same, unless that takes the disk.
fn try_read_small(pinned: &PinnedRange) -> Option<SmallBody> {
    let mut body = empty_body(pinned);
    let checksums = pinned.try_read_summed(&mut body)?;
    Some((body, checksums))
}

fn empty_body(pinned: &PinnedRange) -> Vec<u8> {
    let range = pinned.range();
    vec![0; (range.end - range.start) as usize]
}

async fn large(
    reply: &mut Reply<'_>,
    node: &Arc<Node>,
    file: &Arc<TicketFile>,
    pinned: PinnedRange,
) -> Result<Sent, Failure> {
    let range = pinned.range();
    let pinned = Arc::new(pinned);
    let first = step_at(range.start, &range);
    let in_memory = match is_resident(&pinned, &first) {
        true => pinned.try_piece_checksums(),
        false => None,
    };
    // In front of the frame, since within it nobody can be told that somebody is at it.
    let checksums = match in_memory {
        Some(checksums) => Ok(checksums),
        None => {
            let cold = pinned.clone();
            let warmed = node.disks.run(Disk::Of(pinned.directory()), move || {
                // An error meets whoever sends the step.
                let _ = cold.warm(first, COLD_AHEAD_LEN);
                cold.piece_checksums()
            });
            match reply.while_waiting(range.start, warmed).await.map_err(Failure::Connection)? {
                Ok(checksums) => checksums,
                Err(DiskError::NoAnswer) => return Ok(Sent::NoAnswer),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let Ok(checksums) = checksums else {
        return Ok(Sent::Damaged);
    };
    let head = reply.data_head(range.start, range.end - range.start, checksums);
    reply.connection.send_more(&head).await.map_err(Failure::Connection)?;
    let mut at = range.start;
    while at < range.end {
        let step = step_at(at, &range);
        at = step.end;
        send_step(reply, node, file, &pinned, step).await.map_err(Failure::Connection)?;
    }
    Ok(Sent::Whole(Ended::Unsent))
}

fn step_at(at: u64, range: &Range<u64>) -> Range<u64> {
    at..(at + STEP_LEN).min(range.end)
}

/// Sends a part of a frame's body. The frame has begun: it ends whole or the connection does.
async fn send_step(
    reply: &mut Reply<'_>,
    node: &Node,
    file: &Arc<TicketFile>,
    pinned: &Arc<PinnedRange>,
    step: Range<u64>,
) -> Result<(), ConnectionError> {
    let source = || ConnectionError::Source(file.id);
    if !is_resident(pinned, &step) {
        let (cold, step) = (pinned.clone(), step.clone());
        let warmed = node.disks.run(Disk::Of(pinned.directory()), move || cold.warm(step, COLD_AHEAD_LEN)).await;
        warmed.map_err(|_| source())?.map_err(|error| {
            tracing::warn!(file = %file.id, %error, "cannot read cached bytes");
            source()
        })?;
    }
    let sent = reply.connection.send_file(pinned.fd(), step.clone()).await?;
    if sent == step.end - step.start {
        return Ok(());
    }
    // Who asks again gets them from the store. A disk that does not answer is told of by others.
    let short = pinned.clone();
    let _ = node.disks.run(Disk::Of(pinned.directory()), move || short.give_up(step.start + sent..step.end)).await;
    Err(source())
}
