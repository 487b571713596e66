//! Telling a worker that trickles from one that is at work: patience alone begins anew with every byte.

use super::fault::Fault;
use std::time::Duration;
use tokio::time::Instant;

/// What must arrive within the patience while a frame is on its way. With the usual patience of 3 seconds about 20 kB/s: a mebibyte comes
/// within the usual deadline of a read, and who is slower is slower than that.
pub(super) const ARRIVING_MIN: u64 = 64 << 10;

/// The progress of bytes that are awaited without a pause of the peer's being in order.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    arrived: u64,
    overtime: bool,
}

impl Pace {
    /// Begins now.
    pub(super) fn begin(now: Instant) -> Pace {
        Pace { since: now, arrived: 0, overtime: false }
    }

    /// Notes bytes that arrived. The time is up when less than [`ARRIVING_MIN`] came within the patience, and what had piled up
    /// behind them, should it be us who were slow, did not make up for it.
    pub(super) fn arrived(&mut self, bytes: usize, patience: Duration, now: Instant) -> Result<(), Fault> {
        self.arrived += bytes as u64;
        if self.arrived >= ARRIVING_MIN {
            *self = Pace::begin(now);
            return Ok(());
        }
        let time = now.duration_since(self.since);
        if time <= patience || !std::mem::replace(&mut self.overtime, true) {
            return Ok(());
        }
        Err(Fault::Trickle { bytes: self.arrived, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    #[test]
    fn single_bytes_are_too_little() {
        let start = Instant::now();
        let mut pace = Pace::begin(start);
        for n in 0..5 {
            pace.arrived(1, PATIENCE, start + n * PATIENCE / 4).unwrap();
        }
        pace.arrived(1, PATIENCE, start + PATIENCE * 5 / 4).unwrap();
        let fault = pace.arrived(1, PATIENCE, start + PATIENCE * 6 / 4).unwrap_err();
        assert!(matches!(fault, Fault::Trickle { bytes: 7, .. }), "{fault}");
    }

    #[test]
    fn who_looks_late_finds_what_has_piled_up() {
        let start = Instant::now();
        let mut pace = Pace::begin(start);
        pace.arrived(100, PATIENCE, start).unwrap();
        let late = start + PATIENCE * 10;
        pace.arrived(100, PATIENCE, late).unwrap();
        pace.arrived(ARRIVING_MIN as usize, PATIENCE, late).unwrap();
        pace.arrived(1, PATIENCE, late + PATIENCE / 2).unwrap();
    }

    #[test]
    fn a_slow_line_is_no_trickle() {
        let mut now = Instant::now();
        let mut pace = Pace::begin(now);
        for _ in 0..100 {
            now += PATIENCE / 2;
            pace.arrived(ARRIVING_MIN as usize / 2, PATIENCE, now).unwrap();
        }
    }
}
