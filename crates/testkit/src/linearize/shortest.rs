//! The shortest beginning of a history that has no order: what people look at.

use super::{Model, Operation, Verdict, check};

/// Operations of a model.
type History<M> = Vec<Operation<<M as Model>::Input, <M as Model>::Output>>;

/// The shortest beginning of a history that no order explains, and the verdict on it: what had been called by then, and answered by then. None if
/// the whole has an order, or not enough steps to tell.
///
/// A beginning of what has an order has one, so half of what is left is ruled out with each search.
pub fn shortest_violation<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    steps_max: u64,
) -> Option<(History<M>, Verdict)>
where
    M::Input: Clone,
    M::Output: Clone,
{
    let judge = |end: u64| {
        let beginning = until(history, end);
        let verdict = check(model, &beginning, steps_max);
        (beginning, verdict)
    };
    let mut ends: Vec<u64> = history.iter().filter_map(|of| of.returned.as_ref().map(|(time, _)| *time)).collect();
    ends.sort_unstable();
    let (mut good, mut shortest) = (0, None);
    let mut bad = ends.len();
    while good < bad {
        // The answers up to this one; one that is bad at the latest is the last.
        let middle = (good + bad - 1) / 2;
        let (beginning, verdict) = judge(ends[middle]);
        match verdict {
            Verdict::Violation(_) => {
                shortest = Some((beginning, verdict));
                bad = middle;
            }
            Verdict::Linearizable | Verdict::TooLong => good = middle + 1,
        }
    }
    shortest
}

/// What was known at that time, to whoever knew all.
fn until<I: Clone, O: Clone>(history: &[Operation<I, O>], end: u64) -> Vec<Operation<I, O>> {
    let called = history.iter().filter(|of| of.called <= end).cloned();
    called.map(|of| Operation { returned: of.returned.filter(|(time, _)| *time <= end), ..of }).collect()
}
