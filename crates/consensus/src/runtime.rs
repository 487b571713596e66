//! Where tasks run, and time and chance come from: everything in this crate takes them from here, so that the simulation can bring its own.
//!
//! In the product these are tokio's and the machine's, under their own names. With the feature `simulation` each asks first whether its thread runs
//! a simulation ([`forebay_vtime`]); a release build with it is refused.

#[cfg(not(feature = "simulation"))]
mod machine;
#[cfg(not(feature = "simulation"))]
pub(crate) use machine::{Instant, JoinHandle, Runtime, draw, sleep, sleep_until, spawn, spawn_blocking, timeout};

#[cfg(feature = "simulation")]
mod instant;
#[cfg(feature = "simulation")]
mod simulated;
#[cfg(feature = "simulation")]
pub(crate) use instant::Instant;
#[cfg(feature = "simulation")]
pub(crate) use simulated::{JoinHandle, Runtime, draw, sleep, sleep_until, spawn, spawn_blocking, timeout};

/// The time since a moment that openraft has noted.
pub(crate) fn since(moment: &impl openraft::Instant) -> std::time::Duration {
    moment.elapsed()
}

#[cfg(all(feature = "simulation", not(debug_assertions)))]
compile_error!("the feature `simulation` can plant faults on purpose: no release is built with it");
