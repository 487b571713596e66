//! What goes wrong, step by step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_consensus::{ChangeError, Consensus, Formation, MemberId};
use forebay_vtime::{Chance, elapsed, sleep};
use parking_lot::Mutex;

use crate::clients::Clients;
use crate::member::Serving;
use crate::net::Quality;
use crate::world::{Stop, World, member};

/// Within so much time after the last fault everything is as it should be.
const RECOVERY: Duration = Duration::from_secs(120);

/// Most members at any time.
const MEMBERS_MAX: usize = 5;

/// A change of the group has come to an end.
enum Change {
    Replaced,
    Added,
    Removed(u64),
}

/// Brings the faults of one run.
pub(crate) struct Director {
    pub(crate) world: World,
    clients: Arc<Clients>,
    pub(crate) chance: Chance,
    /// Clocks may be further apart than the lease allows for, and jump.
    pub(crate) beyond_lease: bool,
    /// The group changes its members.
    pub(crate) changes_group: bool,
    /// One that has lost its disk and was not replaced yet.
    wiped: Option<u64>,
    changed: Arc<Mutex<Vec<Change>>>,
    next_id: u64,
}

impl Director {
    pub(crate) fn new(
        world: World,
        clients: Arc<Clients>,
        chance: Chance,
        beyond_lease: bool,
        changes_group: bool,
    ) -> Director {
        let next_id = world.machines.keys().max().map_or(1, |last| last + 1);
        Director { clients, world, chance, beyond_lease, changes_group, wiped: None, changed: Arc::default(), next_id }
    }

    /// One step: something happens, and some time passes.
    pub(crate) async fn step(&mut self) {
        self.world.find_stopped();
        self.take_note();
        for id in self.world.down() {
            if self.chance.permille(350) {
                self.world.start(id).await;
            }
        }
        match self.chance.below(100) {
            0..=9 => self.crash(),
            10..=17 => self.crash_at_a_write(),
            18..=19 => self.crash_all(),
            20..=33 => self.cut(),
            34..=43 => self.world.net.mend(),
            44..=49 => self.weather(),
            50..=55 => self.turn_clock(),
            56..=60 => self.hold(),
            61..=64 => self.slow_disk(),
            65..=66 => self.full_disk(),
            67..=70 => self.flush(),
            71..=76 => self.transfer(),
            77..=82 => self.race_lease().await,
            83..=88 if self.changes_group => self.change_group().await,
            _ => {}
        }
        let pause = match self.chance.below(4) {
            0 => self.chance.below(1_500),
            _ => self.chance.below(150),
        };
        sleep(Duration::from_millis(pause)).await;
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.note(format_args!("-- {what}"));
    }

    fn any(&mut self) -> Option<Arc<Serving>> {
        // The leader more often than others: there is more to lose.
        if self.chance.permille(300)
            && let Some(leader) = self.world.leader()
        {
            return Some(leader);
        }
        let serving = self.world.serving();
        self.chance.pick(&serving).cloned()
    }

    fn crash(&mut self) {
        let how = if self.chance.permille(500) { Stop::Kill } else { Stop::PowerFailure };
        if let Some(one) = self.any() {
            self.world.stop(one.id, how);
        }
    }

    fn crash_at_a_write(&mut self) {
        let count = self.chance.below(12);
        if let Some(one) = self.any() {
            self.note(format_args!("{} will stop {count} writes from now", one.id));
            if let Some(machine) = self.world.machines.get(&one.id) {
                machine.disk.stop_after(count);
            }
        }
    }

    fn crash_all(&mut self) {
        for one in self.world.serving() {
            self.world.stop(one.id, Stop::PowerFailure);
        }
    }

