//! What one client at a time would be told: a directory whose entries are empty directories with a mark each.

use std::collections::BTreeMap;

use forebay_client::ErrorKind;
use forebay_testkit::linearize::{Model, Operation};
use rand::{RngExt, rngs::StdRng};

/// Names that clients fight over.
pub const NAMES: u64 = 4;

/// The entries by name, each with its mark.
pub type Names = BTreeMap<u64, u64>;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Makes an entry.
    Make(u64),
    /// Deletes one.
    Delete(u64),
    /// Renames the first to the second, which it replaces.
    Rename(u64, u64),
    /// Sets an attribute of the first to the second.
    Mark(u64, u64),
    /// Looks at one, and its attribute.
    Stat(u64),
    /// Looks at all names.
    List,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is done.
    Done,
    /// Nothing is changed, for that reason.
    Refused(ErrorKind),
    /// It is there, with that mark.
    Marked(u64),
    /// All names.
    Listed(Vec<u64>),
}

/// What all clients did and were told.
pub type History = Vec<Operation<Input, Output>>;

/// The directory, with what is in it before the history.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// What is in it.
    pub before: Names,
}

impl Input {
    /// One by chance; `serial` is the mark that it sets, if it sets one.
    pub fn draw(random: &mut StdRng, serial: u64) -> Input {
        let name = random.random_range(0..NAMES);
        match random.random_range(0..100) {
            0..25 => Input::Make(name),
            25..45 => Input::Delete(name),
            45..65 => Input::Rename(name, (name + random.random_range(1..NAMES)) % NAMES),
            65..75 => Input::Mark(name, serial),
            75..90 => Input::Stat(name),
            _ => Input::List,
        }
    }

    /// Whether it can change anything.
    pub fn changes(self) -> bool {
        !matches!(self, Input::Stat(_) | Input::List)
    }
}

impl Model for Directory {
    type State = Names;
    type Input = Input;
    type Output = Output;

    fn initial(&self) -> Names {
        self.before.clone()
    }

    fn step(&self, state: &Names, input: &Input, output: Option<&Output>) -> Option<Names> {
        let (mut after, missing) = (state.clone(), Output::Refused(ErrorKind::NotFound));
        let answer = match *input {
            Input::Make(name) if state.contains_key(&name) => Output::Refused(ErrorKind::AlreadyExists),
            Input::Make(name) => {
                after.insert(name, 0);
                Output::Done
            }
            Input::Delete(name) => after.remove(&name).map_or(missing, |_| Output::Done),
            Input::Rename(from, to) => match after.remove(&from) {
                None => missing,
                Some(mark) => {
                    // An empty directory is replaced.
                    after.insert(to, mark);
                    Output::Done
                }
            },
            Input::Mark(name, mark) => match after.get_mut(&name) {
                None => missing,
                Some(marked) => {
                    *marked = mark;
                    Output::Done
                }
            },
            Input::Stat(name) => state.get(&name).map_or(missing, |mark| Output::Marked(*mark)),
            Input::List => Output::Listed(state.keys().copied().collect()),
        };
        output.is_none_or(|output| *output == answer).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use forebay_testkit::linearize::{Verdict, check};

    use super::*;

    const DONE: Output = Output::Done;
    const MISSING: Output = Output::Refused(ErrorKind::NotFound);
    const THERE: Output = Output::Refused(ErrorKind::AlreadyExists);

    /// One after the other, in an empty directory.
    fn verdict(steps: &[(Input, Output)]) -> Verdict {
        let operation = |(place, (input, output)): (usize, &(Input, Output))| {
            let called = 2 * place as u64;
            Operation { input: *input, called, returned: Some((called + 1, output.clone())) }
        };
        let history: History = steps.iter().enumerate().map(operation).collect();
        check(&Directory::default(), &history, 1_000)
    }

    fn good(steps: &[(Input, Output)]) {
        assert_eq!(verdict(steps), Verdict::Linearizable, "{steps:?}");
    }

    /// All but the last one can be.
    fn bad(steps: &[(Input, Output)]) {
        good(&steps[..steps.len() - 1]);
        let Verdict::Violation(violation) = verdict(steps) else { panic!("{steps:?} has an order") };
        assert_eq!(violation.stuck, steps.len() - 1);
    }

    #[test]
    fn what_one_client_at_a_time_is_told_has_an_order() {
        good(&[
            (Input::List, Output::Listed(vec![])),
            (Input::Make(1), DONE),
            (Input::Make(1), THERE),
            (Input::Mark(1, 7), DONE),
            (Input::Make(0), DONE),
            (Input::List, Output::Listed(vec![0, 1])),
            (Input::Rename(1, 0), DONE),
            (Input::Stat(0), Output::Marked(7)),
            (Input::Stat(1), MISSING),
            (Input::Rename(1, 0), MISSING),
            (Input::Mark(1, 8), MISSING),
            (Input::Delete(0), DONE),
            (Input::Delete(0), MISSING),
        ]);
    }

    #[test]
    fn an_old_look_has_no_order() {
        bad(&[(Input::Make(0), DONE), (Input::Stat(0), MISSING)]);
        bad(&[(Input::Make(0), DONE), (Input::Mark(0, 7), DONE), (Input::Stat(0), Output::Marked(0))]);
        bad(&[(Input::Make(0), DONE), (Input::Delete(0), DONE), (Input::Stat(0), Output::Marked(0))]);
    }

    #[test]
    fn a_lost_change_has_no_order() {
        bad(&[(Input::Make(0), DONE), (Input::Delete(0), MISSING)]);
        bad(&[(Input::Make(0), DONE), (Input::Make(0), DONE)]);
        bad(&[
            (Input::Make(0), DONE),
            (Input::Mark(0, 7), DONE),
            (Input::Rename(0, 1), DONE),
            (Input::Mark(1, 8), MISSING),
        ]);
    }

    #[test]
    fn a_change_that_is_made_twice_has_no_order() {
        bad(&[(Input::Make(0), DONE), (Input::Rename(0, 1), DONE), (Input::Rename(0, 1), DONE)]);
        bad(&[(Input::Make(0), DONE), (Input::Delete(0), DONE), (Input::Delete(0), DONE)]);
        bad(&[(Input::Make(0), THERE)]);
    }

    #[test]
    fn a_wrong_list_has_no_order() {
        bad(&[(Input::Make(0), DONE), (Input::List, Output::Listed(vec![]))]);
        bad(&[(Input::Make(0), DONE), (Input::List, Output::Listed(vec![0, 1]))]);
        bad(&[(Input::Make(0), DONE), (Input::Rename(0, 1), DONE), (Input::List, Output::Listed(vec![0, 1]))]);
    }
}
