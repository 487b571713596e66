//! Reading ahead of a sequential reader.
//!
//! The range is cut into segments that lie within one block. Each is read by a task of its own, so that several workers and
//! processors are busy; the stream hands out their chunks in file order. How far ahead is read (the window) starts at one fetch of a
//! worker for who asked for a range, and smaller for who may seek away any moment; it doubles whenever as much has been handed out, up to the setting; where the client's buffers are at their bound, one
//! chunk at a time is read.

use super::opened::Opened;
use super::range::ReadError;
use super::{File, FileInner};
use crate::bounds::bytes_of;
use crate::buffers::{CHUNK, Reservation};
use crate::error::{Error, Result};
use crate::rpc::Backoff;
use bytes::Bytes;
use forebay_base::ErrorKind;
use futures::stream::{BoxStream, Stream};
use std::collections::VecDeque;
use std::ops::{Range, RangeBounds};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The first window of a range that will be read as far as its reader says.
pub(super) const WINDOW_OF_RANGE: u64 = 8 * CHUNK as u64;
/// The first window of a reader of whom only its position is known.
pub(super) const WINDOW_OF_SEEKER: u64 = 2 * CHUNK as u64;
/// The longest segment: long enough that a request's start costs nothing, short enough to spread over connections.
const SEGMENT_MAX: u64 = 8 * CHUNK as u64;

/// The bytes of a range of a file, in chunks; see [`File::stream`]. Ends after the first error. Dropping it stops the reading.
pub struct ReadStream(BoxStream<'static, Result<Bytes>>);

impl ReadStream {
    pub(super) fn new(file: File, range: impl RangeBounds<u64>, window: u64) -> ReadStream {
        let ahead = Ahead::new(file.inner, range, window);
        ReadStream(Box::pin(futures::stream::try_unfold(ahead, |mut ahead| async move {
            Ok(ahead.next().await?.map(|chunk| (chunk, ahead)))
        })))
    }
}

impl Stream for ReadStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for ReadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadStream")
    }
}

/// A stream under way.
struct Ahead {
    file: Arc<FileInner>,
    opened: Arc<Opened>,
    /// The next byte to hand out.
    position: u64,
    /// The next byte that no segment has.
    planned: u64,
    /// Where the caller wants it to end; the file may end before.
    end: u64,
    window: u64,
    /// Handed out since the window grew last.
    since_growth: u64,
    segments: VecDeque<Segment>,
    backoff: Backoff,
}

/// A part of the range that a task reads.
struct Segment {
    chunks: mpsc::Receiver<Result<Bytes, ReadError>>,
    /// Where its last chunk ends.
    end: u64,
    task: AbortHandle,
}

