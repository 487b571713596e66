//! What a master that does not lead sees of log time, so that it can go on with it when it begins to lead, whatever its own wall clock says.
//!
//! Log time that comes live moves as the monotonic clock does. What comes from a disk, or from another master after a while without one, comes
//! at once. So log time is believed when it has kept pace for [`TRUST`], without a gap longer than [`GAP_MAX`]. A leader of several sees to it
//! that time goes on in the log also when nobody changes anything ([`STAMP`]).

use super::{LogClock, SLACK, ms};
use forebay_base::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How often log time moves at least, under a leader.
pub(crate) const STAMP: Duration = Duration::from_secs(20);
/// How often it is looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// Log time that has kept pace for so long is live.
const TRUST: Duration = Duration::from_secs(5);
/// Three stamps, one of which may have been lost.
const GAP_MAX: Duration = Duration::from_secs(60);

/// Sees log time pass.
pub(crate) struct Witness {
    clock: Arc<dyn Clock>,
    /// The wall clock as it was at the start, and the time that has passed: a jump since then is none of it.
    since_start: LogClock,
    seen: Mutex<Seen>,
}

/// A moment in both times.
#[derive(Clone, Copy)]
struct Point {
    log_time_ms: u64,
    at: Duration,
}

#[derive(Default)]
struct Seen {
    /// From where on it has kept pace, and up to where.
    run: Option<(Point, Point)>,
    trusted: bool,
}

impl Witness {
    /// One that has seen nothing yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Witness {
        Witness { since_start: LogClock::new(Arc::clone(&clock), 0), clock, seen: Mutex::default() }
    }

    /// Looks at the greatest time that a command of the log has carried.
    pub(crate) fn saw(&self, log_time_ms: u64) {
        self.since_start.look();
        let now = Point { log_time_ms, at: self.clock.elapsed() };
        let mut seen = self.seen.lock();
        match seen.run {
            Some((_, last)) if last.log_time_ms == log_time_ms => {}
            Some((first, last)) if first.leads_to(now) && now.at - last.at <= GAP_MAX => {
                let proven = now.at - first.at >= TRUST;
                seen.trusted |= proven;
                seen.run = Some((if proven { now } else { first }, now));
            }
            _ => *seen = Seen { run: Some((now, now)), trusted: false },
        }
    }

    /// The clock of a lead that begins after `log_time_ms`: goes on where the log is, or, if this master does not know, with the wall clock of its start,
    /// held to the pace of the monotonic one since then.
    pub(crate) fn clock(&self, log_time_ms: u64) -> LogClock {
        self.saw(log_time_ms);
        let seen = self.seen.lock();
        match seen.run {
            Some((_, last)) if seen.trusted => LogClock::since(Arc::clone(&self.clock), last.log_time_ms, last.at),
            _ => {
                let now_ms = ms(self.since_start.look().1).max(log_time_ms);
                LogClock::since(Arc::clone(&self.clock), now_ms, self.clock.elapsed())
            }
        }
    }
}

impl Point {
    /// Whether both times have passed alike from here to there; a leader's log time keeps within an eighth.
    fn leads_to(self, later: Point) -> bool {
        let passed_ms = ms(later.at.saturating_sub(self.at));
        let in_log_ms = later.log_time_ms.saturating_sub(self.log_time_ms);
        in_log_ms.abs_diff(passed_ms) <= passed_ms / 8 + ms(SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_clock::tests::{Clocks, HOUR_MS, START_MS};
    use forebay_base::TimestampMs;

    /// A leader elsewhere, whose clock is right, stamps the log for so many seconds.
    fn live(clocks: &Clocks, witness: &Witness, from_ms: u64, seconds: u64) -> u64 {
        (1..=seconds).fold(from_ms, |_, second| {
            clocks.pass(1000);
            witness.saw(from_ms + second * 1000);
            from_ms + second * 1000
        })
    }

    #[test]
    fn a_new_leader_whose_clock_is_wrong_goes_on_with_the_logs_time() {
        for off_ms in [HOUR_MS as i64, -(HOUR_MS as i64)] {
            let clocks = Clocks::new();
            let witness = Witness::new(clocks.clone());
            clocks.jump_to(START_MS.saturating_add_signed(off_ms));
            let log_time_ms = live(&clocks, &witness, START_MS, 60);
            clocks.pass(3000);
            let begun = witness.clock(log_time_ms).now_ms();
            assert!(begun.abs_diff(log_time_ms + 3000) <= ms(SLACK) + 500, "{off_ms}: {begun} after {log_time_ms}");
        }
    }

    #[test]
    fn a_clock_that_jumps_before_a_new_leader_has_seen_enough_is_not_believed() {
        for off_ms in [24 * HOUR_MS as i64, -24 * HOUR_MS as i64] {
            let clocks = Clocks::new();
            let witness = Witness::new(clocks.clone());
            let log_time_ms = live(&clocks, &witness, START_MS, 2);
            clocks.jump_to(START_MS.saturating_add_signed(off_ms));
            clocks.pass(1000);
            let begun = witness.clock(log_time_ms).now_ms();
            // The slack is given twice: since the start, and since the begin of the lead.
            assert!(begun.abs_diff(log_time_ms + 1000) <= 2 * ms(SLACK) + 500, "{off_ms}: {begun} after {log_time_ms}");
        }
    }

    #[test]
    fn a_pause_of_the_group_is_counted() {
        let clocks = Clocks::new();
        let witness = Witness::new(clocks.clone());
        clocks.jump_to(START_MS + 24 * HOUR_MS);
        let log_time_ms = live(&clocks, &witness, START_MS, 60);
        clocks.pass(HOUR_MS);
        let begun = witness.clock(log_time_ms).now_ms();
        assert!(begun - log_time_ms >= HOUR_MS && begun - log_time_ms <= HOUR_MS / 8 * 9 + ms(SLACK), "{begun}");
    }

    #[test]
    fn time_that_comes_from_a_disk_tells_nothing_about_now() {
        let clocks = Clocks::new();
        let witness = Witness::new(clocks.clone());
        // A day old, and read in seconds; then a few seconds of it happen to keep pace.
        for hour in 0..10 {
            clocks.pass(1000);
            witness.saw(START_MS - 24 * HOUR_MS + hour * HOUR_MS);
        }
        assert_eq!(witness.clock(START_MS - 15 * HOUR_MS).now_ms(), clocks.now().0);
    }

    #[test]
    fn a_gap_makes_time_unknown_again() {
        let clocks = Clocks::new();
        let witness = Witness::new(clocks.clone());
        let log_time_ms = live(&clocks, &witness, START_MS, 60);
        // Cut off for hours, and given all of it at once but the last hour, in which the clock of the group was not stamped.
        clocks.pass(5 * HOUR_MS);
        witness.saw(log_time_ms + 4 * HOUR_MS);
        assert_eq!(witness.clock(log_time_ms + 4 * HOUR_MS).now_ms(), clocks.now().0);
        assert_eq!(Witness::new(clocks.clone()).clock(0).now_ms(), clocks.now().0);
        let TimestampMs(now_ms) = clocks.now();
        live(&clocks, &witness, now_ms, 30);
        clocks.jump_to(START_MS + 48 * HOUR_MS);
        assert!(witness.clock(now_ms + 30_000).now_ms() < now_ms + HOUR_MS);
    }
}
