//! What a plan says is done to the processes and their network, and undone.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forebay_client::{Client, ClientConfig, Deadlines};
use forebay_testkit::cluster::Cluster;
use forebay_testkit::network::Network;
use forebay_testkit::wait;

use crate::schedule::{Event, Fault};

/// Masters of the group.
pub const MASTERS: usize = 3;

/// For what only ends well while a leader serves.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a busy machine needs to start a process that has to catch up.
const READY_DEADLINE: Duration = Duration::from_secs(120);

const HOUR_SECONDS: i64 = 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    Paused,
    Killed,
}

/// The faults of one round.
#[derive(Debug)]
pub struct Faults<'a> {
    cluster: &'a mut Cluster,
    network: &'a Network,
    states: [State; MASTERS],
    wrong_clocks: BTreeSet<usize>,
    /// Masters that the group has to do without.
    lost: BTreeSet<usize>,
}

impl<'a> Faults<'a> {
    /// Nothing is broken.
    pub fn new(cluster: &'a mut Cluster, network: &'a Network) -> Self {
        let states = [State::Runs; MASTERS];
        Faults { cluster, network, states, wrong_clocks: BTreeSet::new(), lost: BTreeSet::new() }
    }

    /// Whether a majority of the masters was untouched at any time.
    pub fn left_a_majority(&self) -> bool {
        self.lost.len() <= 1
    }

    /// Breaks something; says what, which may be less than was planned, or nothing if nothing is left to break in that way.
    pub async fn strike(&mut self, event: &Event) -> Result<Option<Fault>> {
        let leader = match event.fault {
            Fault::KillLeader | Fault::ShortPause | Fault::LongPause | Fault::LeaderAlone => self.leader().await?,
            _ => None,
        };
        let fault = match event.fault {
            Fault::KillLeader if leader.is_none() => Fault::KillAny,
            Fault::LongPause if leader.is_none() => Fault::PauseAny,
            Fault::KillTwo if self.running().len() < 2 => Fault::KillAny,
            fault => fault,
        };
        let done = match fault {
            Fault::KillLeader => self.kill(leader)?,
            Fault::KillFollower => self.kill(self.follower(event).await)?,
            Fault::KillAny => self.kill(self.any(event))?,
            Fault::KillTwo => self.kill(self.any(event))? && self.kill(self.any(event))?,
            Fault::ShortPause => self.pause_for(leader, event.pause).await?,
            Fault::LongPause => self.pause(leader)?,
            Fault::PauseAny => self.pause(self.any(event))?,
            Fault::LinkDown => self.isolate(self.any(event))?,
            Fault::LeaderAlone => self.cut_off(leader, &[Way::To, Way::From])?,
            Fault::PairCut => self.cut_pair(event)?,
            Fault::Deaf => self.cut_off(self.any(event), &[Way::To])?,
            Fault::Mute => self.cut_off(self.any(event), &[Way::From])?,
            Fault::Transfer => self.ask_for("a transfer of the lead", async || self.transfer(event).await).await?,
            Fault::Snapshot => {
                self.ask_for("a snapshot", async || self.command(&["masters", "snapshot"]).await).await?
            }
            Fault::ClockAhead => self.set_clock(self.any(event), event.jump_hours)?,
            Fault::ClockBack => self.set_clock(self.any(event), -event.jump_hours)?,
        };
        Ok(done.then_some(fault))
    }

    /// Mends everything, and waits until all masters run and are ready.
    pub async fn heal(&mut self) -> Result<()> {
        self.network.heal()?;
        for index in 0..MASTERS {
            let master = self.cluster.master_at(index);
            if self.states[index] != State::Killed {
                let ended = master.process().exit_status()?;
                ensure!(ended.is_none(), "master {index} has ended by itself: {ended:?}");
            }
            match self.states[index] {
                State::Runs => {}
                State::Paused => master.resume()?,
                State::Killed => {
                    // Nothing but its clock tells a master that starts how long it was away: it is believed then.
                    if self.wrong_clocks.remove(&index) {
                        master.set_clock(0)?;
                    }
                    master.restart()?;
                }
            }
            self.states[index] = State::Runs;
        }
        for index in 0..MASTERS {
            self.cluster.master_at(index).wait_ready(READY_DEADLINE).await?;
        }
        for index in std::mem::take(&mut self.wrong_clocks) {
            self.cluster.master_at(index).set_clock(0)?;
        }
        Ok(())
    }

    fn running(&self) -> Vec<usize> {
        (0..MASTERS).filter(|index| self.states[*index] == State::Runs).collect()
    }

    fn any(&self, event: &Event) -> Option<usize> {
        choose(&self.running(), event.choice)
    }

