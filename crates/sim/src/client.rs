//! A client: asks whoever leads, again and again with the same request until it has the answer, and writes down what it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_namespace::Request;
use forebay_namespace::command::Action;
use forebay_testkit::linearize::Operation;
use forebay_vtime::{Chance, now, sleep};
use futures::FutureExt;
use parking_lot::Mutex;

use crate::checks::Checks;
use crate::member::{Answer, Serving};
use crate::net::Net;
use crate::trace::Trace;
use crate::work::{self, NAMES, Op, Out};

/// After so long a client goes on without an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all clients together saw in each directory.
pub(crate) type Histories = Arc<Mutex<Vec<Vec<Operation<Op, Out>>>>>;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// All there is, at whoever leads.
    Everything,
    /// Changes, at one member only.
    ChangesAt(u64),
    /// Reads, at one member only.
    ReadsAt(u64),
}

/// One that works until it is told to stop.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) net: Net,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) chance: Chance,
    pub(crate) histories: Histories,
    /// Grows with each call and each return.
    pub(crate) ticks: Arc<AtomicU64>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Nothing new is begun for now.
    pub(crate) hush: Arc<AtomicBool>,
    /// Members that may answer.
    pub(crate) members: Arc<Mutex<Vec<u64>>>,
    /// Whether reads are what they should be in this run.
    pub(crate) reads_hold: bool,
    pub(crate) pause_ms_max: u64,
    pub(crate) habit: Habit,
}

impl Client {
    /// Works; ends with the last answer after `stop`.
    pub(crate) async fn run(mut self) {
        let mut sequence = 0;
        let mut guess = None;
        while !self.stop.load(Ordering::Relaxed) {
            let pause = self.chance.below(self.pause_ms_max * 1000);
            sleep(Duration::from_micros(pause)).await;
            if self.habit == Habit::Everything && self.hush.load(Ordering::Relaxed) {
                continue;
            }
            let directories = self.histories.lock().len() as u64;
            let directory = self.chance.below(directories) as usize;
            let op = self.choose(sequence + 1);
            let called = self.tick();
            let place = {
                let mut histories = self.histories.lock();
                histories[directory].push(Operation { input: op.clone(), called, returned: None });
                histories[directory].len() - 1
            };
            let out = match op.action(directory) {
                Some(action) => {
                    sequence += 1;
                    self.change(sequence, &action, &mut guess).await
                }
                None => self.look(directory, &mut guess).await,
            };
            self.trace.note(format_args!("{} d{directory} {op:?}: {out:?}", self.id));
            let returned = self.tick();
            self.histories.lock()[directory][place].returned = out.map(|out| (returned, out));
        }
    }

    /// Makes the directories that all of them work in.
    pub(crate) async fn prepare(mut self) {
        let directories = self.histories.lock().len();
        for directory in 0..directories {
            let done = self.change(directory as u64 + 1, &work::directory(directory), &mut None).await;
            assert!(done == Some(Out::Done), "a directory cannot be made at the start: {done:?}");
        }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn choose(&mut self, sequence: u64) -> Op {
        let name = self.chance.below(NAMES as u64) as usize;
        let owner = (self.id, sequence);
        let kind = match self.habit {
            Habit::Everything => self.chance.below(10),
            Habit::ChangesAt(_) => self.chance.below(7),
            Habit::ReadsAt(_) => 9,
        };
        match kind {
            0..=1 => Op::Make { name, owner },
            2..=4 => Op::Set { name, owner },
            5 => Op::Delete { name },
            6 => Op::Rename { from: name },
            _ => Op::Look,
        }
    }

    async fn change(&mut self, sequence: u64, action: &Action, guess: &mut Option<u64>) -> Option<Out> {
        let request = Request { client: self.id, sequence, acked_below: sequence };
        let action = action.clone();
        let handler = move |there: Arc<Serving>| {
            let action = action.clone();
            async move { there.write(request, action).await }.boxed()
        };
        let handler = Arc::new(handler);
        let deadline = now() + PATIENCE;
        while now() < deadline && !self.gives_up() {
            if let Some((Answer::Reply(reply), _)) = self.attempt(handler.clone(), guess).await
                && let Some(out) = work::read_reply(&reply)
            {
                self.checks.acknowledged(self.id, sequence);
                return Some(out);
            }
            self.rest().await;
        }
        None
    }

    async fn look(&mut self, directory: usize, guess: &mut Option<u64>) -> Option<Out> {
        let handler = Arc::new(move |there: Arc<Serving>| async move { there.read(directory).await }.boxed());
        let deadline = now() + PATIENCE;
        while now() < deadline && !self.gives_up() {
            let floor = self.checks.floor();
            if let Some((Answer::Seen(out, index), member)) = self.attempt(handler.clone(), guess).await {
                if self.reads_hold {
                    self.checks.read(member, floor, index);
                }
                return Some(out);
            }
            self.rest().await;
        }
        None
    }

    /// Asks whoever may lead, and notes who may lead now.
    async fn attempt(
        &mut self,
        handler: Arc<dyn Fn(Arc<Serving>) -> futures::future::BoxFuture<'static, Answer> + Send + Sync>,
        guess: &mut Option<u64>,
    ) -> Option<(Answer, u64)> {
        let members = self.members.lock().clone();
        let (to, patience_ms) = match self.habit {
            Habit::Everything => {
                (guess.or_else(|| self.chance.pick(&members).copied())?, self.chance.between(300, 3_000))
            }
            Habit::ChangesAt(member) | Habit::ReadsAt(member) => (member, 100),
        };
        let patience = sleep(Duration::from_millis(patience_ms));
        let answer = tokio::select! {
            biased;
            answer = self.net.ask(self.id, to, handler) => answer.ok(),
            () = patience => None,
        };
        *guess = match &answer {
            Some(Answer::Reply(_) | Answer::Seen(..)) => Some(to),
            Some(Answer::Elsewhere(Some(leader))) if *leader != to => Some(*leader),
            _ => None,
        };
        Some((answer?, to))
    }

    /// One that goes to one member only has no other way when that one does not serve.
    fn gives_up(&self) -> bool {
        self.habit != Habit::Everything && self.stop.load(Ordering::Relaxed)
    }

    async fn rest(&mut self) {
        let ms_max = if self.habit == Habit::Everything { 60 } else { 3 };
        sleep(Duration::from_millis(self.chance.between(1, ms_max))).await;
    }
}
