//! The time that commands carry, made from the wall clock but held to the pace of the monotonic one.
//!
//! Log time only grows, and leases and sessions end by it. A wall clock that jumps an hour ahead would end them all at once and, set right again, would
//! leave log time standing for an hour; one that jumps back would keep every lease alive. So from the start on, a steady time passes as the monotonic
//! clock does and turns to the wall clock by at most an eighth of what has passed, however long it has been right before; log time is the wall clock's as
//! long as that is within [`SLACK`] of the steady one, and keeps that distance otherwise.
//!
//! At a start the wall clock is believed, since nothing else knows how long the master was away, but not below the log's own time. A master that begins to lead
//! after it has seen another one's log time pass goes on with that ([`Witness`]): its own wall clock may be off.

mod witness;

pub(crate) use witness::{LOOK, STAMP, Witness};

use forebay_base::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How far log time may be off its pace at once: more than a clock is ever adjusted by in good order.
const SLACK: Duration = Duration::from_secs(2);
/// Of a time without a look, the steady time turns to the wall clock by an eighth of so much at most: a jump at its end is not told from a drift.
const UNSEEN_MAX: Duration = Duration::from_secs(60);
/// A difference to the wall clock that an operator should know of: time stamps are off by so much.
const WARNED: Duration = Duration::from_secs(30);

/// Says what time a command carries.
pub(crate) struct LogClock {
    clock: Arc<dyn Clock>,
    steady: Mutex<Steady>,
    warned: AtomicBool,
}

/// The steady time when it was looked at last.
#[derive(Clone, Copy)]
struct Steady {
    /// Since 1970-01-01 UTC.
    time: Duration,
    /// By the monotonic clock.
    at: Duration,
}

impl LogClock {
    /// From now on; `log_time_ms` is the greatest time that a command of the log has carried.
    pub(crate) fn new(clock: Arc<dyn Clock>, log_time_ms: u64) -> LogClock {
        let (start_ms, started) = (clock.now().0.max(log_time_ms), clock.elapsed());
        Self::since(clock, start_ms, started)
    }

    /// As one that was made when the clock's `elapsed` was `at`, and log time was `log_time_ms`.
    fn since(clock: Arc<dyn Clock>, log_time_ms: u64, at: Duration) -> LogClock {
        let steady = Steady { time: Duration::from_millis(log_time_ms), at };
        LogClock { clock, steady: Mutex::new(steady), warned: AtomicBool::new(false) }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) fn now_ms(&self) -> u64 {
        let (wall, now) = self.look();
        self.warn(wall, now);
        ms(now)
    }

    /// What the wall clock says, and what the log is told. To be called now and then ([`UNSEEN_MAX`]).
    fn look(&self) -> (Duration, Duration) {
        let mut steady = self.steady.lock();
        let (wall, at) = (Duration::from_millis(self.clock.now().0), self.clock.elapsed());
        let passed = at.saturating_sub(steady.at);
        let (expected, turn) = (steady.time.saturating_add(passed), passed.min(UNSEEN_MAX) / 8);
        let time = wall.clamp(expected.saturating_sub(turn), expected.saturating_add(turn));
        *steady = Steady { time, at: steady.at + passed };
        (wall, wall.clamp(time.saturating_sub(SLACK), time.saturating_add(SLACK)))
    }

    fn warn(&self, wall: Duration, now: Duration) {
        let off = wall.abs_diff(now);
        if off < WARNED {
            return self.warned.store(false, Ordering::Relaxed);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                off_s = off.as_secs(),
                ahead = wall > now,
                "this host's clock has jumped: times of files follow it slowly; if it is right now, a restart of all masters believes it at once"
            );
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use forebay_base::TimestampMs;
    use std::sync::atomic::AtomicU64;

    pub(super) const HOUR_MS: u64 = 3_600_000;
    pub(super) const START_MS: u64 = 1_700_000_000_000;

    /// A wall clock that can jump, and a monotonic one that cannot.
    pub(super) struct Clocks {
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
        pub(super) fn new() -> Arc<Clocks> {
            Arc::new(Clocks { wall_ms: AtomicU64::new(START_MS), monotonic_ms: AtomicU64::new(5000) })
        }

        pub(super) fn pass(&self, ms: u64) {
            self.wall_ms.fetch_add(ms, Ordering::Relaxed);
            self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
        }

        pub(super) fn jump_to(&self, wall_ms: u64) {
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
    fn a_jump_after_ten_days_moves_log_time_no_further_than_one_in_the_first_minute() {
        for look_ms in [1000, 240 * HOUR_MS] {
            for jump_ms in [70_000, HOUR_MS, 24 * HOUR_MS] {
                let clocks = Clocks::new();
                let log = LogClock::new(clocks.clone(), 0);
                for _ in 0..240 * HOUR_MS / look_ms {
                    clocks.pass(look_ms);
                    log.now_ms();
                }
                let before_ms = clocks.now().0;
                clocks.jump_to(before_ms + jump_ms);
                assert!(log.now_ms() <= before_ms + ms(SLACK), "{jump_ms} ms ahead");
                clocks.jump_to(before_ms - jump_ms);
                clocks.pass(60_000);
                assert!(log.now_ms() >= before_ms + 45_000, "{jump_ms} ms back: log time goes on");
            }
        }
    }

    #[test]
    fn a_jump_at_the_end_of_a_time_without_a_look_is_not_taken_for_drift() {
        let clocks = Clocks::new();
        let log = LogClock::new(clocks.clone(), 0);
        clocks.pass(240 * HOUR_MS);
        let right_ms = clocks.now().0;
        clocks.jump_to(right_ms + HOUR_MS);
        assert!(log.now_ms() <= right_ms + ms(UNSEEN_MAX) / 8 + ms(SLACK));
    }

    #[test]
    fn many_looks_are_no_faster_than_few() {
        let clocks = Clocks::new();
        let log = LogClock::new(clocks.clone(), 0);
        clocks.jump_to(START_MS + HOUR_MS);
        for _ in 0..80_000 {
            clocks.pass(1);
            log.now_ms();
        }
        let moved_ms = log.now_ms() - START_MS;
        assert!((89_000..=90_000 + ms(SLACK)).contains(&moved_ms), "80 s and an eighth of it: {moved_ms}");
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
        for _ in 0..8 * 60 {
            assert!(log.now_ms() < clocks.now().0);
            clocks.pass(60_000);
        }
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
