//! Clients that may be told what was true a while ago: each read equals what was true at some moment between a bound before its call and its return, and no client
//! goes back behind what it has done or seen.
//!
//! The first is an operation with an earlier call ([`may_be_old`]); the second an order in which the operations of one client stay in theirs ([`check_sessions`]).

use super::{Model, Operation, Verdict, check};
use std::collections::BTreeMap;

/// What one client asked for, and its place among all that it asked for.
#[derive(Clone, Debug)]
pub struct Asked<I> {
    /// Who.
    pub client: u64,
    /// Grows with each operation of the client.
    pub number: u64,
    /// What.
    pub input: I,
}

/// Whether an order explains the history in which each client's operations stay in theirs, one after the other. One whose end nobody knows may take effect
/// later than those that its client did after it. `steps` as of [`check`].
pub fn check_sessions<M>(model: M, operations: &[Operation<Asked<M::Input>, M::Output>], steps: u64) -> Verdict
where
    M: Model,
    M::Input: Clone,
    M::Output: Clone,
{
    check(&Sessions(model), &counted(operations), steps)
}

/// The operations of each client whose end is known, counted from 0: the next one is known, and a search need not try any later one.
fn counted<I: Clone, O: Clone>(operations: &[Operation<Asked<I>, O>]) -> Vec<Operation<Asked<I>, O>> {
    let mut counted = operations.to_vec();
    let mut order: Vec<usize> = (0..counted.len()).filter(|at| counted[*at].returned.is_some()).collect();
    order.sort_by_key(|at| counted[*at].input.number);
    let mut done: BTreeMap<u64, u64> = BTreeMap::new();
    for at in order {
        let asked = &mut counted[at].input;
        let next = done.entry(asked.client).or_default();
        asked.number = *next;
        *next += 1;
    }
    counted
}

/// A model whose clients keep their order.
#[derive(Debug)]
struct Sessions<M>(M);

impl<M: Model> Model for Sessions<M> {
    /// With the number of each client's next operation.
    type State = (M::State, BTreeMap<u64, u64>);
    type Input = Asked<M::Input>;
    type Output = M::Output;

    fn initial(&self) -> Self::State {
        (self.0.initial(), BTreeMap::new())
    }

    fn step(
        &self,
        (state, next): &Self::State,
        asked: &Self::Input,
        output: Option<&M::Output>,
    ) -> Option<Self::State> {
        let mut next = next.clone();
        if output.is_some() {
            let own = next.entry(asked.client).or_default();
            if *own != asked.number {
                return None;
            }
            *own += 1;
        }
        Some((self.0.step(state, &asked.input, output)?, next))
    }
}

/// The operation of one that allows answers that are old by so much of the history's clock.
pub fn may_be_old<I, O>(read: Operation<I, O>, bound: u64) -> Operation<I, O> {
    Operation { called: read.called.saturating_sub(bound), ..read }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is written and read.
    struct Register;

    impl Model for Register {
        type State = u64;
        type Input = Option<u64>;
        type Output = u64;

        fn initial(&self) -> u64 {
            0
        }

        fn step(&self, state: &u64, input: &Option<u64>, output: Option<&u64>) -> Option<u64> {
            let after = input.unwrap_or(*state);
            output.is_none_or(|output| *output == after).then_some(after)
        }
    }

    type History = Vec<Operation<Asked<Option<u64>>, u64>>;

    fn operation(
        client: u64,
        number: u64,
        input: Option<u64>,
        at: u64,
        output: u64,
    ) -> Operation<Asked<Option<u64>>, u64> {
        Operation { input: Asked { client, number, input }, called: at, returned: Some((at + 1, output)) }
    }

    fn write(client: u64, number: u64, at: u64, value: u64) -> Operation<Asked<Option<u64>>, u64> {
        operation(client, number, Some(value), at, value)
    }

    fn read(client: u64, number: u64, at: u64, value: u64) -> Operation<Asked<Option<u64>>, u64> {
        may_be_old(operation(client, number, None, at, value), 10)
    }

    fn is_good(history: &History) -> bool {
        check_sessions(Register, history, 100_000) == Verdict::Linearizable
    }

    #[test]
    fn reads_may_be_old_within_the_bound() {
        let history = |at| vec![write(1, 1, 20, 7), read(2, 1, at, 0)];
        assert!(is_good(&history(25)));
        assert!(is_good(&history(31)), "it was true until the write returned");
        assert!(!is_good(&history(32)));
        assert!(!is_good(&vec![read(2, 1, 5, 7), write(1, 1, 20, 7)]), "nobody sees what is to come");
    }

    #[test]
    fn nobody_goes_back_behind_what_he_has_seen_or_done() {
        let reads = |second_client| vec![write(1, 1, 20, 7), read(2, 1, 23, 7), read(second_client, 2, 25, 0)];
        assert!(!is_good(&reads(2)));
        assert!(is_good(&reads(3)), "another one may");
        assert!(!is_good(&vec![write(1, 1, 20, 7), read(1, 2, 25, 0)]));
        let unknown = Operation { returned: None, ..write(1, 1, 20, 7) };
        let late = vec![unknown, read(1, 2, 25, 0), read(1, 3, 40, 0), read(1, 4, 60, 7)];
        assert!(is_good(&late), "what was given up may still take effect");
    }
}
