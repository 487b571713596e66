//! What is sent to a follower and not confirmed: bounded in bytes, in order, each with the time of its sending.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::runtime::Instant;

/// The window of one stream.
pub(crate) struct Window {
    room: Semaphore,
    bytes_max: usize,
    sent: Mutex<VecDeque<Sent>>,
}

struct Sent {
    permits: usize,
    at: Instant,
}

impl Window {
    pub(crate) fn new(bytes_max: usize) -> Arc<Window> {
        // A message larger than the window takes all of it, and goes alone.
        let bytes_max = bytes_max.clamp(1, u32::MAX as usize);
        Arc::new(Window { room: Semaphore::new(bytes_max), bytes_max, sent: Mutex::default() })
    }

    /// Lets messages through as there is room.
    pub(crate) fn admit(
        self: Arc<Self>,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        messages.then(move |message| {
            let window = self.clone();
            async move {
                let permits = message.len().clamp(1, window.bytes_max);
                let room = window.room.acquire_many(permits as u32).await;
                room.expect("the semaphore is never closed").forget();
                window.sent.lock().push_back(Sent { permits, at: Instant::now() });
                message
            }
        })
    }

    /// The oldest message is confirmed.
    pub(crate) fn confirm(&self) {
        if let Some(sent) = self.sent.lock().pop_front() {
            self.room.add_permits(sent.permits);
        }
    }

    /// For how long the oldest unconfirmed message has been under way.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        self.sent.lock().front().map(|sent| sent.at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_full_window_lets_nothing_through_until_something_is_confirmed() {
        let window = Window::new(100);
        let messages = futures::stream::iter([60, 40, 1, 500, 1]).map(|length| Bytes::from(vec![0; length]));
        let mut admitted = Box::pin(window.clone().admit(messages));
        let mut next = || admitted.next().now_or_never().flatten().map(|message| message.len());
        assert_eq!((next(), next(), next()), (Some(60), Some(40), None));
        window.confirm();
        assert_eq!((next(), next()), (Some(1), None));
        window.confirm();
        assert_eq!(next(), None, "the large one waits for all of the window");
        window.confirm();
        assert_eq!((next(), next()), (Some(500), None));
        assert!(window.waiting().is_some());
        window.confirm();
        assert_eq!(next(), Some(1));
        window.confirm();
        assert_eq!(window.waiting(), None);
    }
}
