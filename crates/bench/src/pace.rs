//! Measuring rates: several tasks do the same thing until the time is over.

use anyhow::Result;
use forebay_testkit::data::mix;
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

/// What [`timed`] measured.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    /// Steps a second.
    pub(crate) rate: f64,
    /// From call to return, in order; never empty.
    times: Vec<Duration>,
}

impl Timed {
    /// How many steps were done.
    pub(crate) fn count(&self) -> usize {
        self.times.len()
    }

    /// The time within which that part of the steps was done: 0.5 for the median.
    pub(crate) fn within(&self, part: f64) -> Duration {
        let index = ((self.times.len() as f64 * part).ceil() as usize).clamp(1, self.times.len()) - 1;
        self.times[index]
    }
}

/// As [`rate`], each step counting once, with the time of each. Takes 16 bytes of memory a step.
pub(crate) async fn timed<F, Fut>(tasks: usize, time: Duration, step: F) -> Result<Timed>
where
    F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let step = Arc::new(step);
    let started = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let step = step.clone();
        set.spawn(async move {
            let mut times = Vec::new();
            // Once at least.
            while times.is_empty() || started.elapsed() < time {
                let begun = Instant::now();
                step(task, times.len() as u64).await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = set.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok(Timed { rate, times })
}

async fn sum(mut set: JoinSet<Result<u64>>) -> Result<u64> {
    let mut total = 0;
    while let Some(done) = set.join_next().await {
        total += done??;
    }
    Ok(total)
}

/// A number that looks random and follows from `seed` and `number`.
pub(crate) fn random(seed: u64, number: u64) -> u64 {
    mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The numbers below `count` in an order that looks random, each once.
pub(crate) fn shuffled(seed: u64, count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).collect();
    numbers.sort_by_key(|number| random(seed, *number));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_of_a_hundred_is_the_last_but_one() {
        let timed = Timed { rate: 1.0, times: (1..=100).map(Duration::from_millis).collect() };
        let within = |part| timed.within(part).as_millis();
        assert_eq!((within(0.0), within(0.5), within(0.99), within(1.0)), (1, 50, 99, 100));
    }

    #[tokio::test]
    async fn every_task_takes_steps_and_an_error_ends_all() {
        let step = |_, _| async {
            tokio::task::yield_now().await;
            Ok(())
        };
        let timed = timed(3, Duration::ZERO, step).await.unwrap();
        assert_eq!(timed.times.len(), 3);
        assert!(super::timed(2, Duration::from_secs(60), |_, _| async { anyhow::bail!("no") }).await.is_err());
    }
}
