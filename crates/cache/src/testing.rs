//! Disks that do not answer, for tests.

use parking_lot::{Condvar, Mutex};
use std::{
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

static STATE: (Mutex<State>, Condvar) = (Mutex::new(State { hung: Vec::new(), waiting: Vec::new() }), Condvar::new());

struct State {
    /// The directories whose disks do not answer.
    hung: Vec<PathBuf>,
    /// What the threads wait for that have asked them.
    waiting: Vec<PathBuf>,
}

impl State {
    fn hangs(&self, path: &Path) -> bool {
        self.hung.iter().any(|dir| path.starts_with(dir))
    }
}

/// A disk that answers again when this is dropped.
#[derive(Debug)]
pub struct Hang(PathBuf);

/// From now on no call to a cache directory at or below `dir` that may wait for its disk comes back.
pub fn hang(dir: &Path) -> Hang {
    STATE.0.lock().hung.push(dir.to_owned());
    Hang(dir.to_owned())
}

impl Hang {
    /// How many threads of this process wait for it.
    pub fn waiting(&self) -> usize {
        STATE.0.lock().waiting.iter().filter(|path| path.starts_with(&self.0)).count()
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        remove(&mut STATE.0.lock().hung, &self.0);
        STATE.1.notify_all();
    }
}

pub(crate) fn hangs(path: &Path) -> bool {
    STATE.0.lock().hangs(path)
}

pub(crate) fn wait_while_it_hangs(path: &Path) {
    let mut state = STATE.0.lock();
    if !state.hangs(path) {
        return;
    }
    state.waiting.push(path.to_owned());
    while state.hangs(path) {
        STATE.1.wait(&mut state);
    }
    remove(&mut state.waiting, path);
}

fn remove(paths: &mut Vec<PathBuf>, path: &Path) {
    if let Some(at) = paths.iter().position(|other| other == path) {
        paths.swap_remove(at);
    }
}

/// Whether an open file lies on a disk that does not answer: for those who read cached files through descriptors.
pub(crate) fn hangs_under(file: BorrowedFd<'_>) -> bool {
    path_of(file).is_some_and(|path| hangs(&path))
}

/// The same, and waits for it.
pub(crate) fn wait_under(file: BorrowedFd<'_>) {
    if let Some(path) = path_of(file) {
        wait_while_it_hangs(&path);
    }
}

fn path_of(file: BorrowedFd<'_>) -> Option<PathBuf> {
    let any = !STATE.0.lock().hung.is_empty();
    any.then(|| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()).flatten()
}
