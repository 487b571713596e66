//! All clients of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay_vtime::{Chance, Host};
use parking_lot::Mutex;

use crate::checks::Checks;
use crate::client::{Client, Habit, Histories};
use crate::net::Net;
use crate::trace::Trace;
use crate::world::World;

/// Numbers from here on are clients'.
const FIRST: u64 = 100;

/// All clients of a run.
pub(crate) struct Clients {
    net: Net,
    checks: Checks,
    trace: Trace,
    chance: Mutex<Chance>,
    histories: Histories,
    ticks: Arc<AtomicU64>,
    members: Arc<Mutex<Vec<u64>>>,
    reads_hold: bool,
    /// They are to come to their end.
    stop: Arc<AtomicBool>,
    /// The ordinary ones begin nothing new for now.
    hush: Arc<AtomicBool>,
    made: AtomicU64,
    working: Arc<AtomicU64>,
}

impl Clients {
    /// None yet, for so many directories.
    pub(crate) fn new(world: &World, chance: Chance, directories: usize, reads_hold: bool) -> Clients {
        Clients {
            net: world.net.clone(),
            checks: world.checks.clone(),
            trace: world.trace.clone(),
            chance: Mutex::new(chance),
            histories: Arc::new(Mutex::new(vec![Vec::new(); directories])),
            ticks: Arc::default(),
            members: world.listed.clone(),
            reads_hold,
            stop: Arc::default(),
            hush: Arc::default(),
            made: AtomicU64::new(FIRST),
            working: Arc::default(),
        }
    }

    fn client(&self, habit: Habit, stop: Arc<AtomicBool>) -> Client {
        let mut chance = self.chance.lock().fork();
        Client {
            id: self.made.fetch_add(1, Ordering::Relaxed),
            net: self.net.clone(),
            checks: self.checks.clone(),
            trace: self.trace.clone(),
            histories: self.histories.clone(),
            ticks: self.ticks.clone(),
            stop,
            hush: self.hush.clone(),
            members: self.members.clone(),
            reads_hold: self.reads_hold,
            pause_ms_max: if habit == Habit::Everything { chance.between(10, 200) } else { 3 },
            habit,
            chance,
        }
    }

    /// Makes the directories that all of them work in.
    pub(crate) async fn prepare(&self) {
        let client = self.client(Habit::Everything, self.stop.clone());
        Host::new("client").spawn(client.prepare()).await.expect("nobody kills clients");
    }

    /// Lets so many begin to work.
    pub(crate) fn start(&self, count: u64) {
        for _ in 0..count {
            self.begin(Habit::Everything, self.stop.clone());
        }
    }

    /// Two more, until told otherwise: one that changes things at one member, and one that reads at another one.
    pub(crate) fn pin(&self, changes_at: u64, reads_at: u64) -> Arc<AtomicBool> {
        let stop = Arc::new(AtomicBool::new(false));
        self.begin(Habit::ChangesAt(changes_at), stop.clone());
        self.begin(Habit::ReadsAt(reads_at), stop.clone());
        stop
    }

    fn begin(&self, habit: Habit, stop: Arc<AtomicBool>) {
        let (client, working) = (self.client(habit, stop), self.working.clone());
        working.fetch_add(1, Ordering::Relaxed);
        Host::new("client").spawn(async move {
            client.run().await;
            working.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Has the ordinary ones begin nothing new, or go on.
    pub(crate) fn hush(&self, hush: bool) {
        self.hush.store(hush, Ordering::Relaxed);
    }

    /// Lets all of them finish what they are at.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// All have ended.
    pub(crate) fn are_done(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }

    /// What they saw.
    pub(crate) fn histories(&self) -> Histories {
        self.histories.clone()
    }
}
