//! Ids of mutating requests: by them the masters recognise a repetition.
//!
//! The masters keep the replies of a bounded span of numbers, so a new request waits while the oldest one under way lies a span behind: that one
//! could not be told from an answered one any more.

use crate::error::{Error, Result};
use forebay_base::{ClientId, ErrorKind, HumanDuration};
use forebay_proto::v1::RequestMeta;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Numbers the requests of one client and keeps which of them are still open.
#[derive(Debug)]
pub(crate) struct RequestIds {
    client: ClientId,
    state: Mutex<State>,
    /// Rings when the oldest open request has ended.
    advanced: Notify,
    /// When one ended last.
    ended: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// As many as there are calls under way.
    open: BTreeSet<u64>,
}

/// One mutating request, open until this is dropped. Whoever drops it has the reply or does not want it any more, and
/// will not send the request again.
#[derive(Debug)]
pub(crate) struct RequestId<'a> {
    ids: &'a RequestIds,
    sequence: u64,
    left: Duration,
}

impl RequestIds {
    pub(crate) fn new() -> RequestIds {
        let state = State { next: 1, open: BTreeSet::new() };
        RequestIds {
            client: ClientId(rand::random()),
            state: Mutex::new(state),
            advanced: Notify::new(),
            ended: Mutex::default(),
        }
    }

    /// For how long this client has made no change; none: it has not made any.
    pub(crate) fn since_last(&self) -> Option<Duration> {
        self.ended.lock().map(|ended| ended.elapsed())
    }

    /// Takes the next id, for a call that is to take `deadline` at most. Waits while the oldest request under way is too far behind.
    ///
    /// # Errors
    /// `unavailable` when that one does not end in time: nothing was sent.
    pub(crate) async fn begin(&self, deadline: Duration) -> Result<RequestId<'_>> {
        let (started, mut waited) = (Instant::now(), Duration::ZERO);
        loop {
            let mut advanced = std::pin::pin!(self.advanced.notified());
            advanced.as_mut().enable();
            if let Some(sequence) = self.state.lock().take() {
                return Ok(RequestId { ids: self, sequence, left: deadline.saturating_sub(waited) });
            }
            if timeout_at(started + deadline, advanced).await.is_err() {
                return Err(too_far_ahead(deadline));
            }
            waited = Duration::from_millis(started.elapsed().as_millis() as u64);
        }
    }
}

impl State {
    /// The next number, unless it lies a span past the oldest open one.
    fn take(&mut self) -> Option<u64> {
        let sequence = self.next;
        let oldest = self.open.first().copied().unwrap_or(sequence);
        if sequence - oldest >= forebay_base::RequestId::SPAN_MAX {
            return None;
        }
        self.next += 1;
        self.open.insert(sequence);
        Some(sequence)
    }
}

fn too_far_ahead(deadline: Duration) -> Error {
    let message = format!(
        "a change that this client began {} changes ago did not end within {}, and later ones wait for it",
        forebay_base::RequestId::SPAN_MAX,
        HumanDuration(deadline)
    );
    Error::new(ErrorKind::Unavailable, message).with_hint("check that the stores of the mounts answer; try again then")
}

impl RequestId<'_> {
    /// The id as it goes over the wire.
    pub(crate) fn meta(&self) -> Option<RequestMeta> {
        let state = self.ids.state.lock();
        Some(RequestMeta {
            client: self.ids.client.0,
            sequence: self.sequence,
            acked_below: state.open.first().copied().unwrap_or(state.next),
        })
    }

    /// What the wait for the id has left of the call's time.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }
}

impl Drop for RequestId<'_> {
    fn drop(&mut self) {
        // Its caller hears of it after this, if at all.
        *self.ids.ended.lock() = Some(Instant::now());
        let mut state = self.ids.state.lock();
        let was_oldest = state.open.first() == Some(&self.sequence);
        state.open.remove(&self.sequence);
        drop(state);
        if was_oldest {
            self.ids.advanced.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn acknowledges_up_to_the_oldest_open_one() {
        let ids = RequestIds::new();
        let numbers = |id: &RequestId<'_>| {
            let meta = id.meta().unwrap();
            (meta.sequence, meta.acked_below)
        };
        let first = ids.begin(MINUTE).await.unwrap();
        let second = ids.begin(MINUTE).await.unwrap();
        assert_eq!((numbers(&first), numbers(&second)), ((1, 1), (2, 1)));
        drop(second);
        let third = ids.begin(MINUTE).await.unwrap();
        assert_eq!(numbers(&third), (3, 1));
        drop(first);
        assert_eq!(numbers(&third), (3, 3));
    }

    #[tokio::test]
    async fn no_request_runs_a_span_ahead_of_the_oldest() {
        let ids = RequestIds::new();
        let oldest = ids.begin(MINUTE).await.unwrap();
        let second = ids.begin(MINUTE).await.unwrap();
        for sequence in 3..=forebay_base::RequestId::SPAN_MAX {
            assert_eq!(ids.begin(MINUTE).await.unwrap().sequence, sequence);
        }
        let error = ids.begin(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let mut waiting = std::pin::pin!(ids.begin(MINUTE));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(oldest);
        let begun = waiting.await.unwrap();
        assert_eq!(begun.sequence, forebay_base::RequestId::SPAN_MAX + 1);
        assert_eq!(begun.meta().unwrap().acked_below, 2);
        drop(second);
    }
}
