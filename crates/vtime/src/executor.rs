//! Polls the tasks, and lets time pass.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::chance::Chance;
use crate::host::{self, Host};

/// One poll takes a microsecond of true time, so that no two events share a moment and whoever spins sees time pass.
const POLL_NS: u64 = 1_000;

/// The task that [`run`] was given.
const MAIN: u64 = 0;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Executor>>> = const { RefCell::new(None) };
}

/// What all hosts of a run share.
pub(crate) struct Executor {
    state: Mutex<State>,
}

struct State {
    now_ns: u64,
    polls: u64,
    chance: Chance,
    tasks: BTreeMap<u64, Entry>,
    tasks_made: u64,
    /// Ordered, so that it does not matter in which order they were woken.
    ready: BTreeSet<u64>,
    timers: BTreeMap<TimerKey, Timer>,
    timers_made: u64,
    hosts_made: u64,
    /// Futures of the dead, to be dropped between two polls.
    dead: Vec<Task>,
}

struct Entry {
    host: Host,
    /// None while it is polled.
    task: Option<Task>,
    waker: Waker,
}

/// When, and in the order of being set.
pub(crate) type TimerKey = (u64, u64);

struct Timer {
    host: u64,
    waker: Waker,
}

struct TaskWaker {
    executor: Weak<Executor>,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if let Some(executor) = self.executor.upgrade() {
            let mut state = executor.state.lock();
            if self.id == MAIN || state.tasks.contains_key(&self.id) {
                state.ready.insert(self.id);
            }
        }
    }
}

/// Whether this thread runs an executor of this kind.
pub fn is_running() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// True time since the start of the run.
pub fn elapsed() -> Duration {
    Duration::from_nanos(current().now_ns())
}

/// Polls so far: a number that grows with each thing that happens.
pub fn polls() -> u64 {
    current().state.lock().polls
}

/// Runs `main` to its end, and everything that it spawns no further than that.
///
/// # Panics
/// When nobody can ever go on, and when one is begun inside of another one.
pub fn run<T>(seed: u64, main: impl Future<Output = T>) -> T {
    assert!(!is_running(), "this thread runs a simulation already");
    let executor = Arc::new(Executor::new(seed));
    CURRENT.with_borrow_mut(|current| *current = Some(executor.clone()));
    let _end = End(executor.clone());
    let outside = Host::new("outside");
    let mut main = pin!(main);
    let waker = executor.waker(MAIN);
    loop {
        executor.bury();
        match executor.next() {
            Next::Main => {
                let polled = outside.within(|| main.as_mut().poll(&mut Context::from_waker(&waker)));
                if let Poll::Ready(value) = polled {
                    return value;
                }
            }
            Next::Task { id, host, task, waker } => executor.poll(id, &host, task, &waker),
        }
    }
}

enum Next {
    Main,
    Task { id: u64, host: Host, task: Task, waker: Waker },
}

