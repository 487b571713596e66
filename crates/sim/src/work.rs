//! What clients do, as the namespace and as the checker of histories see it: a few directories, each with two names that come, go and change
//! their owners. No two owners are equal, so that a read tells whose change it has seen.

use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};
use forebay_metastore::Snapshot;
use forebay_namespace::command::{Action, AttributeChanges, Delete, MakeDirectory, Rename, SetAttributes};
use forebay_namespace::{query, reply};
use forebay_testkit::linearize::Model;

/// Names in a directory.
pub(crate) const NAMES: usize = 2;

/// A client and its sequence.
pub(crate) type Owner = (u64, u64);

/// One thing that a client asks for, in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Make { name: usize, owner: Owner },
    Set { name: usize, owner: Owner },
    Delete { name: usize },
    Rename { from: usize },
    Look,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Done,
    Exists,
    Missing,
    Saw([Option<Owner>; NAMES]),
}

fn path(directory: usize, name: usize) -> Bytes {
    format!("/d{directory}/n{name}").into()
}

/// The directory itself.
pub(crate) fn directory(directory: usize) -> Action {
    let path = format!("/d{directory}").into();
    MakeDirectory { path, parents: true, mode: 0o755, ..MakeDirectory::default() }.into()
}

impl Op {
    /// As a command; none for a read.
    pub(crate) fn action(&self, directory: usize) -> Option<Action> {
        Some(match self {
            Op::Make { name, owner } => {
                let (path, owner) = (path(directory, *name), text(*owner));
                MakeDirectory { path, owner, mode: 0o755, ..MakeDirectory::default() }.into()
            }
            Op::Set { name, owner } => {
                let changes = AttributeChanges { owner: Some(text(*owner)), ..AttributeChanges::default() };
                SetAttributes { path: path(directory, *name), changes, ..SetAttributes::default() }.into()
            }
            Op::Delete { name } => Delete { path: path(directory, *name), ..Delete::default() }.into(),
            Op::Rename { from } => {
                let (from, to) = (path(directory, *from), path(directory, other(*from)));
                Rename { from, to, no_replace: true, ..Rename::default() }.into()
            }
            Op::Look => return None,
        })
    }
}

fn other(name: usize) -> usize {
    (name + 1) % NAMES
}

fn text((client, sequence): Owner) -> String {
    format!("c{client}s{sequence}")
}

fn owner(text: &str) -> Option<Owner> {
    let (client, sequence) = text.strip_prefix('c')?.split_once('s')?;
    Some((client.parse().ok()?, sequence.parse().ok()?))
}

/// What a reply says; none when it asks for another attempt.
///
/// # Panics
/// When it is one that these operations never get.
pub(crate) fn read_reply(bytes: &Bytes) -> Option<Out> {
    match reply::decode(bytes) {
        Ok(_) => Some(Out::Done),
        Err(refusal) => match refusal.error_kind() {
            ErrorKind::AlreadyExists => Some(Out::Exists),
            ErrorKind::NotFound => Some(Out::Missing),
            ErrorKind::Unavailable => None,
            kind => panic!("a request was refused as {kind:?}, which nothing explains: {}", refusal.message),
        },
    }
}

/// What a snapshot has in a directory.
pub(crate) fn look(snapshot: &Snapshot, directory: usize) -> Out {
    let at = |name| {
        let path = String::from_utf8(path(directory, name).to_vec()).expect("it is made of text");
        let path: NsPath = path.parse().expect("it is a path");
        let resolved = query::resolve(&**snapshot, &path).expect("a state in memory can be read");
        resolved.found().and_then(|step| owner(&step.inode.owner))
    };
    Out::Saw(std::array::from_fn(at))
}

/// One directory.
pub(crate) struct Directory;

impl Model for Directory {
    type State = [Option<Owner>; NAMES];
    type Input = Op;
    type Output = Out;

    fn initial(&self) -> Self::State {
        [None; NAMES]
    }

    fn step(&self, state: &Self::State, input: &Op, output: Option<&Out>) -> Option<Self::State> {
        let (after, answer) = carry_out(*state, input);
        output.is_none_or(|output| *output == answer).then_some(after)
    }
}

