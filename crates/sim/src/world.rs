//! The machines of a run: started, stopped, crashed, wiped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use forebay_base::ByteSize;
use forebay_consensus::simulation::SimulatedDisk;
use forebay_consensus::{Consensus, Formation, Member, MemberId, OpenError, Settings};
use forebay_vtime::{Chance, Host, sleep};
use parking_lot::Mutex;

use crate::checks::Checks;
use crate::member::Serving;
use crate::net::{Link, Net, address};
use crate::state::State;
use crate::trace::Trace;

/// Opening takes no longer, unless the machine stops.
const OPENING: Duration = Duration::from_secs(20);

/// How a machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The process ends; what it wrote is there.
    Kill,
    /// The power fails: what was not synced is kept, lost or torn.
    PowerFailure,
}

/// One machine through all its lives.
pub(crate) struct Machine {
    pub(crate) id: u64,
    pub(crate) disk: SimulatedDisk,
    pub(crate) rate_ppm: u64,
    pub(crate) wall_offset_ms: i64,
    pub(crate) work_max: Duration,
    state: State,
    formation: Formation,
    pub(crate) life: Option<Life>,
}

/// From a start to a stop.
pub(crate) struct Life {
    pub(crate) host: Host,
    /// None until the log is open.
    pub(crate) serving: Option<Arc<Serving>>,
    /// Set by the disk when it stops the machine.
    stopped_by_disk: Arc<std::sync::atomic::AtomicBool>,
}

/// What all lives of all members have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) segment_bytes: u64,
    pub(crate) flush_bytes: u64,
    pub(crate) retained_entries: u64,
    /// By how much the members expect clocks to differ.
    pub(crate) drift_percent: u32,
    /// Checkpoints lack what clients were answered.
    pub(crate) forgets_replies: bool,
    /// A read tells what the one before it saw.
    pub(crate) tells_old_names: bool,
}

/// All machines.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) checks: Checks,
    pub(crate) chance: Chance,
    pub(crate) machines: BTreeMap<u64, Machine>,
    /// Those that clients may ask.
    pub(crate) listed: Arc<Mutex<Vec<u64>>>,
    pub(crate) common: Common,
    /// For checkpoints, on the disk of whoever runs this.
    pub(crate) scratch: PathBuf,
}

pub(crate) fn member(id: u64) -> Member {
    Member { id: MemberId(id), address: address(id) }
}

impl World {
    /// A new machine with nothing on its disk; it is not running yet.
    pub(crate) fn build(&mut self, id: u64, formation: Formation) {
        let machine = Machine {
            id,
            disk: SimulatedDisk::default(),
            rate_ppm: 1_000_000,
            wall_offset_ms: 0,
            work_max: Duration::from_millis(1),
            state: State::new(),
            formation,
            life: None,
        };
        self.machines.insert(id, machine);
        self.list();
    }

    /// A machine goes away for good.
    pub(crate) fn scrap(&mut self, id: u64) {
        self.stop(id, Stop::Kill);
        self.machines.remove(&id);
        self.list();
    }

    fn list(&self) {
        *self.listed.lock() = self.machines.keys().copied().collect();
    }

    fn settings(&self, machine: &Machine) -> Settings {
        let mut settings = Settings::new(member(machine.id));
        settings.heartbeat_interval = Duration::from_millis(60);
        settings.election_timeout = Duration::from_millis(300);
        settings.propose_timeout = Duration::from_secs(3);
        settings.catch_up_timeout = Duration::from_secs(5);
        settings.clock_drift_percent = self.common.drift_percent;
        settings.flush_interval = Duration::from_secs(5);
        settings.segment_bytes = ByteSize(self.common.segment_bytes);
        settings.cache_bytes = ByteSize(2 * self.common.segment_bytes);
        settings.flush_bytes = ByteSize(self.common.flush_bytes);
        settings.retained_entries = self.common.retained_entries;
        settings.formation = machine.formation.clone();
        settings
    }

