//! Reads that any master may answer: which one is asked, and what the client has seen.
//!
//! The one that answers fastest for what it has to do is asked first; of two drawn, so that clients do not all turn to the same one. Whoever refuses, or does not
//! answer soon, costs little: the one that leads is asked then. And when that one is silent as well, as in an election, the others have their turn while
//! it is waited for.

use super::{Master, Masters, may_work_later};
use crate::error::Result;
use crate::metrics;
use forebay_proto::error::WireError;
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

/// How long a master is waited for that does not lead. It refuses by itself after less.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long the one that leads is waited for before others are asked beside it.
const LEADER_SILENT: Duration = Duration::from_millis(400);
/// An answer counts half as much after this long, so that one that was slow is tried again.
const HALF_LIFE: Duration = Duration::from_secs(1);
/// A shorter answer is as good as this one: what is left is noise.
const LATENCY_MIN: Duration = Duration::from_micros(100);

/// What a client has seen.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// The greatest index in replies to reads.
    seen: AtomicU64,
}

/// What is known of a master as one to read from.
#[derive(Debug, Default)]
pub(super) struct Load {
    in_flight: AtomicUsize,
    /// How long answers took, lately, and when that was last measured.
    latency: Mutex<Option<(Duration, Instant)>>,
}

impl Load {
    /// The less, the better.
    fn cost(&self, now: Instant) -> f64 {
        let latency = self.latency.lock().map_or(LATENCY_MIN, |(latency, at)| {
            let ages = now.saturating_duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
            latency.mul_f64(0.5_f64.powf(ages)).max(LATENCY_MIN)
        });
        latency.as_secs_f64() * (self.in_flight.load(Ordering::Relaxed) + 1) as f64
    }

    fn measured(&self, took: Duration) {
        let mut latency = self.latency.lock();
        // A moving average over some eight answers; a slow one counts at once.
        let mean = latency.map_or(took, |(mean, _)| if took > mean * 4 { took } else { (mean * 7 + took) / 8 });
        *latency = Some((mean, Instant::now()));
    }
}

/// One call under way; measured when it is dropped, also when nobody waits for it any more.
struct Measured {
    master: Arc<Master>,
    begun: Instant,
}

impl Measured {
    fn begin(master: Arc<Master>) -> Measured {
        master.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Measured { master, begun: Instant::now() }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.master.load.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.master.load.measured(self.begun.elapsed());
    }
}

impl Near {
    /// A reply knew of the log up to there.
    pub(super) fn saw(&self, index: u64) {
        self.seen.fetch_max(index, Ordering::AcqRel);
    }
}

impl Masters {
    /// The greatest index that replies to reads have had.
    pub(crate) fn seen(&self) -> u64 {
        self.near.seen.load(Ordering::Acquire)
    }

    /// A reply knew of the log up to there.
    pub(crate) fn saw(&self, index: u64) {
        self.near.saw(index);
    }

    /// As [`Masters::repeat`], of a read that any master may answer: all get it with the same bound.
    pub(crate) async fn near<R, F>(&self, deadline: Duration, attempt: impl Fn(usize, Duration) -> F) -> Result<R>
    where
        F: Future<Output = Result<R, Status>>,
    {
        let begun = Instant::now();
        let attempt = |at: usize, left: Duration| {
            let (measured, call) = (Measured::begin(self.at(at)), attempt(at, left));
            async move {
                let _measured = measured;
                call.await
            }
        };
        // A leader that the list does not name is asked as the leader.
        let all: Vec<usize> = (0..self.listed).filter(|at| self.at(*at).answers()).collect();
        let leader = self.current.load(Ordering::Relaxed);
        let first = self.pick(&all).filter(|at| *at != leader);
        if let Some(at) = first
            && let Some(outcome) = self.ask_other(at, &attempt, deadline).await
        {
            return outcome;
        }
        let left = deadline.saturating_sub(begun.elapsed());
        let mut leading = pin!(self.repeat(left, &attempt));
        tokio::select! {
            biased;
            outcome = &mut leading => return outcome,
            () = sleep(LEADER_SILENT) => {}
        }
        for at in all.into_iter().filter(|at| *at != leader) {
            let answer = tokio::select! {
                biased;
                outcome = &mut leading => return outcome,
                answer = self.ask_other(at, &attempt, deadline) => answer,
            };
            if let Some(outcome) = answer {
                return outcome;
            }
        }
        leading.await
    }

    /// Of two of these the better one.
    fn pick(&self, of: &[usize]) -> Option<usize> {
        let draw = || of.get(rand::random_range(0..of.len().max(1))).copied();
        let (one, other, now) = (draw()?, draw()?, Instant::now());
        let cost = |at: usize| self.at(at).load.cost(now);
        Some(if cost(other) < cost(one) { other } else { one })
    }

    /// The answer of one that need not lead; none if it has none.
    async fn ask_other<R, F>(
        &self,
        at: usize,
        attempt: &impl Fn(usize, Duration) -> F,
        deadline: Duration,
    ) -> Option<Result<R>>
    where
        F: Future<Output = Result<R, Status>>,
    {
        let patience = PATIENCE.min(deadline);
        // The master is told the whole deadline: of a listing, only the first answer has to come soon.
        match timeout(patience, attempt(at, deadline)).await {
            Ok(Ok(reply)) => {
                metrics::follower_reads().increment(1);
                Some(Ok(reply))
            }
            Ok(Err(status)) if !may_work_later(&status) => {
                let error = WireError::from(&status);
                self.near.saw(error.index);
                metrics::follower_reads().increment(1);
                Some(Err(error.into()))
            }
            _ => {
                metrics::follower_fallbacks().increment(1);
                None
            }
        }
    }
}
