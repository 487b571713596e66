//! The one thread that owns the state machine.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::OpenError;
use crate::state_machine::{Batch, Entry, StateMachine, StateMachineError};

/// Something for the thread to do, and whom to tell.
pub(crate) enum Task {
    Apply { entries: Vec<Entry>, applied: Bytes, done: Answer<Vec<Bytes>> },
    Checkpoint { target: PathBuf, done: Answer<Option<Bytes>> },
    Install { source: PathBuf, done: Answer<Option<Bytes>> },
    Stop,
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, StateMachineError>>;

/// A handle on the thread.
pub(crate) struct ApplyThread {
    tasks: Sender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ApplyThread {
    /// Gives the state machine to a new thread.
    pub(crate) fn spawn(machine: Box<dyn StateMachine>) -> Result<ApplyThread, OpenError> {
        let (tasks, queue) = channel();
        let builder = std::thread::Builder::new().name("raft-apply".to_owned());
        let thread = builder
            .spawn(move || run(machine, &queue))
            .map_err(|e| OpenError::Start { reason: format!("cannot start a thread: {e}") })?;
        Ok(ApplyThread { tasks, thread: Mutex::new(Some(thread)) })
    }

    /// Has the thread do something and waits for the answer.
    pub(crate) async fn ask<T>(&self, task: impl FnOnce(Answer<T>) -> Task) -> Result<T, StateMachineError> {
        let (done, answer) = oneshot::channel();
        let gone = || StateMachineError::new("the applying thread has ended");
        self.tasks.send(task(done)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Lets the thread finish what it has and end; the state machine is dropped then.
    pub(crate) fn stop(&self) {
        // A thread that has ended already needs no telling.
        let _ = self.tasks.send(Task::Stop);
    }

    /// Waits for the thread's end, after [`ApplyThread::stop`].
    pub(crate) fn join(&self) {
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the state machine panicked");
        }
    }
}

fn run(mut machine: Box<dyn StateMachine>, tasks: &Receiver<Task>) {
    for task in tasks {
        // An asker that is gone needs no answer.
        match task {
            Task::Apply { entries, applied, done } => drop(done.send(apply(machine.as_mut(), &entries, &applied))),
            Task::Checkpoint { target, done } => drop(done.send(machine.checkpoint(&target))),
            Task::Install { source, done } => {
                drop(done.send(machine.install(&source).and_then(|()| machine.applied())))
            }
            Task::Stop => return,
        }
    }
}

fn apply(machine: &mut dyn StateMachine, entries: &[Entry], applied: &Bytes) -> Result<Vec<Bytes>, StateMachineError> {
    let start = Instant::now();
    let replies = machine.apply(Batch { entries, applied })?;
    metrics::histogram!("forebay_raft_apply_seconds").record(start.elapsed());
    metrics::histogram!("forebay_raft_entries_per_apply").record(entries.len() as f64);
    if replies.len() != entries.len() {
        let (got, wanted) = (replies.len(), entries.len());
        return Err(StateMachineError::new(format!("it gave {got} replies to {wanted} commands")));
    }
    Ok(replies)
}
