//! A machine, or a process, of the simulation.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::chance::below;
use crate::clock::Clock;
use crate::executor;
use crate::task::{JoinHandle, spawn_on};

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// One life of a host, from its start to its death. Clones are the same one.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    name: String,
    number: u64,
    alive: AtomicBool,
    clock: Mutex<Clock>,
    held_until_ns: AtomicU64,
    work_us_max: AtomicU64,
}

impl Host {
    /// A new one, whose clock shows a time of its own and runs true.
    pub fn new(name: &str) -> Host {
        let executor = executor::current();
        let shows = Duration::from_secs(1_000 + executor.chance(|chance| chance.below(1_000)));
        Host(Arc::new(Inner {
            name: name.to_owned(),
            number: executor.number_host(),
            alive: AtomicBool::new(true),
            clock: Mutex::new(Clock::new(executor.now_ns(), shows)),
            held_until_ns: AtomicU64::new(0),
            work_us_max: AtomicU64::new(0),
        }))
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// Ends everything on it. What it runs at this moment runs to its next wait.
    pub fn kill(&self) {
        self.0.alive.store(false, Ordering::Relaxed);
        executor::current().abort_all_of(self);
    }

    /// Whether it was not killed yet.
    pub fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Relaxed)
    }

    /// The time on its clock.
    pub fn now(&self) -> Duration {
        self.0.clock.lock().shows(executor::current().now_ns())
    }

    pub(crate) fn true_at(&self, local: Duration) -> u64 {
        self.0.clock.lock().true_at(local)
    }

    /// From now on its clock shows so many microseconds more with each true second.
    pub fn set_rate_ppm(&self, rate_ppm: u64) {
        let executor = executor::current();
        self.0.clock.lock().set_rate(executor.now_ns(), rate_ppm);
        executor.wake_sleepers_of(self.number());
    }

    /// Its clock shows so much more at once.
    pub fn jump(&self, by: Duration) {
        self.0.clock.lock().jump(by);
        executor::current().wake_sleepers_of(self.number());
    }

    /// Nothing on it goes on for so much true time, while its clock does: a process that is stopped, a machine that swaps.
    pub fn hold(&self, time: Duration) {
        let executor = executor::current();
        let until = executor.now_ns() + time.as_nanos() as u64;
        self.0.held_until_ns.store(until, Ordering::Relaxed);
        executor.set_timer(until, self.number(), Waker::noop().clone());
    }

    pub(crate) fn held_until_ns(&self) -> u64 {
        self.0.held_until_ns.load(Ordering::Relaxed)
    }

    /// What goes to a disk, or takes a thread, takes up to so long here.
    pub fn set_work_max(&self, time: Duration) {
        self.0.work_us_max.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// How long the next such thing takes.
    pub fn work_takes(&self) -> Duration {
        Duration::from_micros(below(self.0.work_us_max.load(Ordering::Relaxed) + 1))
    }

    /// The host of the task that asks.
    pub fn current() -> Host {
        current()
    }

    /// Runs a task on it. On a dead one nothing happens.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        spawn_on(self, task)
    }

    /// Does something as a task on it would.
    pub fn within<T>(&self, what: impl FnOnce() -> T) -> T {
        let before = CURRENT.with_borrow_mut(|current| current.replace(self.clone()));
        let _back = Back(before);
        what()
    }
}

/// Puts the host back that was current before.
struct Back(Option<Host>);

impl Drop for Back {
    fn drop(&mut self) {
        let before = self.0.take();
        // What it replaces is dropped after the borrow.
        let _ = CURRENT.with_borrow_mut(|current| std::mem::replace(current, before));
    }
}

pub(crate) fn current() -> Host {
    CURRENT.with_borrow(Clone::clone).expect("this is asked on a host only")
}

/// The run has ended.
pub(crate) fn leave() {
    let _ = CURRENT.with_borrow_mut(Option::take);
}
