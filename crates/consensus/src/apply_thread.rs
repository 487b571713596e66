//! The one thread that owns the state machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::OpenError;
use crate::state_machine::{Batch, Entry, StateMachine, StateMachineError};
use crate::worker::{Work, Worker};

/// Something for the thread to do, and whom to tell.
pub(crate) enum Task {
    Apply { entries: Vec<Entry>, applied: Bytes, done: Answer<Vec<Bytes>> },
    Checkpoint { target: PathBuf, done: Answer<Option<Bytes>> },
    Install { source: PathBuf, done: Answer<Option<Bytes>> },
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, StateMachineError>>;

/// A handle on the thread.
pub(crate) struct ApplyThread {
    worker: Worker<Task>,
    cluster_version: ClusterVersion,
}

/// Tells the version of behaviour that what was applied calls for, also to those who must not keep the state machine open.
#[derive(Clone)]
pub(crate) struct ClusterVersion(Arc<AtomicU32>);

impl ClusterVersion {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl ApplyThread {
    /// Gives the state machine to a new thread.
    pub(crate) fn spawn(machine: Box<dyn StateMachine>) -> Result<ApplyThread, OpenError> {
        let cluster_version = ClusterVersion(Arc::new(AtomicU32::new(machine.cluster_version())));
        let owner = Owner { machine, cluster_version: cluster_version.clone() };
        Ok(ApplyThread { worker: Worker::start("raft-apply", owner)?, cluster_version })
    }

    /// The version of behaviour that what was applied calls for.
    pub(crate) fn cluster_version(&self) -> ClusterVersion {
        self.cluster_version.clone()
    }

    /// Has the thread do something and waits for the answer.
    pub(crate) async fn ask<T>(&self, task: impl FnOnce(Answer<T>) -> Task) -> Result<T, StateMachineError> {
        let (done, answer) = oneshot::channel();
        let gone = || StateMachineError::new("the applying thread has ended");
        self.worker.send(task(done)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Lets the thread finish what it has and end; the state machine is dropped then.
    pub(crate) fn stop(&self) {
        self.worker.close();
    }

    /// Waits for the thread's end, after [`ApplyThread::stop`].
    pub(crate) fn join(&self) {
        self.worker.join();
    }
}

/// Who lets go of the last handle waits until the state machine is closed. A process that ended beside a store that is still
/// being closed would tear the store's globals down under it, and abort.
impl Drop for ApplyThread {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

struct Owner {
    machine: Box<dyn StateMachine>,
    cluster_version: ClusterVersion,
}

impl Owner {
    /// Before anybody hears what was done.
    fn note_version(&self) {
        self.cluster_version.0.store(self.machine.cluster_version(), Ordering::Release);
    }
}

impl Work for Owner {
    type Job = Task;

    fn work(&mut self, task: Task, _: &mut dyn FnMut() -> Option<Task>) -> Option<Task> {
        let machine = self.machine.as_mut();
        // An asker that is gone needs no answer.
        match task {
            Task::Apply { entries, applied, done } => {
                let replies = apply(machine, &entries, &applied);
                self.note_version();
                drop(done.send(replies));
            }
            Task::Checkpoint { target, done } => drop(done.send(machine.checkpoint(&target))),
            Task::Install { source, done } => {
                let installed = machine.install(&source).and_then(|()| machine.applied());
                self.note_version();
                drop(done.send(installed));
            }
        }
        None
    }
}

fn apply(machine: &mut dyn StateMachine, entries: &[Entry], applied: &Bytes) -> Result<Vec<Bytes>, StateMachineError> {
    let start = Instant::now();
    let replies = machine.apply(Batch { entries, applied })?;
    ::metrics::histogram!(crate::metrics::APPLY_SECONDS).record(start.elapsed());
    ::metrics::histogram!(crate::metrics::ENTRIES_PER_APPLY).record(entries.len() as f64);
    if replies.len() != entries.len() {
        let (got, wanted) = (replies.len(), entries.len());
        return Err(StateMachineError::new(format!("it gave {got} replies to {wanted} commands")));
    }
    Ok(replies)
}
