//! The descriptors that a client keeps: a bounded number, the ones not used for longest closed first.
//!
//! The registry has the only lasting references; files have weak ones. So what is thrown out here is closed as soon as the last
//! read of it is over. Order is by second chance (the CLOCK algorithm): a use costs no more than a flag.

use super::file::LocalFile;
use super::threads::DiskThreads;
use forebay_base::{FileId, WorkerId};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Descriptors that were not used for one to two of these are closed: until then the worker cannot reuse their space.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long a worker may take to hear that descriptors are closed.
const TIDY_PATIENCE: Duration = Duration::from_secs(1);

type Key = (WorkerId, FileId);

/// The open cached files of a client.
#[derive(Debug)]
pub(crate) struct Registry {
    files: Mutex<Files>,
    max: usize,
    sweeping: AtomicBool,
    /// Those that read them from a disk.
    pub(crate) threads: DiskThreads,
}

#[derive(Debug, Default)]
struct Files {
    open: HashMap<Key, Arc<LocalFile>>,
    /// The next to be looked at in front. Each open file once.
    order: VecDeque<Key>,
}

impl Registry {
    pub(crate) fn new(max: usize) -> Arc<Registry> {
        Arc::new(Registry {
            files: Mutex::default(),
            max: max.max(1),
            sweeping: AtomicBool::new(false),
            threads: DiskThreads::new(),
        })
    }

    pub(crate) fn get(&self, worker: WorkerId, file: FileId) -> Option<Arc<LocalFile>> {
        self.files.lock().open.get(&(worker, file)).filter(|file| !file.is_silent()).cloned()
    }

    pub(crate) fn has(&self, worker: WorkerId, file: FileId) -> bool {
        self.files.lock().open.get(&(worker, file)).is_some_and(|file| !file.is_silent())
    }

    /// Keeps a file, closing others when there are too many.
    pub(crate) fn insert(self: &Arc<Self>, worker: WorkerId, file: &Arc<LocalFile>) {
        let key = (worker, file.id());
        let mut closed = Vec::new();
        {
            let mut files = self.files.lock();
            while files.open.len() >= self.max && !files.open.contains_key(&key) {
                closed.extend(files.close_one());
            }
            match files.open.insert(key, file.clone()) {
                Some(older) => closed.push(older),
                None => files.order.push_back(key),
            }
        }
        drop(closed);
        self.begin_sweeping();
    }

    /// Closes a file that does not work any more, unless another has taken its place.
    pub(crate) fn remove(&self, worker: WorkerId, file: &Arc<LocalFile>) {
        let key = (worker, file.id());
        let mut files = self.files.lock();
        let same = files.open.get(&key).is_some_and(|open| Arc::ptr_eq(open, file));
        if same {
            files.open.remove(&key);
            files.order.retain(|other| *other != key);
        }
    }

    /// Starts the task that closes what is not used, for as long as anything is open.
    fn begin_sweeping(self: &Arc<Self>) {
        if self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = Arc::downgrade(self);
        tokio::spawn(async move { while sweep_later(&this).await {} });
    }

    fn sweep(&self) -> Vec<Arc<LocalFile>> {
        let mut files = self.files.lock();
        let closed = (0..files.order.len()).filter_map(|_| files.look_at_one());
        closed.collect()
    }
}

/// Waits and sweeps; false when there is nothing left to sweep.
async fn sweep_later(registry: &Weak<Registry>) -> bool {
    tokio::time::sleep(SWEEP_EVERY).await;
    let Some(registry) = registry.upgrade() else {
        return false;
    };
    let closed = registry.sweep();
    for file in closed {
        let link = file.link().clone();
        drop(file);
        link.tidy(TIDY_PATIENCE).await;
    }
    let files = registry.files.lock();
    if files.open.is_empty() {
        registry.sweeping.store(false, Ordering::Relaxed);
        return false;
    }
    true
}

impl Files {
    /// Gives the file in front a second chance if it was used since the last look, else closes it.
    fn look_at_one(&mut self) -> Option<Arc<LocalFile>> {
        let key = self.order.pop_front()?;
        let used = self.open.get(&key)?.used.swap(false, Ordering::Relaxed);
        if used {
            self.order.push_back(key);
            return None;
        }
        self.open.remove(&key)
    }

    fn close_one(&mut self) -> Option<Arc<LocalFile>> {
        // After one round all flags are down.
        (0..=self.order.len()).find_map(|_| self.look_at_one())
    }
}
