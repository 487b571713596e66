//! Bodies on their way through: paced, counted, and ended early when a fault says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use super::link::Pacer;
use super::socket::ResetOnDrop;

/// What hyper and we agree on as an error.
pub(super) type Error = anyhow::Error;

/// The body that goes on, in either direction.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// Pieces of this size are paced, so that slow lines deliver evenly: 64 KiB are 1.3 ms at 50 MB/s.
const PIECE_BYTES: usize = 64 << 10;

/// How a body ends before its time.
#[derive(Debug)]
pub(super) enum End {
    /// Connection reset after so many bytes.
    Cut(u64, ResetOnDrop),
    /// Silence after so many bytes.
    Stall(u64),
    /// A byte now and then after so many bytes.
    Trickle(u64),
    /// An orderly end after so many bytes.
    Truncate(u64),
}

/// Between two bytes of a trickle.
const TRICKLE_EVERY: Duration = Duration::from_millis(50);

impl End {
    fn at(&self) -> u64 {
        match self {
            Self::Cut(at, _) | Self::Stall(at) | Self::Trickle(at) | Self::Truncate(at) => *at,
        }
    }
}

/// A body under way.
pub(super) struct Relay {
    pub(super) body: Incoming,
    pub(super) pacer: Arc<Pacer>,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) end: Option<End>,
    /// Adds what has passed to a request's record.
    pub(super) count: Box<dyn Fn(u64) + Send + Sync>,
}

/// Adds to a counter of a shared record.
pub(super) fn counting<T: Send + Sync + 'static>(
    record: Arc<T>,
    counter: fn(&T) -> &AtomicU64,
) -> Box<dyn Fn(u64) + Send + Sync> {
    Box::new(move |bytes| {
        counter(&record).fetch_add(bytes, Ordering::Relaxed);
    })
}

struct State {
    relay: Relay,
    pending: Bytes,
    passed: u64,
}

impl Relay {
    pub(super) fn into_body(self) -> Body {
        let state = State { relay: self, pending: Bytes::new(), passed: 0 };
        let frames = stream::unfold(Some(state), |state| async {
            let mut state = state?;
            match state.next().await {
                Some(Ok(frame)) => Some((Ok(frame), Some(state))),
                // After an error the stream is over.
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

impl State {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        let trickles = matches!(self.relay.end, Some(End::Trickle(at)) if self.passed >= at);
        if trickles {
            tokio::time::sleep(TRICKLE_EVERY).await;
        } else if self.relay.end.as_ref().is_some_and(|end| self.passed >= end.at()) {
            return self.end_early().await;
        }
        while self.pending.is_empty() {
            match self.relay.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => self.pending = data,
                    Err(trailers) => return Some(Ok(trailers)),
                },
                Err(error) => return Some(Err(error.into())),
            }
        }
        let left = match &self.relay.end {
            _ if trickles => 1,
            Some(end) => end.at() - self.passed,
            None => u64::MAX,
        };
        let piece = if self.relay.bytes_per_second.is_some() { PIECE_BYTES } else { usize::MAX };
        let size = self.pending.len().min(piece).min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = self.pending.split_to(size);
        self.relay.pacer.carry(piece.len(), self.relay.bytes_per_second).await;
        self.passed += piece.len() as u64;
        (self.relay.count)(piece.len() as u64);
        Some(Ok(Frame::data(piece)))
    }

    async fn end_early(&self) -> Option<Result<Frame<Bytes>, Error>> {
        match self.relay.end.as_ref()? {
            End::Truncate(_) => None,
            End::Stall(_) | End::Trickle(_) => std::future::pending().await,
            End::Cut(_, reset) => {
                reset.ask();
                Some(Err(anyhow!("the body is cut here by a fault")))
            }
        }
    }
}
