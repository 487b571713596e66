//! Writing fetched pages to the page store, on one thread for each file.
//!
//! A file system lets one thread at a time write to a file; more of them only wait for each other. The queue is bounded by the memory that the
//! fetches may hold: who writes has taken the page's share of it before the page came.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

type Job = Box<dyn FnOnce() + Send>;

/// What is to be written of one file.
#[derive(Default)]
pub(crate) struct FileWriter {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// A thread is at it.
    is_running: bool,
}

impl FileWriter {
    /// Has `job` run after those that were given before, on a thread that may wait.
    pub(crate) fn run(self: &Arc<Self>, tasks: &TaskTracker, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.queue.lock();
        queue.jobs.push_back(Box::new(job));
        if !std::mem::replace(&mut queue.is_running, true) {
            let this = self.clone();
            tasks.spawn_blocking(move || while this.run_one() {});
        }
    }

    /// False when there is nothing left.
    fn run_one(&self) -> bool {
        let job = {
            let mut queue = self.queue.lock();
            let job = queue.jobs.pop_front();
            queue.is_running = job.is_some();
            job
        };
        let Some(job) = job else {
            return false;
        };
        // A job that panics has dropped its claim, which tells all who wait; the others must run all the same.
        if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("writing a page panicked");
        }
        true
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
        let done = Arc::new(Mutex::new(Vec::new()));
        for number in 0..100 {
            let done = done.clone();
            writer.run(&tasks, move || {
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
}