impl Segment {
    /// The next chunk of a reader that has all bytes before `position`; none when the segment is through. A task that ended before its
    /// last chunk (a panic, a runtime that shuts down) is an error: what follows must not be taken for what is missing.
    async fn next(&mut self, position: u64) -> Option<Result<Bytes, ReadError>> {
        let next = self.chunks.recv().await;
        if next.is_none() && position != self.end {
            let message = format!("reading ended at {position}, before {}: its task is gone", self.end);
            return Some(Err(ReadError::Final(Error::new(ErrorKind::Internal, message))));
        }
        next
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    fn new(file: Arc<FileInner>, range: impl RangeBounds<u64>, window: u64) -> Ahead {
        let Range { start, end } = bytes_of(range);
        Ahead {
            opened: file.opened(),
            position: start,
            planned: start,
            end,
            window: window.min(file.client.config.read_ahead_max.bytes()).max(WINDOW_OF_SEEKER),
            since_growth: 0,
            segments: VecDeque::new(),
            backoff: Backoff::new(),
            file,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let file = self.file.clone();
        file.watch(pin!(self.next_chunk())).await
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        let patience = self.file.client.config.deadlines.read;
        let deadline = Instant::now() + patience;
        loop {
            self.plan();
            let Some(segment) = self.segments.front_mut() else {
                return Ok(None);
            };
            match segment.next(self.position).await {
                None => drop(self.segments.pop_front()),
                Some(Ok(chunk)) if self.file.hand_out(&self.opened) => {
                    self.position += chunk.len() as u64;
                    self.grow(chunk.len() as u64);
                    return Ok(Some(chunk));
                }
                Some(Ok(_)) => self.start_again(),
                Some(Err(ReadError::Final(error))) => return Err(error),
                Some(Err(ReadError::Conflict(cause))) => {
                    let turn = self.file.turn(&self.opened, cause, &mut self.backoff, deadline);
                    turn.await?;
                    self.start_again();
                }
            }
            if Instant::now() >= deadline {
                let message = format!("{} changes faster than it can be read", self.file.path);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
    }

    /// The file has another version, of which nothing was handed out.
    fn start_again(&mut self) {
        self.opened = self.file.opened();
        self.segments.clear();
        self.planned = self.position;
    }

    fn grow(&mut self, handed_out: u64) {
        self.since_growth += handed_out;
        if self.since_growth >= self.window {
            let max = self.file.client.config.read_ahead_max.bytes();
            self.window = (self.window * 2).min(max).max(WINDOW_OF_SEEKER);
            self.since_growth = 0;
        }
    }

    /// Begins segments until the window is full.
    fn plan(&mut self) {
        let end = self.end.min(self.opened.entry.length);
        while self.planned < end && self.planned - self.position < self.window {
            let ahead = self.window - (self.planned - self.position);
            let (_, block_end) = self.opened.block_at(self.planned);
            let longest = SEGMENT_MAX.min(ahead).min(self.window / 2).max(CHUNK as u64);
            let segment_end = cut(self.planned, longest).min(block_end).min(end);
            let mut range = self.planned..segment_end;
            let chunks = cuts(range.clone()).count();
            let reservation = self.file.client.buffers.reserve(chunks);
            if reservation.is_none() {
                if !self.segments.is_empty() {
                    return;
                }
                range.end = cut(range.start, 1).min(range.end);
            }
            self.planned = range.end;
            self.begin(range, end, reservation);
        }
    }

    fn begin(&mut self, range: Range<u64>, end: u64, reservation: Option<Reservation>) {
        let (sender, chunks) = mpsc::channel(cuts(range.clone()).count());
        let read_ahead = self.window.min(end - range.end);
        let end = range.end;
        let task = read_segment(self.file.clone(), self.opened.clone(), range, read_ahead, reservation, sender);
        self.segments.push_back(Segment { chunks, end, task: tokio::spawn(task).abort_handle() });
    }
}

/// The end of a piece of about `length` bytes from `start`, where a chunk ends: checksums are made of whole chunks.
pub(super) fn cut(start: u64, length: u64) -> u64 {
    let chunk = CHUNK as u64;
    (start + length).next_multiple_of(chunk)
}

/// A range cut at the borders of chunks.
fn cuts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = (start / CHUNK as u64 + 1).saturating_mul(CHUNK as u64).min(range.end);
        (start < range.end).then_some(start..at)
    })
}

async fn read_segment(
    file: Arc<FileInner>,
    opened: Arc<Opened>,
    range: Range<u64>,
    read_ahead: u64,
    mut reservation: Option<Reservation>,
    sender: mpsc::Sender<Result<Bytes, ReadError>>,
) {
    let patience = file.client.config.deadlines.read;
    let end = range.end;
    // Made at the first chunk that descriptors do not serve; the rest of the segment then comes in one request.
    let mut reader = None;
    for piece in cuts(range) {
        let length = (piece.end - piece.start) as usize;
        let reserved = reservation.as_mut().and_then(Reservation::take);
        let mut chunk = reserved.unwrap_or_else(|| file.client.buffers.need());
        let out = &mut chunk.as_mut()[..length];
        let mut done = 0;
        if reader.is_none() {
            let behind = read_ahead + (end - piece.end);
            done = file.read_near(&opened, piece.start, out, behind).await;
        }
        let mut result = Ok(());
        if done < length {
            let reader = reader.get_or_insert_with(|| {
                let range = piece.start + done as u64..end;
                file.range(&opened, range, read_ahead)
            });
            result = reader.fill(&mut out[done..], Instant::now() + patience).await;
        }
        let failed = result.is_err();
        let sent = sender.send(result.map(|()| chunk.freeze(length))).await;
        if failed || sent.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_before_its_last_chunk_is_an_error() {
        let (sender, chunks) = mpsc::channel(4);
        let task = tokio::spawn(async move {
            sender.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut segment = Segment { chunks, end: 16, task: task.abort_handle() };
        assert_eq!(segment.next(10).await.unwrap().unwrap(), "abc");
        task.abort();
        let Some(Err(ReadError::Final(error))) = segment.next(13).await else {
            panic!("three bytes are missing");
        };
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(segment.next(16).await.is_none());
    }

    #[test]
    fn ranges_are_cut_at_chunk_borders() {
        let chunk = CHUNK as u64;
        let cut_up = |range| cuts(range).collect::<Vec<_>>();
        assert_eq!(cut_up(0..0), []);
        assert_eq!(cut_up(5..6).first(), Some(&(5..6)));
        assert_eq!(cut_up(chunk - 1..2 * chunk + 1), [chunk - 1..chunk, chunk..2 * chunk, 2 * chunk..2 * chunk + 1]);
        assert_eq!(cut(5, 1), chunk);
        assert_eq!(cut(0, chunk), chunk);
        assert_eq!(cut(1, chunk), 2 * chunk);
    }
}