    fn cut(&mut self) {
        let ids: Vec<u64> = self.world.machines.keys().copied().collect();
        let Some(one) = self.any().map(|one| one.id) else {
            return;
        };
        let (out, into) = match self.chance.below(5) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        // From all others, or from one of them.
        let from = match self.chance.permille(700) {
            true => ids,
            false => self.chance.pick(&ids).copied().into_iter().collect(),
        };
        self.note(format_args!("{one} is cut off from {from:?}, out {out}, in {into}"));
        for other in from.into_iter().filter(|other| *other != one) {
            if out {
                self.world.net.cut(one, other);
            }
            if into {
                self.world.net.cut(other, one);
            }
        }
    }

    fn weather(&mut self) {
        let quality = match self.chance.below(3) {
            0 => Quality::good(),
            1 => Quality {
                delay_us_max: self.chance.between(1_000, 20_000),
                late_permille: self.chance.below(100),
                lost_permille: self.chance.below(20),
                doubled_permille: self.chance.below(100),
                ..Quality::good()
            },
            _ => Quality {
                delay_us_max: self.chance.between(5_000, 120_000),
                late_permille: self.chance.below(300),
                lost_permille: self.chance.below(150),
                doubled_permille: self.chance.below(300),
                ..Quality::good()
            },
        };
        self.note(format_args!("{quality:?}"));
        self.world.net.set_quality(quality);
    }

    fn turn_clock(&mut self) {
        let Some(one) = self.any() else {
            return;
        };
        let drift = self.drift_ppm();
        let rate_ppm = match self.chance.below(3) {
            0 => 1_000_000 - drift,
            1 => 1_000_000 + drift,
            _ => self.chance.between(1_000_000 - drift, 1_000_000 + drift),
        };
        let offset_ms = self.chance.below(1_200_000) as i64 - 600_000;
        one.wall_offset_ms.store(offset_ms, Ordering::Relaxed);
        if let Some(machine) = self.world.machines.get_mut(&one.id) {
            machine.wall_offset_ms = offset_ms;
        }
        self.set_rate(&one, rate_ppm);
        let jump = Duration::from_millis(self.chance.below(2_000));
        self.note(format_args!("{} has a wall clock wrong by {offset_ms} ms", one.id));
        if self.beyond_lease && self.chance.permille(500) {
            self.note(format_args!("{} has a clock that jumps by {jump:?}", one.id));
            one.host.jump(jump);
        }
    }

    fn set_rate(&mut self, one: &Serving, rate_ppm: u64) {
        self.note(format_args!("{} has a clock of {rate_ppm} ppm", one.id));
        one.host.set_rate_ppm(rate_ppm);
        if let Some(machine) = self.world.machines.get_mut(&one.id) {
            machine.rate_ppm = rate_ppm;
        }
    }

    /// By how much clocks are too fast or too slow. Where reads are to hold, the slowest leader and the fastest follower differ by less than
    /// the members allow for: (1 - p/2) / (1 + p/2) > 1 - p.
    fn drift_ppm(&self) -> u64 {
        let allowed = u64::from(self.world.common.drift_percent) * 10_000 / 2;
        if self.beyond_lease { (4 * allowed).min(900_000) } else { allowed }
    }

    /// A leader with a slow clock is cut off, first from one with a fast clock, who tries again and again to lead, and then from those who
    /// have kept that one waiting. A lease that is counted too long would end after the new leader has begun.
    async fn race_lease(&mut self) {
        let Some(leader) = self.world.leader() else {
            return;
        };
        let others: Vec<_> = self.world.serving().into_iter().filter(|one| one.id != leader.id).collect();
        let Some(rival) = self.chance.pick(&others).cloned() else {
            return;
        };
        self.note(format_args!("{} is to outlive its lease, {} waits for its end", leader.id, rival.id));
        let drift = self.drift_ppm();
        self.set_rate(&leader, 1_000_000 - drift);
        for other in &others {
            self.set_rate(other, 1_000_000 + drift);
            other.host.set_work_max(Duration::from_millis(1));
        }
        self.world.net.mend();
        self.world.net.set_quality(Quality::good());
        // The rival is to lack nothing that the others have.
        self.clients.hush(true);
        sleep(Duration::from_millis(300)).await;
        self.part(leader.id, rival.id);
        sleep(Duration::from_millis(self.chance.between(500, 1_500))).await;
        for other in &others {
            self.part(leader.id, other.id);
        }
        let enough = self.clients.pin(rival.id, leader.id);
        sleep(Duration::from_millis(1_000)).await;
        enough.store(true, Ordering::Relaxed);
        self.clients.hush(false);
    }

