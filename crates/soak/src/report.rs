//! What a run was, for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::ground::Judged;
use crate::schedule::Fault;

/// One round.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What clients asked for on shared names.
    pub judged: Judged,
    /// What was broken.
    pub faults: Vec<Fault>,
    /// The longest time without a successful write.
    pub outage: Duration,
    /// From the moment at which all was mended to the next successful write.
    pub recovery: Duration,
    /// Whether a majority of the masters was left alone all the time.
    pub had_majority: bool,
    /// The term at the end.
    pub term: u64,
    /// How long it took to its last answer.
    pub worked: Duration,
    /// How long the verdict took.
    pub judging: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{:5} operations, {:2} unknown, {:4.1} s without a write, {:.1} s to recover, term {:3}, {:4.1} s and {:.1} s to judge: {}",
            self.judged.operations,
            self.judged.unknown,
            self.outage.as_secs_f64(),
            self.recovery.as_secs_f64(),
            self.term,
            self.worked.as_secs_f64(),
            self.judging.as_secs_f64(),
            faults.join("; ")
        )
    }
}

/// All rounds so far.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    rounds: u64,
    judged: Judged,
    faults: BTreeMap<Fault, u64>,
    first_term: u64,
    last_term: u64,
    outage: Duration,
    recovery: Duration,
    outage_with_majority: Duration,
}

impl Totals {
    /// Before the first round.
    pub fn new(term: u64) -> Totals {
        Totals { first_term: term, last_term: term, ..Totals::default() }
    }

    /// One more round.
    pub fn add(&mut self, outcome: &Outcome) {
        self.rounds += 1;
        self.judged.add(outcome.judged);
        self.last_term = outcome.term;
        for fault in &outcome.faults {
            *self.faults.entry(*fault).or_default() += 1;
        }
        self.recovery = self.recovery.max(outcome.recovery);
        self.outage = self.outage.max(outcome.outage);
        if outcome.had_majority {
            self.outage_with_majority = self.outage_with_majority.max(outcome.outage);
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u64 = self.faults.values().sum();
        writeln!(f, "rounds          {}", self.rounds)?;
        let Judged { operations, unknown } = self.judged;
        writeln!(f, "operations      {operations}, {unknown} of them with an unknown outcome")?;
        writeln!(f, "faults          {count}")?;
        for fault in Fault::ALL {
            writeln!(f, "  {:>4}  {fault}", self.faults.get(&fault).copied().unwrap_or(0))?;
        }
        writeln!(f, "elections       {} (terms)", self.last_term - self.first_term)?;
        writeln!(
            f,
            "longest outage  {:.1} s without a successful write; {:.1} s in rounds that left a majority of masters alone",
            self.outage.as_secs_f64(),
            self.outage_with_majority.as_secs_f64()
        )?;
        writeln!(
            f,
            "slowest mending {:.1} s until a write succeeded, restarts included, once nothing was broken any more",
            self.recovery.as_secs_f64()
        )
    }
}
