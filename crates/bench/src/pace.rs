//! Measuring rates: several tasks do the same thing until the time is over.

use anyhow::Result;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How much `tasks` tasks did together in a second. `step` gets the task's number and the step's, and says how much it did.
pub(crate) async fn rate<F, Fut>(tasks: usize, time: Duration, step: F) -> Result<f64>
where
    F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u64>> + Send + 'static,
{
    let step = Arc::new(step);
    let started = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let step = step.clone();
        set.spawn(async move {
            let (mut done, mut number) = (0, 0);
            while started.elapsed() < time {
                done += step(task, number).await?;
                number += 1;
            }
            anyhow::Ok(done)
        });
    }
    let done = sum(set).await?;
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// How many of `total` steps `tasks` tasks did in a second, when each number from 0 is done once.
pub(crate) async fn rate_of<F, Fut>(tasks: usize, total: u64, step: F) -> Result<f64>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let step = Arc::new(step);
    let started = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks as u64 {
        let step = step.clone();
        set.spawn(async move {
            let mine = (task..total).step_by(tasks);
            let mut done = 0;
            for number in mine {
                step(number).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let done = sum(set).await?;
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

async fn sum(mut set: JoinSet<Result<u64>>) -> Result<u64> {
    let mut total = 0;
    while let Some(done) = set.join_next().await {
        total += done??;
    }
    Ok(total)
}

/// A number that looks random and follows from `seed` and `number`: the finaliser of SplitMix64.
pub(crate) fn random(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The numbers below `count` in an order that looks random, each once.
pub(crate) fn shuffled(seed: u64, count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).collect();
    numbers.sort_by_key(|number| random(seed, *number));
    numbers
}
