//! Load from many clients: each sends its next operation when the last one has been answered.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

/// What many clients did.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// From the first operation's start to the last one's end.
    pub time: Duration,
    /// How long each operation took, sorted.
    latencies: Vec<Duration>,
}

impl Load {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// How many operations.
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The time that this share of the operations did not exceed: 0.5 is the median. Zero when nothing was done.
    pub fn latency(&self, share: f64) -> Duration {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// When clients stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// No client begins an operation after this time.
    Time(Duration),
    /// Each client does this many operations.
    Count(u64),
}

/// Runs `operation(client, n)` from `clients` tasks, `n` counting up from 0 in each. The first error ends the run.
pub async fn run<F, O>(clients: usize, until: Until, operation: F) -> Result<Load>
where
    F: Fn(usize, u64) -> O + Send + Sync + 'static,
    O: Future<Output = Result<()>> + Send + 'static,
{
    let operation = Arc::new(operation);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let operation = Arc::clone(&operation);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            for n in 0.. {
                let is_over = match until {
                    Until::Time(time) => started.elapsed() >= time,
                    Until::Count(count) => n == count,
                };
                if is_over {
                    break;
                }
                let begun = Instant::now();
                operation(client, n).await.with_context(|| format!("client {client}, operation {n}"))?;
                latencies.push(begun.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(task) = tasks.join_next().await {
        latencies.extend(task.context("a client's task panicked")??);
    }
    let time = started.elapsed();
    latencies.sort_unstable();
    Ok(Load { time, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn every_client_does_its_count() {
        let sum = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sum);
        let load = run(4, Until::Count(10), move |client, n| {
            counter.fetch_add(client as u64 * 100 + n, Ordering::Relaxed);
            std::future::ready(Ok(()))
        });
        let load = load.await.unwrap();
        assert_eq!(load.count(), 40);
        assert_eq!(sum.load(Ordering::Relaxed), (0..4).map(|client| client * 1_000 + 45).sum());
        assert!(load.rate() > 0.0);
    }

    #[tokio::test]
    async fn an_error_ends_the_run_and_names_the_operation() {
        let failing = run(2, Until::Time(Duration::from_secs(60)), |client, n| async move {
            if client == 1 && n == 3 {
                bail!("enough");
            }
            tokio::task::yield_now().await;
            Ok(())
        });
        assert_eq!(format!("{:#}", failing.await.unwrap_err()), "client 1, operation 3: enough");
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let latencies: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let load = Load { time: Duration::from_secs(2), latencies };
        assert_eq!(load.latency(0.5), Duration::from_millis(50));
        assert_eq!(load.latency(0.99), Duration::from_millis(99));
        assert_eq!(load.latency(1.0), Duration::from_millis(100));
        assert_eq!(load.rate(), 50.0);
    }
}
