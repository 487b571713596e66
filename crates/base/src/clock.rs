//! Wall-clock time. The core never reads a clock: callers pass a [`TimestampMs`] in.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TimestampMs(pub u64);

/// A source of wall-clock time, so that tests and the simulation can turn it.
pub trait Clock: Send + Sync + 'static {
    /// The time now. May jump in both directions.
    fn now(&self) -> TimestampMs;

    /// The time since some fixed moment, by a clock that does not jump. By default the wall clock: right for one that only a test turns.
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now().0)
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimestampMs {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}
