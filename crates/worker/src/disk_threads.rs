//! The threads that wait for disks: how many there are, and how long a request waits for one.
//!
//! A thread that asks a disk comes back when the disk answers, which a dead one never does. So each has a place, which it keeps for as long as it really runs,
//! whoever has stopped waiting for it. A request waits [`crate::Limits::disk_patience`] at most, for its place and its thread together, and gets the bytes
//! elsewhere then. A thread that has been away for longer is *lost*: others may have its place, up to [`LOST_MAX`], so that one dead disk does not
//! stop the others. The page store takes the directory out of use meanwhile.

use crate::error::RequestError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Threads that wait for any disk. With [`LOST_MAX`] half of those that the process may have for all waiting (512).
pub(crate) const THREADS_MAX: usize = 128;
/// Of these, the threads that read cached bytes of one directory: more do not make a disk faster.
pub(crate) const THREADS_PER_DIR_MAX: usize = 32;
/// Threads whose places others have got.
pub(crate) const LOST_MAX: usize = 128;

/// Which disk a thread will wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// That of the page store's directory of this number.
    Of(usize),
    /// It finds out, or several.
    Any,
}

/// Why the disk's answer does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiskError {
    /// Not within the patience.
    #[error("the disk of the cache does not answer")]
    NoAnswer,
    /// A defect of ours.
    #[error("work at the cache's disk panicked")]
    Panicked,
}

impl From<DiskError> for RequestError {
    fn from(error: DiskError) -> RequestError {
        match error {
            DiskError::NoAnswer => RequestError::Unavailable(error.to_string()),
            DiskError::Panicked => RequestError::Internal(error.to_string()),
        }
    }
}

/// The threads of a worker.
pub(crate) struct DiskThreads {
    /// Whether the directory of a number is in use.
    is_in_use: Box<dyn Fn(usize) -> bool + Send + Sync>,
    places: Arc<Semaphore>,
    of_dirs: Vec<Arc<Semaphore>>,
    running: Arc<Running>,
    patience: Duration,
}

/// The right to have one thread wait.
#[derive(Debug)]
pub(crate) struct Place {
    _any: OwnedSemaphorePermit,
    _of_dir: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Running {
    threads: Mutex<HashMap<u64, Thread>>,
    number: AtomicU64,
}

#[derive(Debug)]
struct Thread {
    since: Instant,
    /// None: it is lost.
    place: Option<Place>,
}

impl DiskThreads {
    /// For a page store of so many directories.
    pub(crate) fn new(
        dirs: usize,
        patience: Duration,
        is_in_use: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> DiskThreads {
        DiskThreads {
            is_in_use: Box::new(is_in_use),
            places: Arc::new(Semaphore::new(THREADS_MAX)),
            of_dirs: (0..dirs).map(|_| Arc::new(Semaphore::new(THREADS_PER_DIR_MAX))).collect(),
            running: Arc::default(),
            patience,
        }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Runs `work` on a thread that may wait, and waits for it as long as the patience lasts. Work that has begun goes on without its asker.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        disk: Disk,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        let done = tokio::time::timeout(self.patience, self.run_to_end(disk, work)).await;
        done.unwrap_or(Err(DiskError::NoAnswer))
    }

    /// Like [`DiskThreads::run`], with all the patience in the world: for what nobody waits for.
    pub(crate) async fn run_to_end<T: Send + 'static>(
        &self,
        disk: Disk,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        let place = self.place(disk).await;
        // It may have fallen out of use meanwhile.
        if matches!(disk, Disk::Of(dir) if !(self.is_in_use)(dir)) {
            return Err(DiskError::NoAnswer);
        }
        self.start(place, work).await.map_err(|_| DiskError::Panicked)
    }

