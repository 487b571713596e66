//! Tasks, and waiting for their ends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::executor;
use crate::host::{Host, current};

/// Waits for the end of a task; dropping it lets the task go on.
pub struct JoinHandle<T> {
    task: u64,
    end: oneshot::Receiver<T>,
}

/// The task was ended before it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the task was ended")
    }
}

impl std::error::Error for Cancelled {}

/// Runs a task on the current host.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    spawn_on(&current(), task)
}

pub(crate) fn spawn_on<T: Send + 'static>(
    host: &Host,
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let (tell, end) = oneshot::channel();
    if !host.is_alive() {
        return JoinHandle { task: 0, end };
    }
    let task = executor::current().spawn(
        host,
        Box::pin(async move {
            let value = task.await;
            // Nobody may wait for it.
            let _ = tell.send(value);
        }),
    );
    JoinHandle { task, end }
}

impl<T> JoinHandle<T> {
    /// Ends the task where it waits.
    pub fn abort(&self) {
        if self.task != 0
            && let Some(executor) = executor::if_any()
        {
            executor.abort(self.task);
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.end).poll(context).map_err(|_| Cancelled)
    }
}
