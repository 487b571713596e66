//! Changes of directories on their way to the disk: a journal in order, and which of it a sync or a power cut takes.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::loss::{Kept, Loss};

/// A number for a file or directory, never given twice.
pub(super) type NodeId = u64;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) directory: NodeId,
    pub(super) name: OsString,
}

/// A change of names, done whole or not at all.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add {
        at: Place,
        node: NodeId,
    },
    Remove {
        at: Place,
        node: NodeId,
    },
    /// In place of whatever `to` was.
    Move {
        from: Place,
        to: Place,
        node: NodeId,
    },
}

impl NameChange {
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let (first, second) = match self {
            NameChange::Add { at, .. } | NameChange::Remove { at, .. } => (at, None),
            NameChange::Move { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    pub(super) fn node(&self) -> NodeId {
        match self {
            NameChange::Add { node, .. } | NameChange::Remove { node, .. } | NameChange::Move { node, .. } => *node,
        }
    }
}

/// A kernel writes names back by itself: when there are more changes than this, the older half counts as written back.
const CHANGES_MAX: usize = 1 << 16;

/// What is not durable yet, in order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    changes: Vec<NameChange>,
}

impl Journal {
    pub(super) fn push(&mut self, change: NameChange) {
        self.changes.push(change);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &NameChange> {
        self.changes.iter()
    }

    pub(super) fn retain(&mut self, is_wanted: impl FnMut(&NameChange) -> bool) {
        self.changes.retain(is_wanted);
    }

    /// Takes what a sync of a directory makes durable. A rename from another one comes whole, and with it what was done before to the
    /// name that it came from: else that would come back when the other directory is synced.
    pub(super) fn take_synced(&mut self, directory: NodeId) -> Vec<NameChange> {
        let mut needed = BTreeSet::new();
        let mut is_taken = vec![false; self.changes.len()];
        for (at, change) in self.changes.iter().enumerate().rev() {
            if change.places().any(|place| place.directory == directory || needed.contains(place)) {
                is_taken[at] = true;
                needed.extend(change.places().cloned());
            }
        }
        let (taken, left) = self.changes.drain(..).zip(is_taken).partition::<Vec<_>, _>(|(_, is_taken)| *is_taken);
        self.changes = left.into_iter().map(|(change, _)| change).collect();
        taken.into_iter().map(|(change, _)| change).collect()
    }

    /// Takes the older half when there are too many.
    pub(super) fn take_written_back(&mut self) -> Vec<NameChange> {
        let count = if self.changes.len() > CHANGES_MAX { CHANGES_MAX / 2 } else { 0 };
        self.changes.drain(..count).collect()
    }

    /// Takes what a power cut leaves; the rest is gone. Also tells how many that were.
    pub(super) fn take_survivors(&mut self, loss: &mut Loss) -> (Vec<NameChange>, usize) {
        let mut changes = std::mem::take(&mut self.changes);
        let count = changes.len();
        match loss.draw() {
            Kept::Nothing => changes.clear(),
            Kept::Everything => {}
            Kept::Prefix => changes.truncate(loss.below(count + 1)),
            Kept::Scattered(percent) => changes.retain(|_| loss.percent(percent)),
        }
        let lost = count - changes.len();
        (changes, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(directory: NodeId, name: &str) -> Place {
        Place { directory, name: name.into() }
    }

    fn journal() -> Journal {
        let mut journal = Journal::default();
        journal.push(NameChange::Add { at: place(1, "a"), node: 10 });
        journal.push(NameChange::Add { at: place(1, "b"), node: 11 });
        journal.push(NameChange::Move { from: place(1, "a"), to: place(2, "a"), node: 10 });
        journal.push(NameChange::Remove { at: place(1, "b"), node: 11 });
        journal
    }

    #[test]
    fn a_sync_takes_what_its_directory_hangs_on() {
        let mut target = journal();
        let taken: Vec<NodeId> = target.take_synced(2).iter().map(NameChange::node).collect();
        assert_eq!(taken, [10, 10], "the rename, and the file's first name");
        assert_eq!(target.iter().count(), 2);
        let mut source = journal();
        assert_eq!(source.take_synced(1).len(), 4);
        assert_eq!(journal().take_synced(3).len(), 0);
    }
}
