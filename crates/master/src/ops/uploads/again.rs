//! When an upload that was given up is aborted once more.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first pause; each further one is as long as all before it together.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Writes whose uploads are to be aborted again: some 50 bytes each. Of more than these the upload is aborted once.
const WRITES_MAX: usize = 65_536;

/// The writes whose uploads have been aborted, and not for the last time yet.
#[derive(Debug)]
pub(super) struct Aborts {
    /// From the first time to the last one.
    during: Duration,
    writes: Mutex<HashMap<u64, Aborted>>,
}

#[derive(Clone, Copy, Debug)]
struct Aborted {
    first: Instant,
    next: Instant,
}

impl Aborts {
    pub(super) fn new(during: Duration) -> Aborts {
        Aborts { during, writes: Mutex::default() }
    }

    /// Whether the upload of that write is to be aborted now.
    pub(super) fn is_due(&self, write: u64, now: Instant) -> bool {
        self.writes.lock().get(&write).is_none_or(|aborted| now >= aborted.next)
    }

    /// Notes that it was; whether that was the last time.
    pub(super) fn aborted(&self, write: u64, now: Instant) -> bool {
        let mut writes = self.writes.lock();
        let known = writes.get(&write).copied();
        let first = known.map_or(now, |aborted| aborted.first);
        let since = now.saturating_duration_since(first);
        if known.is_some() && since >= self.during || known.is_none() && writes.len() >= WRITES_MAX {
            return true;
        }
        let next = (now + since.max(PAUSE_FIRST)).min((first + self.during).max(now));
        writes.insert(write, Aborted { first, next });
        false
    }

    /// Forgets writes that the state has forgotten.
    pub(super) fn forget(&self, writes: &[u64]) {
        let mut known = self.writes.lock();
        known.retain(|write, _| !writes.contains(write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which a write is aborted, the last one included.
    fn times(during_s: u64) -> Vec<u64> {
        let (aborts, start) = (Aborts::new(Duration::from_secs(during_s)), Instant::now());
        let mut times = Vec::new();
        for second in 0..=2 * during_s {
            let now = start + Duration::from_secs(second);
            if !aborts.is_due(7, now) {
                continue;
            }
            times.push(second);
            if aborts.aborted(7, now) {
                aborts.forget(&[7]);
                assert!(aborts.writes.lock().is_empty());
                return times;
            }
        }
        panic!("it is never the last time: {times:?}");
    }

    #[test]
    fn uploads_are_aborted_again_until_a_lease_has_passed() {
        assert_eq!(times(60), [0, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(times(1), [0, 1]);
        assert_eq!(times(5), [0, 1, 2, 4, 5]);
    }

    #[test]
    fn more_than_there_is_room_for_are_aborted_once() {
        let (aborts, now) = (Aborts::new(Duration::from_secs(60)), Instant::now());
        let once = (0..WRITES_MAX as u64 + 10).filter(|write| aborts.aborted(*write, now)).count();
        assert_eq!(once, 10);
    }
}
