//! Histories that are known to be good or bad, and random ones against a search without any thought.

use super::{Model, Operation, Verdict, check, shortest_violation};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const STEPS_MAX: u64 = 1_000_000;

/// A number that is read, written, or written only if it has a certain value.
struct Register;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Read,
    Write(u8),
    Swap(u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Value(u8),
    Done(bool),
}

impl Register {
    fn run(state: u8, input: Input) -> (u8, Output) {
        match input {
            Input::Read => (state, Output::Value(state)),
            Input::Write(value) => (value, Output::Done(true)),
            Input::Swap(from, to) if from == state => (to, Output::Done(true)),
            Input::Swap(..) => (state, Output::Done(false)),
        }
    }
}

impl Model for Register {
    type State = u8;
    type Input = Input;
    type Output = Output;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, input: &Input, output: Option<&Output>) -> Option<u8> {
        let (after, answer) = Register::run(*state, *input);
        output.is_none_or(|output| *output == answer).then_some(after)
    }
}

type History = Vec<Operation<Input, Output>>;

fn done(input: Input, called: u64, returned: u64, output: Output) -> Operation<Input, Output> {
    Operation { input, called, returned: Some((returned, output)) }
}

fn unknown(input: Input, called: u64) -> Operation<Input, Output> {
    Operation { input, called, returned: None }
}

fn verdict(history: &History) -> Verdict {
    check(&Register, history, STEPS_MAX)
}

fn is_good(history: &History) -> bool {
    match verdict(history) {
        Verdict::Linearizable => true,
        Verdict::Violation(_) => false,
        Verdict::TooLong => panic!("too long"),
    }
}

#[test]
fn nothing_and_one_after_the_other_are_good() {
    use Input::*;
    assert!(is_good(&vec![]));
    let value = Output::Value;
    assert!(is_good(&vec![done(Write(1), 0, 1, Output::Done(true)), done(Read, 2, 3, value(1))]));
    let stale = vec![done(Write(1), 0, 1, Output::Done(true)), done(Read, 2, 3, value(0))];
    let Verdict::Violation(violation) = verdict(&stale) else { panic!("a stale read") };
    assert_eq!((violation.order, violation.stuck), (vec![0], 1));
}

#[test]
fn who_overlaps_may_come_in_either_order_but_only_in_one() {
    use Input::*;
    let write = done(Write(1), 0, 10, Output::Done(true));
    for seen in [0, 1] {
        assert!(is_good(&vec![write.clone(), done(Read, 1, 9, Output::Value(seen))]));
    }
    let reads = |first, second| {
        vec![write.clone(), done(Read, 1, 2, Output::Value(first)), done(Read, 3, 4, Output::Value(second))]
    };
    assert!(is_good(&reads(0, 1)));
    assert!(!is_good(&reads(1, 0)), "what was seen once stays");
    // Two that both say that they were first.
    let both = vec![done(Swap(0, 1), 0, 10, Output::Done(true)), done(Swap(0, 2), 1, 9, Output::Done(true))];
    assert!(!is_good(&both));
}

#[test]
fn what_nobody_knows_the_end_of_may_happen_later_or_never() {
    use Input::*;
    let read = |at, value| done(Read, at, at + 1, Output::Value(value));
    let late = vec![unknown(Write(1), 0), read(1, 0), read(3, 0), read(5, 1)];
    assert!(is_good(&late));
    assert!(is_good(&vec![unknown(Write(1), 0), read(1, 0), read(3, 0)]));
    assert!(!is_good(&vec![unknown(Write(1), 0), read(1, 1), read(3, 0)]), "it happens once");
    assert!(!is_good(&vec![read(0, 1), unknown(Write(1), 5)]), "not before it was sent");
}

#[test]
fn a_search_that_takes_too_long_says_so() {
    let history: History = (0..20).map(|n| done(Input::Write(n), 0, 100, Output::Done(true))).collect();
    let mut bad = history;
    bad.push(done(Input::Read, 200, 201, Output::Value(99)));
    assert_eq!(check(&Register, &bad, 1000), Verdict::TooLong);
    assert_ne!(verdict(&bad), Verdict::Linearizable);
}

