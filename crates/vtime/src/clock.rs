//! A host's clock: it runs at a rate of its own, and may jump forward.

use std::time::Duration;

/// One that runs as true time does.
const TRUE_PPM: u64 = 1_000_000;

/// From true nanoseconds to those that a host believes have passed.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    true_base_ns: u64,
    local_base_ns: u64,
    rate_ppm: u64,
}

impl Clock {
    /// A true clock that shows `shows` at `true_ns`.
    pub(crate) fn new(true_ns: u64, shows: Duration) -> Clock {
        Clock { true_base_ns: true_ns, local_base_ns: shows.as_nanos() as u64, rate_ppm: TRUE_PPM }
    }

    /// What it shows.
    pub(crate) fn shows(&self, true_ns: u64) -> Duration {
        let passed = u128::from(true_ns.saturating_sub(self.true_base_ns));
        let local = passed * u128::from(self.rate_ppm) / u128::from(TRUE_PPM);
        Duration::from_nanos(self.local_base_ns + local as u64)
    }

    /// When it will show `local`, or has shown more.
    pub(crate) fn true_at(&self, local: Duration) -> u64 {
        let ahead = local.as_nanos().saturating_sub(u128::from(self.local_base_ns));
        let true_ns = (ahead * u128::from(TRUE_PPM)).div_ceil(u128::from(self.rate_ppm));
        self.true_base_ns.saturating_add(u64::try_from(true_ns).unwrap_or(u64::MAX))
    }

    /// From now on so many local microseconds pass in a true second.
    pub(crate) fn set_rate(&mut self, true_ns: u64, rate_ppm: u64) {
        self.local_base_ns = self.shows(true_ns).as_nanos() as u64;
        self.true_base_ns = true_ns;
        self.rate_ppm = rate_ppm.max(1);
    }

    /// Shows so much more from now on.
    pub(crate) fn jump(&mut self, by: Duration) {
        self.local_base_ns += by.as_nanos() as u64;
    }
}