    fn part(&self, one: u64, other: u64) {
        self.world.net.cut(one, other);
        self.world.net.cut(other, one);
    }

    fn hold(&mut self) {
        let time = Duration::from_millis(self.chance.below(2_000));
        if let Some(one) = self.any() {
            self.note(format_args!("{} is held for {time:?}", one.id));
            one.host.hold(time);
        }
    }

    fn slow_disk(&mut self) {
        let slow = self.chance.permille(500);
        let time = Duration::from_millis(if slow { self.chance.below(250) } else { 1 });
        if let Some(one) = self.any() {
            self.note(format_args!("{} takes up to {time:?} to write", one.id));
            one.host.set_work_max(time);
            if let Some(machine) = self.world.machines.get_mut(&one.id) {
                machine.work_max = time;
            }
        }
    }

    fn full_disk(&mut self) {
        let count = self.chance.below(10);
        if let Some(one) = self.any()
            && let Some(machine) = self.world.machines.get(&one.id)
        {
            self.note(format_args!("{} has room for {count} writes", one.id));
            machine.disk.full_after(count);
        }
    }

    fn flush(&mut self) {
        if let Some(one) = self.any() {
            let host = one.host.clone();
            host.spawn(async move { one.consensus.flush_now().await });
        }
    }

    fn transfer(&mut self) {
        let ids: Vec<u64> = self.world.machines.keys().copied().collect();
        let (Some(leader), Some(to)) = (self.world.leader(), self.chance.pick(&ids).copied()) else {
            return;
        };
        self.note(format_args!("{} hands its lead to {to}", leader.id));
        let (host, trace) = (leader.host.clone(), self.world.trace.clone());
        host.spawn(async move {
            let done = leader.consensus.transfer(MemberId(to)).await;
            trace.note(format_args!("-- the lead of {} to {to}: {}", leader.id, outcome(&done)));
        });
    }

    /// One that has lost its disk votes again, and has something to vote for: it was taken in.
    fn is_back(&self, id: u64) -> bool {
        let Some(leader) = self.world.leader() else {
            return false;
        };
        let known = leader.host.within(|| leader.consensus.status());
        let serving = self.world.serving();
        let own = serving.iter().find(|one| one.id == id).map(|one| one.host.within(|| one.consensus.status()));
        own.is_some_and(|own| own.applied_index.is_some())
            && known.peers.iter().any(|peer| peer.votes && peer.member.id.0 == id)
    }

    /// What changes of the group have come to.
    fn take_note(&mut self) {
        if self.wiped.is_some_and(|id| self.is_back(id)) {
            self.wiped = None;
        }
        for change in std::mem::take(&mut *self.changed.lock()) {
            match change {
                Change::Removed(id) => self.world.scrap(id),
                // That one is looked for: nobody may have been told.
                Change::Replaced | Change::Added => {}
            }
        }
    }

    async fn change_group(&mut self) {
        if let Some(id) = self.wiped {
            return self.replace(id);
        }
        match self.chance.below(3) {
            0 => self.wipe().await,
            1 if self.world.machines.len() < MEMBERS_MAX => self.add().await,
            _ => self.remove(),
        }
    }

    /// One loses its disk. It comes back under its old name, and is to be replaced by itself.
    async fn wipe(&mut self) {
        // Of two no group can lose one.
        let Some(one) = self.any().filter(|_| self.voters() >= 3) else {
            return;
        };
        self.note(format_args!("{} loses its disk", one.id));
        self.world.stop(one.id, Stop::Kill);
        self.world.build(one.id, Formation::Join);
        self.world.start(one.id).await;
        self.wiped = Some(one.id);
    }

