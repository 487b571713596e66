//! A moment on the clock of a simulated host, or of the machine.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::LazyLock;
use std::time::Duration;

/// Moments of different hosts have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

/// The machine's clock shows this when it is looked at first, so that there are moments before it.
const ORIGIN: Duration = Duration::from_secs(1 << 30);

static STARTED: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);

impl Instant {
    pub(crate) fn now() -> Instant {
        match forebay_vtime::is_running() {
            true => Instant(forebay_vtime::now()),
            false => Instant(STARTED.elapsed() + ORIGIN),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now() - *self
    }

    /// As the simulation counts.
    pub(crate) fn on_host(self) -> Duration {
        self.0
    }

    /// As tokio counts.
    pub(crate) fn on_machine(self) -> tokio::time::Instant {
        *STARTED + self.0.saturating_sub(ORIGIN)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, time: Duration) -> Instant {
        Instant(self.0 - time)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl openraft::Instant for Instant {
    fn now() -> Instant {
        Instant::now()
    }
}