/// Operations that take effect at a random moment of their time.
fn random_history(random: &mut StdRng, length: usize) -> History {
    let mut moments: Vec<(u64, usize)> = (0..length).map(|n| (random.random_range(0..40), n)).collect();
    moments.sort_unstable();
    let (mut state, mut history) = (0, Vec::new());
    for (moment, _) in moments {
        let input = match random.random_range(0..3) {
            0 => Input::Read,
            1 => Input::Write(random.random_range(0..3)),
            _ => Input::Swap(random.random_range(0..3), random.random_range(0..3)),
        };
        let happens = random.random_bool(0.9);
        let (after, output) = Register::run(state, input);
        state = if happens { after } else { state };
        let called = moment.saturating_sub(random.random_range(0..8));
        let returned = (happens && random.random_bool(0.8)).then(|| (moment + random.random_range(0..8), output));
        history.push(Operation { input, called, returned });
    }
    history
}

/// All orders of all that may have happened, one by one.
fn is_good_by_trying(history: &History, left: &mut Vec<usize>, state: u8) -> bool {
    if left.iter().all(|operation| history[*operation].returned.is_none()) {
        return true;
    }
    let first_end = left.iter().filter_map(|operation| history[*operation].returned.as_ref().map(|(at, _)| *at)).min();
    for place in 0..left.len() {
        let operation = &history[left[place]];
        if first_end.is_some_and(|end| operation.called > end) {
            continue;
        }
        let output = operation.returned.as_ref().map(|(_, output)| output);
        if let Some(after) = Register.step(&state, &operation.input, output) {
            let number = left.remove(place);
            let is_good = is_good_by_trying(history, left, after);
            left.insert(place, number);
            if is_good {
                return true;
            }
        }
    }
    false
}

#[test]
fn it_agrees_with_trying_all_orders() {
    let mut random = StdRng::seed_from_u64(7);
    let mut bad = 0;
    for _ in 0..3000 {
        let length = random.random_range(0..7);
        let mut history = random_history(&mut random, length);
        assert!(is_good(&history), "{history:?}");
        for operation in &mut history {
            if let Some((_, output)) = &mut operation.returned
                && random.random_bool(0.3)
            {
                *output = match output {
                    Output::Value(_) => Output::Value(random.random_range(0..3)),
                    Output::Done(done) => Output::Done(*done && random.random_bool(0.5)),
                };
            }
        }
        let expected = is_good_by_trying(&history, &mut (0..history.len()).collect(), 0);
        assert_eq!(is_good(&history), expected, "{history:?}");
        check_shortest(&history, expected);
        bad += usize::from(!expected);
    }
    assert!(bad > 300, "only {bad} bad histories");
}

/// It has no order, and would have one without its last answer.
fn check_shortest(history: &History, is_good: bool) {
    let Some((mut shortest, found)) = shortest_violation(&Register, history, STEPS_MAX) else {
        return assert!(is_good, "{history:?}");
    };
    assert!(!is_good && matches!(found, Verdict::Violation(_)), "{history:?}");
    assert_eq!(verdict(&shortest), found);
    let end = shortest.iter().filter_map(|of| of.returned.as_ref().map(|(time, _)| *time)).max().unwrap();
    shortest.iter_mut().for_each(|of| of.returned = of.returned.take_if(|(time, _)| *time < end));
    assert_eq!(verdict(&shortest), Verdict::Linearizable, "{shortest:?} at {end}");
}

#[test]
fn long_histories_of_few_clients_are_quick() {
    let mut random = StdRng::seed_from_u64(8);
    let mut history = random_history(&mut random, 5);
    for round in 1..400 {
        let shift = 100 * round;
        let state = Output::Value(0);
        // Each round starts from a known state.
        history.push(done(Input::Write(0), shift - 20, shift - 19, Output::Done(true)));
        history.push(done(Input::Read, shift - 18, shift - 17, state));
        history.extend(random_history(&mut random, 5).into_iter().filter(|of| of.returned.is_some()).map(|of| {
            let (returned, output) = of.returned.unwrap();
            Operation { input: of.input, called: of.called + shift, returned: Some((returned + shift, output)) }
        }));
    }
    // A round without those whose end is not known need not be good, but the search ends.
    assert_ne!(verdict(&history), Verdict::TooLong);
}
