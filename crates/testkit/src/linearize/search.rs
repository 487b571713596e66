//! The search for an order.

use super::{Model, Operation, Verdict, Violation};
use std::collections::HashSet;

/// Where the list of events begins.
const HEAD: usize = 0;
/// Behind the last event.
const END: usize = usize::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Head,
    Call(usize),
    Return(usize),
}

/// The events that are not in the order yet, by time, as a doubly linked list: what is taken out can be put back where it was.
struct Events {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Of each operation, its call and its return.
    places: Vec<(usize, Option<usize>)>,
}

impl Events {
    fn new<I, O>(history: &[Operation<I, O>]) -> Events {
        let mut timed = Vec::new();
        for (operation, of) in history.iter().enumerate() {
            // At the same time calls come first: who cannot be told apart may have overlapped.
            timed.push((of.called, 0, Event::Call(operation)));
            timed.extend(of.returned.as_ref().map(|(returned, _)| (*returned, 1, Event::Return(operation))));
        }
        timed.sort_by_key(|(time, kind, _)| (*time, *kind));
        let mut events = vec![Event::Head];
        events.extend(timed.into_iter().map(|(.., event)| event));
        let mut places = vec![(HEAD, None); history.len()];
        for (place, event) in events.iter().enumerate() {
            match *event {
                Event::Head => {}
                Event::Call(operation) => places[operation].0 = place,
                Event::Return(operation) => places[operation].1 = Some(place),
            }
        }
        let last = events.len() - 1;
        let next = (0..=last).map(|place| if place == last { END } else { place + 1 }).collect();
        let previous = (0..=last).map(|place| place.saturating_sub(1)).collect();
        Events { events, next, previous, places }
    }

    fn take_out(&mut self, operation: usize) {
        let (call, answer) = self.places[operation];
        for place in [Some(call), answer].into_iter().flatten() {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = next;
            if next != END {
                self.previous[next] = previous;
            }
        }
    }

    /// Undoes the last [`Events::take_out`] that was not undone.
    fn put_back(&mut self, operation: usize) {
        let (call, answer) = self.places[operation];
        for place in [answer, Some(call)].into_iter().flatten() {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = place;
            if next != END {
                self.previous[next] = place;
            }
        }
    }
}

/// A set of operations.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn flip(&mut self, operation: usize) {
        self.0[operation / 64] ^= 1 << (operation % 64);
    }
}

pub(super) struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Input, M::Output>],
    events: Events,
    /// The order so far, with the state before each.
    order: Vec<(usize, M::State)>,
    done: Set,
    state: M::State,
    /// Answered operations that are not in the order.
    answers_left: usize,
    /// What was reached: the same operations in another order that leads to the same state lead no further.
    tried: HashSet<(Set, M::State)>,
    longest: Violation,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(model: &'a M, history: &'a [Operation<M::Input, M::Output>]) -> Self {
        Search {
            model,
            history,
            events: Events::new(history),
            order: Vec::new(),
            done: Set(vec![0; history.len().div_ceil(64)]),
            state: model.initial(),
            answers_left: history.iter().filter(|operation| operation.returned.is_some()).count(),
            tried: HashSet::new(),
            longest: Violation { order: Vec::new(), stuck: 0 },
        }
    }

    pub(super) fn run(mut self, steps_max: u64) -> Verdict {
        let (mut at, mut steps) = (self.events.next[HEAD], 0);
        while self.answers_left > 0 {
            // An answer is still there, so the end of the list is never reached before one.
            match self.events.events[at] {
                Event::Call(operation) => {
                    steps += 1;
                    if steps > steps_max {
                        return Verdict::TooLong;
                    }
                    at = match self.advance(operation) {
                        true => self.events.next[HEAD],
                        false => self.events.next[at],
                    };
                }
                // What has returned must have taken effect: some earlier choice was wrong.
                Event::Return(operation) => {
                    self.note(operation);
                    match self.back() {
                        Some(call) => at = self.events.next[call],
                        None => return Verdict::Violation(self.longest),
                    }
                }
                Event::Head => at = self.events.next[at],
            }
        }
        Verdict::Linearizable
    }

    /// Puts an operation next in the order, if it can come there and leads anywhere new.
    fn advance(&mut self, operation: usize) -> bool {
        let Operation { input, returned, .. } = &self.history[operation];
        let output = returned.as_ref().map(|(_, output)| output);
        let Some(after) = self.model.step(&self.state, input, output) else {
            return false;
        };
        self.done.flip(operation);
        if !self.tried.insert((self.done.clone(), after.clone())) {
            self.done.flip(operation);
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        self.order.push((operation, before));
        self.events.take_out(operation);
        self.answers_left -= usize::from(returned.is_some());
        true
    }

    /// Takes the last operation out of the order; gives the place of its call.
    fn back(&mut self) -> Option<usize> {
        let (operation, before) = self.order.pop()?;
        self.state = before;
        self.done.flip(operation);
        self.events.put_back(operation);
        self.answers_left += usize::from(self.history[operation].returned.is_some());
        Some(self.events.places[operation].0)
    }

    fn note(&mut self, stuck: usize) {
        if self.order.len() >= self.longest.order.len() {
            let order = self.order.iter().map(|(operation, _)| *operation).collect();
            self.longest = Violation { order, stuck };
        }
    }
}
