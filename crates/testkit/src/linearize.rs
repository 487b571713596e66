//! Whether what concurrent clients saw can be explained by one order of their operations, in which each took effect at one moment between its call
//! and its return: linearizability (Herlihy and Wing 1990).
//!
//! The search is that of Wing and Gong (1993), with the memory of Lowe (2017) for states that were tried, in the form of Horn and Kroening (2015).
//! An operation whose end nobody knows, since its client or the server died, may have taken effect at any moment since its call, or never.
//!
//! The search is exponential at worst: check what does not depend on each other (two directories without renames between them) as two histories.

pub mod bounded;
mod search;
mod shortest;

use std::hash::Hash;

pub use shortest::shortest_violation;

/// What the operations are on: one client at a time.
pub trait Model {
    /// All that an operation's output can depend on.
    type State: Clone + Eq + Hash;
    /// What a client asked for.
    type Input;
    /// What it was answered.
    type Output;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after an operation, if it can have been answered so in this state. Without an output: whatever it does then.
    fn step(&self, state: &Self::State, input: &Self::Input, output: Option<&Self::Output>) -> Option<Self::State>;
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation<I, O> {
    /// What was asked for.
    pub input: I,
    /// Any clock that does not go back and that all clients share: before it was sent.
    pub called: u64,
    /// What was answered, and when. None: nobody knows, and it may still take effect.
    pub returned: Option<(u64, O)>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// More steps than were allowed: nothing is known.
    TooLong,
}

/// The end of the longest order that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Operations, by their places in the history, in an order that explains them.
    pub order: Vec<usize>,
    /// The operation that had to come next at the latest, and cannot.
    pub stuck: usize,
}

/// Looks for an order, with at most so many steps of the model (a million take about a second and some hundred bytes each).
pub fn check<M: Model>(model: &M, history: &[Operation<M::Input, M::Output>], steps_max: u64) -> Verdict {
    search::Search::new(model, history).run(steps_max)
}

#[cfg(test)]
mod tests;
