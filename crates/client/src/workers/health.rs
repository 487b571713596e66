//! Remembering which workers failed, for a while.
//!
//! After a failure a worker stands behind the others for a time that doubles with each further failure. When the time is
//! over, one read asks it again; only if that fails too does the next, longer time begin. So a dead worker costs one read
//! now and then, and one that comes back takes its share again within [`SICK_MAX`].

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const SICK_MIN: Duration = Duration::from_millis(500);
const SICK_MAX: Duration = Duration::from_secs(10);

/// What a failure cost who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// It was told at once.
    Little,
    /// It was waited for.
    Time,
}

/// How a worker has been lately.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether `state` must be looked at.
    sick: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    until: Instant,
    /// The time was over and a read asks again; its outcome is not known yet.
    probing: bool,
    cost: Cost,
}

impl Health {
    pub(crate) fn new() -> Health {
        let state = State { failures: 0, until: Instant::now(), probing: false, cost: Cost::Little };
        Health { sick: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Whether the worker failed the last time that it was asked.
    pub(crate) fn is_sick(&self) -> bool {
        self.sick.load(Ordering::Relaxed)
    }

    /// Whether the worker may be the first to be asked. For a sick one true for one caller each time that its time is over,
    /// who then must ask it.
    pub(crate) fn may_be_asked(&self, now: Instant) -> bool {
        if !self.is_sick() {
            return true;
        }
        let mut state = self.state.lock();
        if now < state.until {
            return false;
        }
        // A second one would wait beside the first; if that is given up, nobody tells.
        let answer_by = if state.cost == Cost::Time { SICK_MAX } else { sick_time(state.failures) };
        state.until = now + answer_by;
        state.probing = true;
        true
    }

    /// Whether asking would probably cost time in vain: the last who asked waited for nothing. Whoever it is not to ask again leaves it alone.
    pub(crate) fn costs_time(&self) -> bool {
        self.is_sick() && self.state.lock().cost == Cost::Time
    }

    /// The worker answered.
    pub(crate) fn succeeded(&self) {
        if self.is_sick() {
            let mut state = self.state.lock();
            state.failures = 0;
            state.probing = false;
            self.sick.store(false, Ordering::Relaxed);
        }
    }

    /// The worker could not be reached, broke off or stayed silent.
    pub(crate) fn failed(&self, now: Instant, cost: Cost) {
        let mut state = self.state.lock();
        state.cost = cost;
        // Many reads that fail at once are one failure.
        if !self.is_sick() || state.probing {
            state.failures += 1;
            state.probing = false;
        }
        state.until = now + sick_time(state.failures);
        self.sick.store(true, Ordering::Relaxed);
    }
}

fn sick_time(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (SICK_MIN * (1 << doublings)).min(SICK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_asks_again_when_the_time_is_over() {
        let health = Health::new();
        let start = Instant::now();
        assert!(health.may_be_asked(start) && health.may_be_asked(start));
        health.failed(start, Cost::Time);
        health.failed(start, Cost::Time);
        assert!(!health.may_be_asked(start) && health.costs_time());
        let over = start + SICK_MIN;
        assert!(health.may_be_asked(over));
        assert!(!health.may_be_asked(over) && health.costs_time(), "one is enough, the others do not wait for it");
        health.succeeded();
        assert!(health.may_be_asked(over) && health.may_be_asked(over) && !health.costs_time());
        health.failed(start, Cost::Little);
        assert!(!health.may_be_asked(start) && !health.costs_time());
    }

    #[test]
    fn the_time_grows_to_its_bound() {
        let health = Health::new();
        let mut now = Instant::now();
        for failures in 1..40 {
            health.failed(now, Cost::Little);
            let time = sick_time(failures);
            assert!(time <= SICK_MAX && !health.may_be_asked(now + time * 9 / 10));
            now += time;
            assert!(health.may_be_asked(now));
        }
        assert_eq!(sick_time(40), SICK_MAX);
    }
}
