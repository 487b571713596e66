//! Tasks, time and chance of the simulation where a thread runs one, and tokio's elsewhere.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::OptionalSend;
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::Instant;

/// What openraft runs on.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

/// Waits for the end of a task.
pub(crate) enum JoinHandle<T> {
    Machine(tokio::task::JoinHandle<T>),
    Host(forebay_vtime::JoinHandle<T>),
}

/// The task has not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct JoinError {
    reason: String,
    panicked: bool,
}

/// Waits for a time.
pub(crate) enum Sleep {
    Machine(Pin<Box<tokio::time::Sleep>>),
    Host(forebay_vtime::Sleep),
}

/// Waits for a future, and no longer than for a time.
pub(crate) struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

/// The time has passed.
#[derive(Debug, thiserror::Error)]
#[error("the deadline has passed")]
pub(crate) struct Elapsed;

/// A random number.
pub(crate) fn draw() -> u64 {
    match forebay_vtime::is_running() {
        true => forebay_vtime::random(),
        false => RandomState::new().hash_one("forebay"),
    }
}

pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    match forebay_vtime::is_running() {
        true => JoinHandle::Host(forebay_vtime::spawn(task)),
        false => JoinHandle::Machine(tokio::spawn(task)),
    }
}

/// On a host it takes as long as work takes there, and then happens in one moment.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match forebay_vtime::is_running() {
        true => JoinHandle::Host(forebay_vtime::spawn(async move {
            forebay_vtime::sleep(forebay_vtime::Host::current().work_takes()).await;
            work()
        })),
        false => JoinHandle::Machine(tokio::task::spawn_blocking(work)),
    }
}

pub(crate) fn sleep(time: Duration) -> Sleep {
    match forebay_vtime::is_running() {
        true => Sleep::Host(forebay_vtime::sleep(time)),
        false => Sleep::Machine(Box::pin(tokio::time::sleep(time))),
    }
}

pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    match forebay_vtime::is_running() {
        true => Sleep::Host(forebay_vtime::sleep_until(deadline.on_host())),
        false => Sleep::Machine(Box::pin(tokio::time::sleep_until(deadline.on_machine()))),
    }
}

pub(crate) fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    Timeout { future: Box::pin(future), sleep: sleep(time) }
}

impl<T> JoinHandle<T> {
    pub(crate) fn abort(&self) {
        match self {
            JoinHandle::Machine(task) => task.abort(),
            JoinHandle::Host(task) => task.abort(),
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            JoinHandle::Machine(task) => {
                Pin::new(task).poll(context).map_err(|e| JoinError { reason: e.to_string(), panicked: e.is_panic() })
            }
            JoinHandle::Host(task) => {
                Pin::new(task).poll(context).map_err(|e| JoinError { reason: e.to_string(), panicked: false })
            }
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Sleep::Machine(sleep) => sleep.as_mut().poll(context),
            Sleep::Host(sleep) => Pin::new(sleep).poll(context),
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut self.sleep).poll(context).map(|()| Err(Elapsed))
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinHandle")
    }
}

impl openraft::AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        sleep(duration)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Instant, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: sleep_until(deadline) }
    }

    fn is_panic(error: &JoinError) -> bool {
        error.panicked
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(draw())
    }

    fn new(threads: usize) -> Runtime {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}
