//! Virtual time: an executor of one thread whose clock and chance come from a seed, and hosts that run on it, each with a clock of its own, and
//! that stop dead when told.
//!
//! [`run`] polls tasks one after the other, in an order that the seed decides, and lets time pass only when nobody can go on. So an hour of a
//! cluster takes seconds, and the same seed gives the same hour again. Every task belongs to a [`Host`]; in its tasks [`now`], [`sleep()`]
//! and [`spawn`] are those of that host. [`Host::kill`] ends all of them at the point where each of them waits, as a crash does.
//!
//! Invariants:
//! - Nothing but the seed and what tasks do decides which task is polled next: neither in which order they were woken nor where they
//!   lie in memory.
//! - Nothing of a host runs after the poll in which it was killed.

mod chance;
mod clock;
mod executor;
mod host;
mod sleep;
mod task;

pub use chance::{Chance, below, random};
pub use executor::{elapsed, is_running, polls, run};
pub use host::Host;
pub use sleep::{Sleep, sleep, sleep_until};
pub use task::{Cancelled, JoinHandle, spawn};

use std::time::Duration;

/// The time on the clock of the current host, since some moment before it began.
pub fn now() -> Duration {
    host::current().now()
}

#[cfg(test)]
mod tests;
