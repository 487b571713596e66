//! One that does jobs in order, on a thread of its own; in a simulation, as a task of its host.

#[cfg(feature = "simulation")]
mod task;
mod thread;

use parking_lot::Mutex;

use crate::error::OpenError;

/// What is to be done with the jobs.
pub(crate) trait Work: Send + 'static {
    /// One job.
    type Job: Send + 'static;

    /// Does `job`, together with as many of those waiting behind it as it likes: `more` gives the next one, if there is one now. Gives back
    /// the one that it took and does not want yet.
    fn work(&mut self, job: Self::Job, more: &mut dyn FnMut() -> Option<Self::Job>) -> Option<Self::Job>;
}

/// A handle on one. Who lets go of it lets what was asked for be finished, and does not wait.
pub(crate) struct Worker<J> {
    /// None once it takes nothing more.
    jobs: Mutex<Option<Jobs<J>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

enum Jobs<J> {
    Thread(std::sync::mpsc::Sender<J>),
    #[cfg(feature = "simulation")]
    Task(tokio::sync::mpsc::UnboundedSender<J>),
}

impl<J: Send + 'static> Worker<J> {
    /// Starts one.
    pub(crate) fn start(name: &str, work: impl Work<Job = J>) -> Result<Worker<J>, OpenError> {
        #[cfg(feature = "simulation")]
        if forebay_vtime::is_running() {
            return Ok(Worker { jobs: Mutex::new(Some(Jobs::Task(task::start(work)))), thread: Mutex::new(None) });
        }
        let (jobs, thread) = thread::start(name, work)?;
        Ok(Worker { jobs: Mutex::new(Some(Jobs::Thread(jobs))), thread: Mutex::new(Some(thread)) })
    }

    /// Asks for a job; gives it back when none is taken any more.
    pub(crate) fn send(&self, job: J) -> Result<(), J> {
        match self.jobs.lock().as_ref() {
            Some(Jobs::Thread(jobs)) => jobs.send(job).map_err(|e| e.0),
            #[cfg(feature = "simulation")]
            Some(Jobs::Task(jobs)) => jobs.send(job).map_err(|e| e.0),
            None => Err(job),
        }
    }

    /// Takes nothing more; what was asked for is done.
    pub(crate) fn close(&self) {
        self.jobs.lock().take();
    }

    /// Waits for the end, after [`Worker::close`]. A task of a simulation cannot be waited for: it ends by itself, or with its host.
    pub(crate) fn join(&self) {
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of a member panicked");
        }
    }
}