    fn replace(&mut self, id: u64) {
        self.ask_leader("replaces", id, Change::Replaced, move |consensus| async move {
            match consensus.replace(MemberId(id), member(id)).await {
                // An earlier attempt has let the old one go already.
                Err(ChangeError::Refused { .. }) => consensus.add(member(id)).await,
                other => other,
            }
        });
    }

    async fn add(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        self.world.build(id, Formation::Join);
        self.world.start(id).await;
        self.ask_leader("takes in", id, Change::Added, move |consensus| async move { consensus.add(member(id)).await });
    }

    fn remove(&mut self) {
        let ids: Vec<u64> = self.world.machines.keys().copied().collect();
        if let Some(id) = self.chance.pick(&ids).copied().filter(|_| self.voters() > 3) {
            self.ask_leader("removes", id, Change::Removed(id), move |consensus| async move {
                consensus.remove(MemberId(id)).await
            });
        }
    }

    /// How many votes there are, when somebody leads who can say.
    fn voters(&self) -> usize {
        let status = self.world.leader().map(|leader| leader.host.within(|| leader.consensus.status()));
        status.map_or(0, |status| status.peers.iter().filter(|peer| peer.votes).count())
    }

    fn ask_leader<F>(
        &mut self,
        what: &'static str,
        id: u64,
        change: Change,
        ask: impl FnOnce(Arc<Consensus>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), ChangeError>> + Send,
    {
        let Some(leader) = self.world.leader() else {
            return;
        };
        self.note(format_args!("{} {what} {id}", leader.id));
        let (host, trace, changed) = (leader.host.clone(), self.world.trace.clone(), self.changed.clone());
        host.spawn(async move {
            let done = ask(leader.consensus.clone()).await;
            trace.note(format_args!("-- {} {what} {id}: {}", leader.id, outcome(&done)));
            if done.is_ok() {
                changed.lock().push(change);
            }
        });
    }

    /// Mends everything, and waits until all is well.
    ///
    /// # Panics
    /// When it does not become so.
    pub(crate) async fn recover(&mut self) {
        self.clients.stop();
        self.note(format_args!("everything is mended"));
        self.world.net.mend();
        self.world.net.set_quality(Quality::good());
        for machine in self.world.machines.values_mut() {
            machine.work_max = Duration::from_millis(1);
            machine.disk.never_stop();
            machine.disk.make_room();
            if let Some(life) = &machine.life {
                life.host.set_work_max(machine.work_max);
            }
        }
        let deadline = elapsed() + RECOVERY;
        loop {
            self.world.find_stopped();
            self.take_note();
            for id in self.world.down() {
                self.world.start(id).await;
            }
            if let Some(id) = self.wiped {
                self.replace(id);
            }
            if self.wiped.is_none() && self.clients.are_done() && self.is_settled() {
                return;
            }
            assert!(elapsed() < deadline, "the group has not recovered within {RECOVERY:?}: {}", self.describe());
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Everybody whom the leader counts has applied all that the leader has.
    fn is_settled(&self) -> bool {
        let Some(leader) = self.world.leader() else {
            return false;
        };
        let status = leader.host.within(|| leader.consensus.status());
        let serving = self.world.serving();
        let applied = |id: MemberId| {
            let one = serving.iter().find(|one| one.id == id.0)?;
            one.host.within(|| one.consensus.status()).applied_index
        };
        let all =
            status.peers.iter().filter(|peer| peer.votes).all(|peer| applied(peer.member.id) == status.last_index);
        all && status.last_index >= Some(self.world.checks.last_acknowledged()) && !status.peers.is_empty()
    }

    fn describe(&self) -> String {
        let serving = self.world.serving();
        let states = serving.iter().map(|one| format!("{}: {:?}", one.id, one.host.within(|| one.consensus.status())));
        format!("{}; wiped: {:?}", states.collect::<Vec<_>>().join("; "), self.wiped)
    }
}

fn outcome<E: std::fmt::Display>(done: &Result<(), E>) -> String {
    match done {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}