    /// Whether all that the round has broken so far is over.
    fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.wrong_clocks.is_empty()
    }

    /// The one that leads, if it runs and somebody says so: while nothing is broken, somebody does at last.
    async fn leader(&self) -> Result<Option<usize>> {
        if self.is_whole() {
            let known = wait::for_some("a leader though nothing is broken", READY_DEADLINE, || self.leader_of_now());
            return known.await.map(Some);
        }
        Ok(self.leader_of_now().await.filter(|index| self.states[*index] == State::Runs))
    }

    async fn follower(&self, event: &Event) -> Option<usize> {
        let leader = self.leader_of_now().await;
        self.other_than(leader, event)
    }

    fn other_than(&self, leader: Option<usize>, event: &Event) -> Option<usize> {
        let others: Vec<usize> = self.running().into_iter().filter(|index| Some(*index) != leader).collect();
        choose(&others, event.choice)
    }

    async fn transfer(&self, event: &Event) -> Result<bool> {
        let Some(leader) = self.leader_of_now().await else { return Ok(false) };
        let Some(next) = self.other_than(Some(leader), event) else { return Ok(false) };
        self.command(&["masters", "transfer", &self.cluster.master_address(next)]).await
    }

    /// Has something done that may be refused while something is broken; while nothing is, it succeeds at last.
    async fn ask_for(&self, what: &str, attempt: impl AsyncFn() -> Result<bool>) -> Result<bool> {
        if !self.is_whole() {
            return attempt().await;
        }
        let done = wait::for_some(what, READY_DEADLINE, || async {
            match attempt().await {
                Ok(false) => None,
                done => Some(done),
            }
        });
        done.await.context("nothing is broken")?
    }

    async fn leader_of_now(&self) -> Option<usize> {
        let deadlines = Deadlines { connect: PATIENCE, metadata: PATIENCE, ..Deadlines::default() };
        let config = ClientConfig { deadlines, ..ClientConfig::new(self.cluster.masters().split(',')) };
        let asked = async { Client::connect(config).await?.masters().await };
        let group = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        let leader = group.masters.into_iter().find(|master| master.leader)?;
        (0..MASTERS).find(|index| self.cluster.master_address(*index) == leader.address)
    }

    fn kill(&mut self, index: Option<usize>) -> Result<bool> {
        let Some(index) = index else { return Ok(false) };
        let ended = self.cluster.master_at(index).process().exit_status()?;
        ensure!(ended.is_none(), "master {index} has ended by itself: {ended:?}");
        self.cluster.master_at(index).kill()?;
        self.states[index] = State::Killed;
        self.lost.insert(index);
        Ok(true)
    }

    fn pause(&mut self, index: Option<usize>) -> Result<bool> {
        let Some(index) = index else { return Ok(false) };
        self.cluster.master_at(index).pause()?;
        self.states[index] = State::Paused;
        self.lost.insert(index);
        Ok(true)
    }

    async fn pause_for(&mut self, index: Option<usize>, pause: Duration) -> Result<bool> {
        let Some(index) = index else { return Ok(false) };
        self.cluster.master_at(index).pause()?;
        tokio::time::sleep(pause).await;
        self.cluster.master_at(index).resume()?;
        Ok(true)
    }

    fn isolate(&mut self, index: Option<usize>) -> Result<bool> {
        let Some(index) = index else { return Ok(false) };
        self.network.isolate(index)?;
        self.lost.insert(index);
        Ok(true)
    }

    /// Between one master and the others, in these directions as it sees them.
    fn cut_off(&mut self, index: Option<usize>, ways: &[Way]) -> Result<bool> {
        let Some(index) = index else { return Ok(false) };
        for other in (0..MASTERS).filter(|other| *other != index) {
            for way in ways {
                match way {
                    Way::To => self.network.cut(other, index)?,
                    Way::From => self.network.cut(index, other)?,
                }
            }
        }
        self.lost.insert(index);
        Ok(true)
    }

    fn cut_pair(&mut self, event: &Event) -> Result<bool> {
        let third = (event.choice % MASTERS as u64) as usize;
        let (one, other) = ((third + 1) % MASTERS, (third + 2) % MASTERS);
        self.network.cut(one, other)?;
        self.network.cut(other, one)?;
        self.lost.insert(one);
        Ok(true)
    }

    /// `forebay …`, which may be refused while other things are broken.
    async fn command(&self, arguments: &[&str]) -> Result<bool> {
        let mut command = self.cluster.command(arguments);
        command.env("FOREBAY_CLIENT_DEADLINE", format!("{}s", PATIENCE.as_secs()));
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        Ok(status.with_context(|| format!("forebay {}", arguments.join(" ")))?.success())
    }

    fn set_clock(&mut self, index: Option<usize>, hours: i64) -> Result<bool> {
        let Some(index) = index else { return Ok(false) };
        self.cluster.master_at(index).set_clock(hours * HOUR_SECONDS)?;
        self.wrong_clocks.insert(index);
        Ok(true)
    }
}

/// A direction, as one master sees it.
#[derive(Clone, Copy, Debug)]
enum Way {
    To,
    From,
}

fn choose(among: &[usize], choice: u64) -> Option<usize> {
    let count = among.len() as u64;
    (count > 0).then(|| among[(choice % count) as usize])
}
