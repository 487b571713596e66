//! The longest time without a successful write, as clients saw it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When writes succeeded, from the begin of a round to its end.
#[derive(Debug)]
pub struct Pulse(Mutex<Beats>);

#[derive(Debug)]
struct Beats {
    last: Instant,
    longest: Duration,
    count: u64,
    mending: Option<Instant>,
    recovery: Option<Duration>,
}

impl Pulse {
    /// Clients begin to write now.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Pulse {
        let (longest, mending, recovery) = (Duration::ZERO, None, None);
        Pulse(Mutex::new(Beats { last: Instant::now(), longest, count: 0, mending, recovery }))
    }

    /// A write has succeeded.
    pub fn beat(&self) {
        let mut beats = self.0.lock();
        let before = std::mem::replace(&mut beats.last, Instant::now());
        beats.longest = beats.longest.max(beats.last - before);
        beats.count += 1;
        if let Some(mending) = beats.mending.take() {
            beats.recovery = Some(mending.elapsed());
        }
    }

    /// What is broken is being mended now.
    pub fn mends(&self) {
        self.0.lock().mending = Some(Instant::now());
    }

    /// From then to the next write that succeeded.
    pub fn recovery(&self) -> Option<Duration> {
        self.0.lock().recovery
    }

    /// How many writes have succeeded.
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// The longest time between two of them, or since the last one.
    pub fn longest(&self) -> Duration {
        let beats = self.0.lock();
        beats.longest.max(beats.last.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_last_write_counts_too() {
        let pulse = Pulse::new();
        let gap = Duration::from_secs(5);
        pulse.0.lock().last -= gap;
        assert!(pulse.longest() >= gap);
        pulse.beat();
        assert!(pulse.longest() >= gap && pulse.longest() < 2 * gap);
        assert_eq!(pulse.count(), 1);
    }
}
