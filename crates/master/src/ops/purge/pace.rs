//! The rate at which a mount's objects are deleted, however many deletes go on at a time.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A rate.
pub(super) struct Pace {
    per_object: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(objects_per_second: u32) -> Pace {
        Pace { per_object: Duration::from_secs(1) / objects_per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of so many objects: those asked for before have had their time.
    pub(super) async fn take(&self, objects: usize) {
        sleep_until(self.turn(objects, Instant::now())).await;
    }

    fn turn(&self, objects: usize, now: Instant) -> Instant {
        let mut next = self.next.lock();
        let turn = (*next).max(now);
        *next = turn + self.per_object * u32::try_from(objects).unwrap_or(u32::MAX);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_keep_to_the_rate() {
        let (pace, now) = (Pace::new(100), Instant::now() + Duration::from_secs(1));
        let waits = [10, 20, 30].map(|objects| (pace.turn(objects, now) - now).as_millis());
        assert_eq!(waits, [0, 100, 300], "the third waits for the two before");
        let later = now + Duration::from_secs(5);
        assert_eq!(pace.turn(1000, later), later, "who comes late waits for nobody");
    }
}