    /// Starts a machine that does not run.
    ///
    /// # Panics
    /// When what it finds on its disk cannot be: that is no crash's doing.
    pub(crate) async fn start(&mut self, id: u64) {
        let Some(machine) = self.machines.get(&id).filter(|machine| machine.life.is_none()) else {
            return;
        };
        let settings = self.settings(machine);
        let host = Host::new(&format!("member {id}"));
        host.set_rate_ppm(machine.rate_ppm);
        host.set_work_max(machine.work_max);
        let stopped_by_disk = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stops, told) = (host.clone(), stopped_by_disk.clone());
        machine.disk.on_stop(move || {
            told.store(true, Ordering::Relaxed);
            stops.kill();
        });
        self.trace.note(format_args!("{id} starts"));
        let state = machine.state.clone();
        let drives =
            state.machine(id, &self.checks, self.common.forgets_replies).expect("what is left of a state opens");
        let link = Arc::new(Link { net: self.net.clone(), from: id, host: host.clone() });
        let (dir, disk) = (self.scratch.join(id.to_string()), machine.disk.clone());
        let opening =
            host.spawn(async move { Consensus::open_simulated(settings, &dir, Box::new(drives), link, &disk).await });
        let opened = tokio::select! {
            biased;
            opened = opening => opened.ok(),
            () = sleep(OPENING) => None,
        };
        let serving = match opened {
            Some(Ok(consensus)) => {
                let offset = AtomicI64::new(machine.wall_offset_ms);
                let (host, consensus) = (host.clone(), Arc::new(consensus));
                let (seat, seen_before) = (Mutex::new(None), self.common.tells_old_names.then(Mutex::default));
                Some(Arc::new(Serving { id, host, consensus, state, seat, wall_offset_ms: offset, seen_before }))
            }
            Some(Err(error @ (OpenError::Io { .. } | OpenError::Start { .. }))) => {
                let error = error.to_string().replace(&self.scratch.display().to_string(), "");
                self.trace.note(format_args!("{id} does not start: {error}"));
                None
            }
            Some(Err(error)) => panic!("member {id} does not start: {error}"),
            None => None,
        };
        match &serving {
            Some(serving) => self.serve(serving),
            None => host.kill(),
        }
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.life = Some(Life { host, serving, stopped_by_disk });
        }
    }

    fn serve(&self, serving: &Arc<Serving>) {
        self.net.attach(serving.id, serving.clone());
        serving.host.spawn(serving.clone().sit(self.trace.clone(), self.checks.clone()));
        let (watched, trace) = (serving.clone(), self.trace.clone());
        // Where that lies is no part of what happens.
        let scratch = self.scratch.display().to_string();
        serving.host.spawn(async move {
            let reason = watched.consensus.failed().await;
            trace.note(format_args!("{} ends: {}", watched.id, reason.replace(&scratch, "")));
            watched.host.kill();
        });
    }

    /// Stops a machine, if it runs.
    pub(crate) fn stop(&mut self, id: u64, how: Stop) {
        let Some(life) = self.machines.get_mut(&id).and_then(|machine| machine.life.take()) else {
            return;
        };
        life.host.kill();
        self.net.detach(id);
        let how = match life.stopped_by_disk.load(Ordering::Relaxed) {
            true => Stop::PowerFailure,
            false => how,
        };
        self.trace.note(format_args!("{id} stops: {how:?}"));
        let machine = self.machines.get_mut(&id).expect("it was just there");
        machine.disk = match how {
            Stop::Kill => machine.disk.after_kill(),
            Stop::PowerFailure => machine.disk.after_crash(&mut self.chance),
        };
        // The store has no log of its own: both ends of a process are the same to it.
        machine.state = machine.state.after_crash(&mut self.chance);
    }

    /// Takes note of machines that have stopped by themselves.
    pub(crate) fn find_stopped(&mut self) {
        let dead = |machine: &&Machine| machine.life.as_ref().is_some_and(|life| !life.host.is_alive());
        let ids: Vec<u64> = self.machines.values().filter(dead).map(|machine| machine.id).collect();
        for id in ids {
            let how = if self.chance.permille(500) { Stop::Kill } else { Stop::PowerFailure };
            self.stop(id, how);
        }
    }

    /// Those that run and serve.
    pub(crate) fn serving(&self) -> Vec<Arc<Serving>> {
        let lives = self.machines.values().filter_map(|machine| machine.life.as_ref());
        let lives = lives.filter(|life| life.host.is_alive());
        lives.filter_map(|life| life.serving.clone()).collect()
    }

    /// Those that do not run.
    pub(crate) fn down(&self) -> Vec<u64> {
        self.machines.values().filter(|machine| machine.life.is_none()).map(|machine| machine.id).collect()
    }

    /// Somebody who believes to lead.
    pub(crate) fn leader(&self) -> Option<Arc<Serving>> {
        self.serving().into_iter().find(|serving| serving.seat.lock().is_some())
    }
}