impl Executor {
    fn new(seed: u64) -> Executor {
        Executor {
            state: Mutex::new(State {
                now_ns: 0,
                polls: 0,
                chance: Chance::new(seed),
                tasks: BTreeMap::new(),
                tasks_made: MAIN,
                ready: BTreeSet::from([MAIN]),
                timers: BTreeMap::new(),
                timers_made: 0,
                hosts_made: 0,
                dead: Vec::new(),
            }),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.state.lock().now_ns
    }

    pub(crate) fn chance<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.state.lock().chance)
    }

    pub(crate) fn number_host(&self) -> u64 {
        let mut state = self.state.lock();
        state.hosts_made += 1;
        state.hosts_made
    }

    fn waker(self: &Arc<Self>, id: u64) -> Waker {
        Arc::new(TaskWaker { executor: Arc::downgrade(self), id }).into()
    }

    /// Takes a task in; it is polled soon.
    pub(crate) fn spawn(self: &Arc<Self>, host: &Host, task: Task) -> u64 {
        let mut state = self.state.lock();
        state.tasks_made += 1;
        let id = state.tasks_made;
        let waker = self.waker(id);
        state.tasks.insert(id, Entry { host: host.clone(), task: Some(task), waker });
        state.ready.insert(id);
        id
    }

    /// Ends a task where it waits.
    pub(crate) fn abort(&self, id: u64) {
        let mut state = self.state.lock();
        state.ready.remove(&id);
        if let Some(entry) = state.tasks.remove(&id) {
            state.dead.extend(entry.task);
        }
    }

    /// Ends all tasks of a host where they wait.
    pub(crate) fn abort_all_of(&self, host: &Host) {
        let mut state = self.state.lock();
        let theirs: Vec<u64> =
            state.tasks.iter().filter(|(_, entry)| entry.host.number() == host.number()).map(|(id, _)| *id).collect();
        for id in theirs {
            state.ready.remove(&id);
            if let Some(entry) = state.tasks.remove(&id) {
                state.dead.extend(entry.task);
            }
        }
    }

    /// Wakes somebody at a true time.
    pub(crate) fn set_timer(&self, at_ns: u64, host: u64, waker: Waker) -> TimerKey {
        let mut state = self.state.lock();
        state.timers_made += 1;
        let key = (at_ns, state.timers_made);
        state.timers.insert(key, Timer { host, waker });
        key
    }

    pub(crate) fn unset_timer(&self, key: TimerKey) {
        self.state.lock().timers.remove(&key);
    }

    /// Wakes all sleepers of a host: its clock has changed, and they look anew.
    pub(crate) fn wake_sleepers_of(&self, host: u64) {
        let wakers: Vec<Waker> = {
            let mut state = self.state.lock();
            let keys: Vec<TimerKey> =
                state.timers.iter().filter(|(_, timer)| timer.host == host).map(|(key, _)| *key).collect();
            keys.iter().filter_map(|key| state.timers.remove(key)).map(|timer| timer.waker).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Drops what is left of the dead, which may make more of them.
    fn bury(&self) {
        loop {
            let dead = std::mem::take(&mut self.state.lock().dead);
            if dead.is_empty() {
                return;
            }
            drop(dead);
        }
    }

    /// Chooses who is polled next, letting time pass until somebody can be.
    fn next(&self) -> Next {
        loop {
            self.wake_due();
            let mut state = self.state.lock();
            let now = state.now_ns;
            let able: Vec<u64> = state.ready.iter().copied().filter(|id| state.is_able(*id, now)).collect();
            let Some(id) = state.chance.pick(&able).copied() else {
                let due = state.timers.keys().next().expect("nobody can ever go on: the simulation is stuck").0;
                state.now_ns = state.now_ns.max(due);
                continue;
            };
            state.ready.remove(&id);
            state.now_ns += POLL_NS;
            state.polls += 1;
            if id == MAIN {
                return Next::Main;
            }
            let entry = state.tasks.get_mut(&id).expect("only tasks that there are can be ready");
            let task = entry.task.take().expect("a task is polled by nobody else");
            return Next::Task { id, host: entry.host.clone(), task, waker: entry.waker.clone() };
        }
    }

    fn wake_due(&self) {
        loop {
            let timer = {
                let mut state = self.state.lock();
                let now = state.now_ns;
                match state.timers.first_key_value() {
                    Some((&(at, _), _)) if at <= now => state.timers.pop_first(),
                    _ => return,
                }
            };
            if let Some((_, timer)) = timer {
                timer.waker.wake();
            }
        }
    }

    fn poll(&self, id: u64, host: &Host, mut task: Task, waker: &Waker) {
        let polled = host.within(|| task.as_mut().poll(&mut Context::from_waker(waker)));
        let mut state = self.state.lock();
        match (polled, state.tasks.get_mut(&id)) {
            (Poll::Pending, Some(entry)) => entry.task = Some(task),
            // It has ended, or was ended.
            _ => {
                state.tasks.remove(&id);
                state.ready.remove(&id);
                state.dead.push(task);
            }
        }
    }
}

impl State {
    /// Its host is not held up.
    fn is_able(&self, id: u64, now_ns: u64) -> bool {
        id == MAIN || self.tasks.get(&id).is_some_and(|entry| entry.host.held_until_ns() <= now_ns)
    }
}

/// Ends the run: all that is left is dropped while the executor can still be asked.
struct End(Arc<Executor>);

impl Drop for End {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.0.state.lock().tasks);
        if std::thread::panicking() {
            // What they would do when dropped can only hide the first panic.
            std::mem::forget(left);
        } else {
            drop(left);
            self.0.bury();
        }
        self.0.state.lock().timers.clear();
        CURRENT.with_borrow_mut(Option::take);
        host::leave();
    }
}

/// The executor of this thread.
pub(crate) fn current() -> Arc<Executor> {
    CURRENT.with_borrow(Clone::clone).expect("this is asked inside of `run` only")
}

/// The executor of this thread, if it has one.
pub(crate) fn if_any() -> Option<Arc<Executor>> {
    CURRENT.with_borrow(Clone::clone)
}
