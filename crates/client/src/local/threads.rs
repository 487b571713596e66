//! The threads of a client that wait for disks of its host: how many there are, and for how long they are waited for.
//!
//! A disk that has kept a reader waiting for too long is left alone for a while, then one reader tries it again; each time that it does not answer it is left alone for
//! longer. So a dead disk costs its readers next to nothing.

use super::file::Miss;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Threads of one client. A dead disk keeps those that have asked it.
const THREADS_MAX: usize = 64;
/// Of these, the threads that wait for one disk.
const THREADS_PER_DEVICE_MAX: usize = 32;
/// Disks remembered; beyond that they share.
const DEVICES_MAX: usize = 64;
/// How long a disk is left alone that has not answered once, and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct DiskThreads {
    places: Arc<Semaphore>,
    devices: Mutex<HashMap<u64, Device>>,
}

#[derive(Debug)]
struct Device {
    places: Arc<Semaphore>,
    /// It has not answered, and is left alone until then.
    rests_until: Option<Instant>,
    pause: Duration,
}

impl Device {
    fn new() -> Device {
        Device { places: Arc::new(Semaphore::new(THREADS_PER_DEVICE_MAX)), rests_until: None, pause: Duration::ZERO }
    }

    /// The right to try for a place; none while it is left alone. Who comes first after that tries for all.
    fn ask(&mut self, patience: Duration, now: Instant) -> Option<Arc<Semaphore>> {
        match &mut self.rests_until {
            Some(until) if now < *until => return None,
            Some(until) => *until = now + patience,
            None => {}
        }
        Some(self.places.clone())
    }

    fn answered(&mut self, in_time: bool, now: Instant) {
        if in_time {
            (self.rests_until, self.pause) = (None, Duration::ZERO);
        } else if self.rests_until.is_none_or(|until| until <= now) {
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.rests_until = Some(now + self.pause);
        }
    }
}

impl DiskThreads {
    pub(crate) fn new() -> DiskThreads {
        DiskThreads { places: Arc::new(Semaphore::new(THREADS_MAX)), devices: Mutex::default() }
    }

    /// Runs `read` on a thread that may wait for the disk of number `device`. [`Miss::Silent`] when it has not come back within `patience`, and at once while the
    /// disk is left alone; the thread's place is taken until it has.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        device: u64,
        patience: Duration,
        read: impl FnOnce() -> Result<T, Miss> + Send + 'static,
    ) -> Result<T, Miss> {
        let of_device = self.device(device, |device| device.ask(patience, Instant::now())).ok_or(Miss::Silent)?;
        let places = self.places.clone();
        let read = async {
            let gone = |_| Miss::Gone;
            let places = (of_device.acquire_owned().await.map_err(gone)?, places.acquire_owned().await.map_err(gone)?);
            let read = tokio::task::spawn_blocking(move || {
                let _places = places;
                read()
            });
            read.await.unwrap_or(Err(Miss::Gone))
        };
        let read = tokio::time::timeout(patience, read).await;
        self.device(device, |device| device.answered(read.is_ok(), Instant::now()));
        read.unwrap_or(Err(Miss::Silent))
    }

    fn device<T>(&self, number: u64, work: impl FnOnce(&mut Device) -> T) -> T {
        let mut devices = self.devices.lock();
        let number = if devices.len() < DEVICES_MAX || devices.contains_key(&number) { number } else { 0 };
        work(devices.entry(number).or_insert_with(Device::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn threads_that_do_not_come_back_are_few_and_not_waited_for() {
        let threads = Arc::new(DiskThreads::new());
        let (hung, blocked) = std::sync::mpsc::channel::<()>();
        let (blocked, begun) = (Arc::new(Mutex::new(blocked)), Arc::new(AtomicUsize::new(0)));
        let readers: Vec<_> = (0..2 * THREADS_MAX)
            .map(|_| {
                let (threads, blocked, begun) = (threads.clone(), blocked.clone(), begun.clone());
                let read = move || {
                    begun.fetch_add(1, SeqCst);
                    let _ = blocked.lock().recv();
                    Ok(())
                };
                tokio::spawn(async move { threads.run(1, Duration::from_millis(100), read).await })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), Err(Miss::Silent));
        }
        assert_eq!(begun.load(SeqCst), THREADS_PER_DEVICE_MAX);
        assert_eq!(threads.run(2, Duration::from_secs(20), || Ok(7)).await, Ok(7), "another disk");
        assert_eq!(threads.run(1, Duration::from_secs(20), || Ok(7)).await, Err(Miss::Silent), "at once");
        drop(hung);
        while threads.run(1, Duration::from_secs(20), || Ok(7)).await != Ok(7) {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_disk_that_does_not_answer_rests_for_longer_each_time() {
        let (mut device, patience, start) = (Device::new(), Duration::from_secs(3), Instant::now());
        assert!(device.ask(patience, start).is_some() && device.ask(patience, start).is_some());
        device.answered(false, start);
        device.answered(false, start);
        assert!(device.ask(patience, start).is_none());
        let after = start + PAUSE_MIN;
        assert!(device.ask(patience, after).is_some());
        assert!(device.ask(patience, after).is_none(), "one tries for all");
        device.answered(false, after + patience);
        assert!(device.ask(patience, after + patience + PAUSE_MIN).is_none());
        let again = after + patience + 2 * PAUSE_MIN;
        assert!(device.ask(patience, again).is_some());
        device.answered(true, again);
        assert!(device.ask(patience, again).is_some() && device.ask(patience, again).is_some());
    }
}
