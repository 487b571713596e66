//! The time that commands carry, made from the wall clock but held to the pace of the monotonic one.
//!
//! Log time only grows, and leases and sessions end by it. A wall clock that jumps an hour ahead would end them all at once and, set right again, would
//! leave log time standing for an hour; one that jumps back would keep every lease alive. So from the start on, log time follows the wall clock
//! only between 7/8 and 9/8 of the time that has passed, and [`SLACK`]: a clock that was set right is caught up with by an eighth of the time.
//!
//! At a start the wall clock is believed, since nothing else knows how long the master was away, but not below the log's own time. A member that begins to lead
//! makes a new one of these from the log time that it has applied.

use forebay_base::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How far log time may be off its pace at once: more than a clock is ever adjusted by in good order.
const SLACK: Duration = Duration::from_secs(2);
/// A difference to the wall clock that an operator should know of: time stamps are off by so much.
const WARNED: Duration = Duration::from_secs(30);

/// Says what time a command carries.
pub(crate) struct LogClock {
    clock: Arc<dyn Clock>,
    start_ms: u64,
    started: Duration,
    warned: AtomicBool,
}

impl LogClock {
    /// From now on; `log_time_ms` is the greatest time that a command of the log has carried.
    pub(crate) fn new(clock: Arc<dyn Clock>, log_time_ms: u64) -> LogClock {
        let (start_ms, started) = (clock.now().0.max(log_time_ms), clock.elapsed());
        LogClock { clock, start_ms, started, warned: AtomicBool::new(false) }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) fn now_ms(&self) -> u64 {
        let wall_ms = self.clock.now().0;
        let passed_ms = ms(self.clock.elapsed().saturating_sub(self.started));
        let slowest_ms = self.start_ms + (passed_ms - passed_ms / 8).saturating_sub(ms(SLACK));
        let fastest_ms = self.start_ms + passed_ms + passed_ms / 8 + ms(SLACK);
        let now_ms = wall_ms.clamp(slowest_ms, fastest_ms);
        self.warn(wall_ms, now_ms);
        now_ms
    }

    fn warn(&self, wall_ms: u64, now_ms: u64) {
        let off = Duration::from_millis(wall_ms.abs_diff(now_ms));
        if off < WARNED {
            return self.warned.store(false, Ordering::Relaxed);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                off_s = off.as_secs(),
                ahead = wall_ms > now_ms,
                "this host's clock has jumped: times of files follow it slowly; if it is right now, a restart of the master believes it at once"
            );
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::TimestampMs;
    use std::sync::atomic::AtomicU64;

    const HOUR_MS: u64 = 3_600_000;
    const START_MS: u64 = 1_700_000_000_000;

    /// A wall clock that can jump, and a monotonic one that cannot.
    struct Clocks {
        wall_ms: AtomicU64,
        monotonic_ms: AtomicU64,
    }

    impl Clock for Clocks {
        fn now(&self) -> TimestampMs {
            TimestampMs(self.wall_ms.load(Ordering::Relaxed))
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
        }
    }

    impl Clocks {
        fn new() -> Arc<Clocks> {
            Arc::new(Clocks { wall_ms: AtomicU64::new(START_MS), monotonic_ms: AtomicU64::new(5000) })
        }

        fn pass(&self, ms: u64) {
            self.wall_ms.fetch_add(ms, Ordering::Relaxed);
            self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
        }

        fn jump_to(&self, wall_ms: u64) {
            self.wall_ms.store(wall_ms, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_good_clock_is_followed() {
        let clocks = Clocks::new();
        let log = LogClock::new(clocks.clone(), 0);
        for _ in 0..100 {
            clocks.pass(60_000);
            assert_eq!(log.now_ms(), clocks.now().0);
        }
        // As NTP adjusts it.
        clocks.jump_to(clocks.now().0 + 1500);
        assert_eq!(log.now_ms(), clocks.now().0);
    }

    #[test]
    fn a_jump_ahead_moves_log_time_by_the_slack_and_not_for_good() {
        let clocks = Clocks::new();
        let log = LogClock::new(clocks.clone(), 0);
        clocks.pass(1000);
        let before_ms = log.now_ms();
        clocks.jump_to(START_MS + 24 * HOUR_MS);
        assert!(log.now_ms() - before_ms <= ms(SLACK) + 1000, "a lease of a minute would end");
        clocks.pass(1000);
        clocks.jump_to(START_MS + 2000);
        assert_eq!(log.now_ms(), START_MS + 2000, "set right again, nothing is left of it");
    }

    #[test]
    fn a_jump_back_does_not_stop_log_time() {
        let clocks = Clocks::new();
        let log = LogClock::new(clocks.clone(), 0);
        clocks.jump_to(START_MS - 24 * HOUR_MS);
        clocks.pass(HOUR_MS);
        let passed_ms = log.now_ms() - START_MS;
        assert!((HOUR_MS / 4 * 3..=HOUR_MS).contains(&passed_ms), "leases end: {passed_ms} ms of an hour");
    }

    #[test]
    fn a_clock_that_was_wrong_at_first_is_caught_up_with() {
        let clocks = Clocks::new();
        let log = LogClock::new(clocks.clone(), 0);
        clocks.jump_to(START_MS + HOUR_MS);
        clocks.pass(8 * HOUR_MS);
        assert_eq!(log.now_ms(), clocks.now().0);
    }

    #[test]
    fn a_restart_believes_the_wall_clock_but_not_below_the_log() {
        let clocks = Clocks::new();
        assert_eq!(LogClock::new(clocks.clone(), START_MS - HOUR_MS).now_ms(), START_MS);
        let log_time_ms = START_MS + HOUR_MS;
        let log = LogClock::new(clocks.clone(), log_time_ms);
        clocks.pass(HOUR_MS);
        assert!(log.now_ms() > log_time_ms + HOUR_MS / 4 * 3, "log time goes on though the wall clock is behind it");
    }
}
