//! The machine's own.

use std::hash::{BuildHasher, RandomState};

pub(crate) use openraft_rt_tokio::TokioRuntime as Runtime;
pub(crate) use tokio::spawn;
pub(crate) use tokio::task::{JoinHandle, spawn_blocking};
pub(crate) use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A random number.
pub(crate) fn draw() -> u64 {
    RandomState::new().hash_one("forebay")
}