    /// Waits for a place.
    pub(crate) async fn place(&self, disk: Disk) -> Place {
        let closed = "nobody closes the semaphores";
        // The directory's first: who waits for a slow disk keeps nobody from another.
        let of_dir = match self.of_dir(disk) {
            Some(places) => Some(places.acquire_owned().await.expect(closed)),
            None => None,
        };
        Place { _any: self.places.clone().acquire_owned().await.expect(closed), _of_dir: of_dir }
    }

    /// A place, if one is free.
    pub(crate) fn try_place(&self) -> Option<Place> {
        Some(Place { _any: self.places.clone().try_acquire_owned().ok()?, _of_dir: None })
    }

    fn of_dir(&self, disk: Disk) -> Option<Arc<Semaphore>> {
        match disk {
            Disk::Of(dir) => self.of_dirs.get(dir).cloned(),
            Disk::Any => None,
        }
    }

    /// Runs `work` on a thread of its own, which has the place until it is back or lost.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let away = self.running.enter(place);
        tokio::task::spawn_blocking(move || {
            let _away = away;
            work()
        })
    }

    /// Gives the places of lost threads to others. To be called about as often as the patience lasts.
    pub(crate) fn find_lost(&self) {
        let mut threads = self.running.threads.lock();
        let mut lost = threads.values().filter(|thread| thread.place.is_none()).count();
        for thread in threads.values_mut() {
            if lost < LOST_MAX && thread.since.elapsed() > self.patience && thread.place.take().is_some() {
                lost += 1;
            }
        }
    }
}

impl std::fmt::Debug for DiskThreads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskThreads({} at work)", self.running.threads.lock().len())
    }
}

impl Running {
    fn enter(self: &Arc<Self>, place: Place) -> Away {
        let number = self.number.fetch_add(1, Relaxed);
        self.threads.lock().insert(number, Thread { since: Instant::now(), place: Some(place) });
        Away { running: self.clone(), number }
    }
}

/// A thread that waits; dropping it ends that.
struct Away {
    running: Arc<Running>,
    number: u64,
}

impl Drop for Away {
    fn drop(&mut self) {
        self.running.threads.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn threads_that_do_not_come_back_are_bounded_and_hold_up_others_for_a_while_only() {
        let disks = Arc::new(DiskThreads::new(2, Duration::from_millis(50), |_| true));
        let (hung, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let begun = Arc::new(AtomicU64::new(0));
        let hang = |disk| {
            let (disks, blocked, begun) = (disks.clone(), blocked.clone(), begun.clone());
            tokio::spawn(async move {
                let work = move || {
                    begun.fetch_add(1, Relaxed);
                    let _ = blocked.lock().recv();
                };
                disks.run(disk, work).await
            })
        };
        let askers: Vec<_> = (0..3 * THREADS_PER_DIR_MAX).map(|_| hang(Disk::Of(0))).collect();
        for asker in askers {
            assert_eq!(asker.await.unwrap(), Err(DiskError::NoAnswer));
        }
        assert_eq!(begun.load(Relaxed), THREADS_PER_DIR_MAX as u64);
        assert_eq!(disks.run(Disk::Of(1), || 7).await, Ok(7), "another disk works");
        // Until no more are given up: those whom nobody waits for count on.
        for _ in 0..20 {
            tokio::time::timeout(Duration::from_secs(20), async {
                for asker in (0..THREADS_MAX).map(|_| hang(Disk::Any)).collect::<Vec<_>>() {
                    let _ = asker.await;
                }
            })
            .await
            .unwrap();
            disks.find_lost();
        }
        assert_eq!(begun.load(Relaxed), (THREADS_MAX + LOST_MAX) as u64);
        assert_eq!(disks.run(Disk::Any, || 7).await, Err(DiskError::NoAnswer));
        drop(hung);
        while disks.run(Disk::Of(0), || 7).await != Ok(7) {
            tokio::task::yield_now().await;
        }
        while disks.places.available_permits() < THREADS_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(disks.of_dirs[0].available_permits(), THREADS_PER_DIR_MAX);
    }
}