fn carry_out(mut state: [Option<Owner>; NAMES], op: &Op) -> ([Option<Owner>; NAMES], Out) {
    let answer = match *op {
        Op::Look => Out::Saw(state),
        Op::Make { name, .. } if state[name].is_some() => Out::Exists,
        Op::Set { name, .. } | Op::Delete { name } | Op::Rename { from: name } if state[name].is_none() => Out::Missing,
        Op::Rename { from } if state[other(from)].is_some() => Out::Exists,
        Op::Make { name, owner } | Op::Set { name, owner } => {
            state[name] = Some(owner);
            Out::Done
        }
        Op::Delete { name } => {
            state[name] = None;
            Out::Done
        }
        Op::Rename { from } => {
            state[other(from)] = state[from].take();
            Out::Done
        }
    };
    (state, answer)
}

#[cfg(test)]
mod tests {
    use forebay_testkit::linearize::{Operation, Verdict, check};

    use super::*;

    const A: Owner = (100, 1);
    const B: Owner = (101, 1);
    const MAKE: Op = Op::Make { name: 0, owner: A };

    /// One after the other.
    fn verdict(steps: &[(Op, Out)]) -> Verdict {
        let operation = |(place, (input, output)): (usize, &(Op, Out))| {
            let called = 2 * place as u64;
            Operation { input: input.clone(), called, returned: Some((called + 1, output.clone())) }
        };
        let history: Vec<_> = steps.iter().enumerate().map(operation).collect();
        check(&Directory, &history, 1_000)
    }

    fn good(steps: &[(Op, Out)]) {
        assert_eq!(verdict(steps), Verdict::Linearizable, "{steps:?}");
    }

    /// The last step is one that cannot be.
    fn bad(steps: &[(Op, Out)]) {
        good(&steps[..steps.len() - 1]);
        let Verdict::Violation(violation) = verdict(steps) else { panic!("{steps:?} has an order") };
        assert_eq!(violation.stuck, steps.len() - 1);
    }

    #[test]
    fn what_one_client_at_a_time_is_told_has_an_order() {
        good(&[
            (MAKE, Out::Done),
            (MAKE, Out::Exists),
            (Op::Look, Out::Saw([Some(A), None])),
            (Op::Rename { from: 0 }, Out::Done),
            (Op::Rename { from: 0 }, Out::Missing),
            (Op::Make { name: 0, owner: B }, Out::Done),
            (Op::Rename { from: 0 }, Out::Exists),
            (Op::Set { name: 1, owner: B }, Out::Done),
            (Op::Delete { name: 0 }, Out::Done),
            (Op::Set { name: 0, owner: A }, Out::Missing),
            (Op::Look, Out::Saw([None, Some(B)])),
        ]);
    }

    #[test]
    fn an_old_look_has_no_order() {
        bad(&[(MAKE, Out::Done), (Op::Look, Out::Saw([None, None]))]);
        let set = (Op::Set { name: 0, owner: B }, Out::Done);
        bad(&[(MAKE, Out::Done), set, (Op::Look, Out::Saw([Some(A), None]))]);
        bad(&[(MAKE, Out::Done), (Op::Delete { name: 0 }, Out::Done), (Op::Look, Out::Saw([Some(A), None]))]);
    }

    #[test]
    fn a_lost_change_has_no_order() {
        bad(&[(MAKE, Out::Done), (Op::Delete { name: 0 }, Out::Missing)]);
        bad(&[(MAKE, Out::Done), (Op::Make { name: 0, owner: B }, Out::Done)]);
    }

    #[test]
    fn a_change_that_is_made_twice_has_no_order() {
        // Its repetition was answered from what is there, and not as the first time.
        bad(&[(MAKE, Out::Done), (Op::Rename { from: 0 }, Out::Done), (Op::Rename { from: 0 }, Out::Done)]);
        bad(&[(MAKE, Out::Done), (Op::Delete { name: 0 }, Out::Done), (Op::Delete { name: 0 }, Out::Done)]);
        bad(&[(MAKE, Out::Exists)]);
        bad(&[(MAKE, Out::Done), (Op::Rename { from: 0 }, Out::Done), (Op::Look, Out::Saw([Some(A), Some(A)]))]);
    }

    #[test]
    fn what_was_not_answered_may_have_happened_or_not() {
        let with = |seen| {
            let unknown = Operation { input: MAKE, called: 0, returned: None };
            let look = Operation { input: Op::Look, called: 1, returned: Some((2, Out::Saw(seen))) };
            check(&Directory, &[unknown, look], 1_000)
        };
        assert_eq!(with([Some(A), None]), Verdict::Linearizable);
        assert_eq!(with([None, None]), Verdict::Linearizable);
        assert!(matches!(with([None, Some(A)]), Verdict::Violation(_)));
    }
}
