//! When this member leads, for those who do things only a leader may do.

use std::path::Path;
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;

use crate::apply_thread::Task;
use crate::consensus::Consensus;
use crate::error::{ConsensusError, OpenError};
use crate::log::{OsDisk, owner};
use crate::raft_types::Types;
use crate::restored::AppliedAt;
use crate::runtime::{since, sleep, spawn_blocking, timeout};
use crate::settings::MemberId;
use crate::start::metrics_of;

/// How long one flush is waited for before another one is asked for.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// A time in which one member leads. No other one leads in the same term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Its term.
    pub term: u64,
}

impl Consensus {
    /// The member that a directory of a log belongs to; none if there is no log yet.
    pub fn member_in(dir: &Path) -> Result<Option<MemberId>, OpenError> {
        owner(&OsDisk, dir)
    }

    /// Waits until this member leads, and its state machine has everything that was ever acknowledged.
    pub async fn lead(&self) -> Result<Lead, ConsensusError> {
        let mut engine = self.raft.server_metrics();
        loop {
            let term = metrics_of(&self.raft).current_term;
            if self.raft.is_leader() {
                match self.read_barrier().await {
                    Ok(()) if self.is_certain(Lead { term }) => return Ok(Lead { term }),
                    Err(stopped @ ConsensusError::Stopped { .. }) => return Err(stopped),
                    _ => {}
                }
            }
            // Also looks when nothing is told: a barrier may succeed at the next attempt.
            let changed = timeout(self.settings.heartbeat_interval, engine.changed()).await;
            if let Ok(Err(_)) = changed {
                return Err(self.ended().await);
            }
        }
    }

    /// Waits until it is not sure any more that nobody else leads: another term has begun, or no majority has confirmed anything for as
    /// long as a lease lasts.
    pub async fn lead_ends(&self, lead: Lead) {
        let (mut engine, mut given_away) = (self.raft.server_metrics(), self.given_away.subscribe());
        while self.is_certain(lead) {
            tokio::select! {
                biased;
                changed = engine.changed() => if changed.is_err() { return },
                // Its sender is here.
                _ = given_away.changed() => {}
                () = sleep(self.settings.heartbeat_interval / 3) => {}
            }
        }
    }

    /// Fails unless nobody else can have led since `lead` began: for what is done outside of the log.
    pub async fn holds(&self, lead: Lead) -> Result<(), ConsensusError> {
        self.read_barrier().await?;
        match self.is_certain(lead) {
            true => Ok(()),
            false => {
                Err(ConsensusError::NotLeader { leader: self.leader().filter(|l| l.id != self.settings.member.id) })
            }
        }
    }

    fn is_certain(&self, lead: Lead) -> bool {
        let metrics: RaftMetrics<Types> = metrics_of(&self.raft);
        if !metrics.state.is_leader() || metrics.current_term != lead.term || metrics.running_state.is_err() {
            return false;
        }
        // The one that it is given to needs no lease to run out.
        if *self.given_away.borrow() >= lead.term {
            return false;
        }
        let alone = metrics.membership_config.voter_ids().all(|id| id == self.settings.member.id.0);
        let lease = self.settings.read_lease().max(self.settings.heartbeat_interval * 2);
        alone || metrics.last_quorum_acked.is_some_and(|at| since(&*at) < lease)
    }

    /// Waits until everything up to that entry is applied here, and no longer than that.
    pub async fn applied(&self, index: u64, patience: Duration) {
        let enough = |metrics: &RaftMetrics<Types>| {
            metrics.last_applied.is_some_and(|at| at.index >= index) || metrics.running_state.is_err()
        };
        // How far it is then is for the caller to see.
        let _ = self.raft.wait(Some(patience)).metrics(enough, "what is to be applied").await;
    }

    /// Makes the state durable as it is now, so that the log may forget what led to it, whether this member leads or not. Returns up to where it is.
    pub async fn flush_now(&self) -> Result<u64, ConsensusError> {
        let wanted = metrics_of(&self.raft).last_applied;
        if wanted.is_none() {
            return Ok(0);
        }
        let enough = |metrics: &RaftMetrics<Types>| metrics.snapshot >= wanted || metrics.running_state.is_err();
        loop {
            self.raft.trigger().snapshot().await.map_err(|fatal| self.fatal(&fatal.to_string()))?;
            // One that was under way already may end before it.
            match self.raft.wait(Some(FLUSH_PATIENCE)).metrics(enough, "the flush").await {
                Ok(metrics) if metrics.running_state.is_err() => return Err(self.ended().await),
                Ok(metrics) => return Ok(metrics.snapshot.map_or(0, |at| at.index)),
                Err(_) => {}
            }
        }
    }

    /// Writes a copy of the state machine, as of one entry of the log, to the directory `target`, which is not there yet. What is applied
    /// meanwhile waits only for what has come since a flush just before.
    pub async fn checkpoint(&self, target: &Path) -> Result<AppliedAt, ConsensusError> {
        let broken = |reason: String| ConsensusError::Failed { reason };
        let flusher = self.flusher.clone();
        let flushed = spawn_blocking(move || flusher.flush()).await;
        flushed.map_err(|e| broken(e.to_string()))?.map_err(|e| broken(e.to_string()))?;
        let target = target.to_owned();
        let applied = self.thread.ask(|done| Task::Checkpoint { target, done }).await;
        let applied = applied.map_err(|e| broken(e.to_string()))?;
        let applied = applied.ok_or_else(|| broken("nothing was ever applied".to_owned()))?;
        AppliedAt::read(&applied).map_err(broken)
    }
}
