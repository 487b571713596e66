//! What a directory's keeper does for those who may not wait for its disk: who lets go of something does not know on which thread.

use crate::open_files::OpenFile;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// Files that wait to be looked at; more are forgotten: an empty one stays until it is used, or until the next scan. The other chores are bounded by what
/// they are for: leases, moves, files that were open.
const TIDY_MAX: usize = 64 << 10;

/// One of them.
pub(crate) enum Chore {
    /// Unlink the file if it has no pages.
    Tidy(Arc<OpenFile>),
    /// A lease of the file has ended.
    EndLease(Arc<OpenFile>),
    /// An extent has left this file, with its space.
    GiveBack { file: Arc<OpenFile>, extent: u32, space: u64 },
    /// Close a descriptor: see [`crate::open_files::Held`].
    Close(File),
}

/// The chores of one directory.
#[derive(Default)]
pub(crate) struct Chores {
    waiting: Mutex<Waiting>,
    /// With the one that is being done.
    pending: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    chores: VecDeque<Chore>,
    /// Nobody does any more.
    ended: bool,
}

impl Chores {
    /// Leaves a chore to the keeper. Once there is none, it is as with a process that is killed: the next scan finds what is left.
    pub(crate) fn add(&self, chore: Chore) {
        let mut waiting = self.waiting.lock();
        let is_too_much = matches!(chore, Chore::Tidy(_)) && waiting.chores.len() >= TIDY_MAX;
        if waiting.ended || is_too_much {
            drop(waiting);
            return drop(chore);
        }
        self.pending.fetch_add(1, SeqCst);
        waiting.chores.push_back(chore);
    }

    /// What to do next; [`Chores::done`] is to follow.
    pub(crate) fn next(&self) -> Option<Chore> {
        self.waiting.lock().chores.pop_front()
    }

    /// The last one is done.
    pub(crate) fn done(&self) {
        self.pending.fetch_sub(1, SeqCst);
    }

    /// Whether there are any, done in this moment or waiting.
    #[cfg(test)]
    pub(crate) fn are_pending(&self) -> bool {
        self.pending.load(SeqCst) != 0
    }

    /// From now on nothing is done any more.
    pub(crate) fn end(&self) {
        let left = {
            let mut waiting = self.waiting.lock();
            waiting.ended = true;
            std::mem::take(&mut waiting.chores)
        };
        // Not under the lock: closing a file leaves a chore.
        drop(left);
    }
}
