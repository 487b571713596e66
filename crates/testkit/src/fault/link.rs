//! The line between client and store: latency for each request, bandwidth shared by all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far and how wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Added to each request before the store sees it.
    pub latency: Duration,
    /// Shared by all connections, each direction by itself; `None` is as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

/// Spaces bytes out in time: each piece is let go when the line has carried those before it.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    free_at: Mutex<Option<Instant>>,
}

impl Pacer {
    /// Waits until the line has carried `bytes` more.
    pub(super) async fn carry(&self, bytes: usize, bytes_per_second: Option<u64>) {
        let Some(rate) = bytes_per_second.filter(|rate| *rate > 0) else {
            return;
        };
        let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let until = free_at.map_or(now, |free_at| free_at.max(now)) + time;
            *free_at = Some(until);
            until
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_streams_share_the_line() {
        let pacer = Pacer::default();
        let started = Instant::now();
        let stream = || async {
            for _ in 0..10 {
                pacer.carry(1000, Some(100_000)).await;
            }
        };
        tokio::join!(stream(), stream());
        // 20 kB at 100 kB/s; a busy machine may take longer, never shorter.
        assert!(started.elapsed() >= Duration::from_millis(199), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let waits = Pacer::default();
        assert!(futures::FutureExt::now_or_never(waits.carry(1 << 30, None)).is_some());
    }
}
