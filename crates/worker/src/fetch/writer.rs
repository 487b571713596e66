//! Writing fetched pages to the page store, on one thread for each file.
//!
//! A file system lets one thread at a time write to a file; more of them only wait for each other. The queue is bounded by the memory that the
//! fetches may hold: who writes has taken the page's share of it before the page came.

use crate::disk_threads::{Disk, DiskThreads};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// No disk that works is slower: so much longer than the patience may a job of so many bytes take.
const BYTES_A_SECOND_MIN: u64 = 1 << 20;
/// After so long a thread lets others have its place, if there are any.
const TURN: Duration = Duration::from_secs(1);

/// Whether a job may ask the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    Write,
    /// The disk does not answer: what was to be written is told not to be.
    GiveUp,
}

/// What is to be done, and how many bytes that writes.
struct Job {
    work: Box<dyn FnOnce(May) + Send>,
    len: usize,
}

impl Job {
    /// Beyond the patience with a disk that has nothing to write.
    fn time(&self) -> Duration {
        Duration::from_millis(self.len as u64 * 1000 / BYTES_A_SECOND_MIN)
    }
}

/// What is to be written of one file.
#[derive(Default)]
pub(crate) struct FileWriter {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// A thread is at it, or about to be.
    is_running: bool,
    /// When the job that is being done began, or the waiting for a thread, and how long it may take beyond the patience.
    job: Option<(Instant, Duration)>,
}

impl Queue {
    fn is_stuck(&self, patience: Duration) -> bool {
        self.job.is_some_and(|(since, time)| since.elapsed() > patience + time)
    }
}

impl FileWriter {
    /// Has `job`, which writes `len` bytes, run after those that were given before, on a thread that may wait; at once, to give up, while that thread is stuck.
    pub(crate) fn run(
        self: &Arc<Self>,
        disks: &Arc<DiskThreads>,
        tasks: &TaskTracker,
        len: usize,
        job: impl FnOnce(May) + Send + 'static,
    ) {
        let mut queue = self.queue.lock();
        if queue.is_stuck(disks.patience()) {
            drop(queue);
            return job(May::GiveUp);
        }
        queue.jobs.push_back(Job { work: Box::new(job), len });
        let was_running = std::mem::replace(&mut queue.is_running, true);
        queue.job.get_or_insert_with(|| (Instant::now(), Duration::ZERO));
        drop(queue);
        if !was_running {
            self.start(disks, tasks);
        }
    }

    /// Gives up what waits behind a job that has been at the disk for longer than `patience`.
    pub(crate) fn give_up_if_stuck(&self, patience: Duration) {
        let jobs = {
            let mut queue = self.queue.lock();
            match queue.is_stuck(patience) {
                true => std::mem::take(&mut queue.jobs),
                false => return,
            }
        };
        jobs.into_iter().for_each(|job| run_one(job, May::GiveUp));
    }

    fn start(self: &Arc<Self>, disks: &Arc<DiskThreads>, tasks: &TaskTracker) {
        let turn = {
            let (this, disks, tasks) = (self.clone(), disks.clone(), tasks.clone());
            let token = tasks.token();
            move || {
                this.turn(&disks, &tasks);
                drop(token);
            }
        };
        match disks.try_place() {
            Some(place) => drop(disks.start(place, turn)),
            None => {
                let disks = disks.clone();
                tasks.spawn(async move {
                    let place = disks.place(Disk::Any).await;
                    drop(disks.start(place, turn));
                });
            }
        }
    }

    /// Does jobs until there are none, or its turn is over.
    fn turn(self: &Arc<Self>, disks: &Arc<DiskThreads>, tasks: &TaskTracker) {
        let started = Instant::now();
        while let Some(job) = self.next() {
            run_one(job, May::Write);
            if started.elapsed() > TURN && self.is_next() {
                return self.start(disks, tasks);
            }
        }
    }

    /// The next job; none: nobody is at it any more.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        let job = queue.jobs.pop_front();
        queue.is_running = job.is_some();
        queue.job = job.as_ref().map(|job| (Instant::now(), job.time()));
        job
    }

    /// Whether there is another job. It is waited for from now on.
    fn is_next(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.job = Some((Instant::now(), Duration::ZERO));
        !queue.jobs.is_empty()
    }
}

/// A job that panics has dropped its claim, which tells all who wait; the others must run all the same.
fn run_one(job: Job, may: May) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| (job.work)(may))).is_err() {
        tracing::error!("writing a page panicked");
    }
}

impl std::fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileWriter({} waiting)", self.queue.lock().jobs.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_in_order_one_at_a_time_and_a_panic_stops_none() {
        let (writer, tasks) = (Arc::new(FileWriter::default()), TaskTracker::new());
        let disks = Arc::new(DiskThreads::new(1, Duration::from_secs(60), |_| true));
        let done = Arc::new(Mutex::new(Vec::new()));
        for number in 0..100 {
            let done = done.clone();
            writer.run(&disks, &tasks, 0, move |may| {
                assert_eq!(may, May::Write);
                let mut done = done.try_lock().expect("nobody else runs");
                done.push(number);
                drop(done);
                assert!(number != 50, "planted by the test");
            });
        }
        tasks.close();
        tasks.wait().await;
        assert_eq!(*done.lock(), (0..100).collect::<Vec<_>>());
        assert!(!writer.queue.lock().is_running);
    }

    #[tokio::test]
    async fn what_waits_behind_a_disk_that_does_not_answer_is_given_up() {
        const PATIENCE: Duration = Duration::from_millis(20);
        let (writer, tasks) = (Arc::new(FileWriter::default()), TaskTracker::new());
        let disks = Arc::new(DiskThreads::new(1, PATIENCE, |_| true));
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = || {
            let told = told.clone();
            move |may| told.lock().push(may)
        };
        let (disk, blocked) = std::sync::mpsc::channel::<()>();
        writer.run(&disks, &tasks, 0, move |_| {
            let _ = blocked.recv();
        });
        writer.run(&disks, &tasks, 0, tell());
        while told.lock().is_empty() {
            writer.give_up_if_stuck(PATIENCE);
            tokio::task::yield_now().await;
        }
        writer.run(&disks, &tasks, 0, tell());
        assert_eq!(*told.lock(), [May::GiveUp, May::GiveUp], "later ones at once");
        drop(disk);
        while told.lock().last() != Some(&May::Write) {
            writer.run(&disks, &tasks, 0, tell());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_slow_disk_has_the_time_that_its_bytes_take() {
        const PATIENCE: Duration = Duration::from_millis(20);
        let (writer, tasks) = (Arc::new(FileWriter::default()), TaskTracker::new());
        let disks = Arc::new(DiskThreads::new(1, PATIENCE, |_| true));
        let (disk, blocked) = std::sync::mpsc::channel::<()>();
        let (begins, begun) = std::sync::mpsc::channel::<()>();
        // A minute at the least speed.
        writer.run(&disks, &tasks, 60 << 20, move |_| {
            let _ = begins.send(());
            let _ = blocked.recv();
        });
        tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
        let since = Instant::now();
        let (tell, told) = std::sync::mpsc::channel();
        writer.run(&disks, &tasks, 0, move |may| tell.send(may).unwrap());
        while since.elapsed() < 3 * PATIENCE {
            writer.give_up_if_stuck(PATIENCE);
            tokio::task::yield_now().await;
        }
        drop(disk);
        assert_eq!(tokio::task::spawn_blocking(move || told.recv()).await.unwrap(), Ok(May::Write));
    }
}
