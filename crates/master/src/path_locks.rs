//! Locks on paths, held while a store is changed: a lock covers the path and all below it.
//!
//! They live in the leader's memory and order its own operations; what a command may do is decided by the state machine alone.
//! Two locks conflict when one path is the other or lies above it. Waiters go in order of arrival among those that conflict, so a
//! rename of a busy directory gets its turn. The number of locks is bounded by the requests that are admitted.

use forebay_base::NsPath;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::Notify;

#[derive(Default)]
struct Table {
    /// For each locked path and each of its ancestors: locks on it (0 or 1), and locks below it.
    held: HashMap<NsPath, Count>,
    waiting: BTreeMap<u64, Vec<NsPath>>,
    arrivals: u64,
}

#[derive(Default)]
struct Count {
    own: usize,
    below: usize,
}

/// The locks of one master.
#[derive(Clone, Default)]
pub(crate) struct PathLocks {
    table: Arc<Mutex<Table>>,
    released: Arc<Notify>,
}

/// Locks held; dropping it releases them.
pub(crate) struct PathGuard {
    locks: PathLocks,
    paths: Vec<NsPath>,
}

impl PathLocks {
    /// Locks all of `paths` at once, so that two askers for the same pair cannot wait for each other. Dropping the future
    /// gives up its turn.
    pub(crate) async fn lock(&self, mut paths: Vec<NsPath>) -> PathGuard {
        // One that lies below another of the same request is covered by it.
        paths.sort();
        paths.dedup_by(|below, above| below.starts_with(above));
        let waiter = self.arrive(paths.clone());
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if waiter.try_take() {
                return PathGuard { locks: self.clone(), paths };
            }
            released.await;
        }
    }

    fn arrive(&self, paths: Vec<NsPath>) -> Waiter<'_> {
        let mut table = self.table.lock();
        let arrival = table.arrivals;
        table.arrivals += 1;
        table.waiting.insert(arrival, paths);
        Waiter { locks: self, arrival }
    }
}

struct Waiter<'a> {
    locks: &'a PathLocks,
    arrival: u64,
}

impl Waiter<'_> {
    fn try_take(&self) -> bool {
        let mut table = self.locks.table.lock();
        let Some(paths) = table.waiting.get(&self.arrival) else {
            return false;
        };
        let blocked = paths.iter().any(|path| table.is_held(path))
            || table.waiting.range(..self.arrival).any(|(_, earlier)| conflict(earlier, paths));
        if blocked {
            return false;
        }
        let paths = table.waiting.remove(&self.arrival).unwrap_or_default();
        paths.iter().for_each(|path| table.add(path));
        true
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let gave_up = self.locks.table.lock().waiting.remove(&self.arrival).is_some();
        if gave_up {
            self.locks.released.notify_waiters();
        }
    }
}

impl Drop for PathGuard {
    fn drop(&mut self) {
        let mut table = self.locks.table.lock();
        self.paths.iter().for_each(|path| table.remove(path));
        drop(table);
        self.locks.released.notify_waiters();
    }
}

fn conflict(some: &[NsPath], others: &[NsPath]) -> bool {
    some.iter().any(|a| others.iter().any(|b| a.starts_with(b) || b.starts_with(a)))
}

impl Table {
    fn is_held(&self, path: &NsPath) -> bool {
        let below = self.held.get(path).is_some_and(|count| count.below > 0);
        below || path.ancestors_and_self().any(|above| self.held.get(&above).is_some_and(|count| count.own > 0))
    }

    fn add(&mut self, path: &NsPath) {
        for above in path.ancestors_and_self() {
            let own = above == *path;
            let count = self.held.entry(above).or_default();
            if own {
                count.own += 1;
            } else {
                count.below += 1;
            }
        }
    }

    fn remove(&mut self, path: &NsPath) {
        for above in path.ancestors_and_self() {
            let own = above == *path;
            let Some(count) = self.held.get_mut(&above) else {
                continue;
            };
            if own {
                count.own -= 1;
            } else {
                count.below -= 1;
            }
            if count.own == 0 && count.below == 0 {
                self.held.remove(&above);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn paths(texts: &[&str]) -> Vec<NsPath> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn try_lock(locks: &PathLocks, texts: &[&str]) -> Option<PathGuard> {
        locks.lock(paths(texts)).now_or_never()
    }

    #[test]
    fn a_lock_covers_what_lies_below() {
        let locks = PathLocks::default();
        let guard = try_lock(&locks, &["/a/b"]).unwrap();
        for (text, free) in [
            ("/a/b", false),
            ("/a/b/c", false),
            ("/a", false),
            ("/", false),
            ("/a/bc", true),
            ("/a/c", true),
            ("/b", true),
        ] {
            assert_eq!(try_lock(&locks, &[text]).is_some(), free, "{text}");
        }
        drop(guard);
        assert!(try_lock(&locks, &["/"]).is_some());
        assert!(locks.table.lock().held.is_empty());
        assert!(locks.table.lock().waiting.is_empty());
    }

    #[test]
    fn a_pair_is_taken_at_once() {
        let locks = PathLocks::default();
        let guard = try_lock(&locks, &["/b", "/a", "/a/x"]).unwrap();
        assert!(try_lock(&locks, &["/c", "/a/x"]).is_none());
        assert!(try_lock(&locks, &["/c"]).is_some());
        drop(guard);
        assert!(try_lock(&locks, &["/a", "/b"]).is_some());
    }

    #[tokio::test]
    async fn a_directory_gets_its_turn_among_its_files() {
        let locks = PathLocks::default();
        let file = try_lock(&locks, &["/d/1"]).unwrap();
        let mut directory = Box::pin(locks.lock(paths(&["/d"])));
        assert!(directory.as_mut().now_or_never().is_none());
        assert!(try_lock(&locks, &["/d/2"]).is_none(), "came later");
        assert!(try_lock(&locks, &["/e"]).is_some(), "has nothing to do with it");
        drop(file);
        let guard = directory.await;
        assert!(try_lock(&locks, &["/d/2"]).is_none());
        drop(guard);
        assert!(try_lock(&locks, &["/d/2"]).is_some());
    }

    #[tokio::test]
    async fn many_tasks_never_overlap() {
        let locks = PathLocks::default();
        let inside = Arc::new(Mutex::new(0u32));
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let (locks, inside) = (locks.clone(), Arc::clone(&inside));
                tokio::spawn(async move {
                    let text = if n % 3 == 0 { "/d".to_owned() } else { "/d/x".to_owned() };
                    let _guard = locks.lock(vec![text.parse().unwrap()]).await;
                    *inside.lock() += 1;
                    tokio::task::yield_now().await;
                    assert_eq!(*inside.lock(), 1);
                    *inside.lock() -= 1;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
