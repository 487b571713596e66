//! Starts the engine, takes the lead when alone, and keeps the log short while running.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Config, Raft, RaftMetrics, SnapshotPolicy};

use crate::applier::Applier;
use crate::consensus::Health;
use crate::error::OpenError;
use crate::log::Log;
use crate::log_store::LogStore;
use crate::network::Alone;
use crate::raft_types::Types;
use crate::settings::{Member, Settings};

/// The running engine.
pub(crate) type Engine = Raft<Types, Applier>;

/// Starts the engine on the log and the state machine.
pub(crate) async fn start(settings: &Settings, log: LogStore, applier: Applier) -> Result<Engine, OpenError> {
    let config = config(settings).validate().map_err(refused)?;
    let id = settings.member.id.0;
    Raft::new(id, Arc::new(config), Alone, log, applier).await.map_err(refused)
}

fn config(settings: &Settings) -> Config {
    let election_ms = settings.election_timeout.as_millis() as u64;
    Config {
        cluster_name: "forebay".to_owned(),
        heartbeat_interval: settings.heartbeat_interval.as_millis() as u64,
        election_timeout_min: election_ms,
        election_timeout_max: 2 * election_ms,
        // The keeper flushes by bytes and time.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: settings.retained_entries,
        enable_pre_vote: Some(true),
        // A restarted leader's state machine is older than what it had acknowledged: it must lead in a new term, whose first entry
        // is applied after all earlier ones.
        enable_leader_restore: Some(false),
        ..Config::default()
    }
}

/// Makes a new directory a group of one, and as the only member takes the lead and applies all of the log. Says whether it is the only member.
pub(crate) async fn lead_if_alone(raft: &Engine, member: &Member, health: &Health) -> Result<bool, OpenError> {
    let id = member.id.0;
    if raft.is_initialized().await.map_err(refused)? {
        let voters: Vec<u64> = raft.voter_ids().collect();
        if voters != [id] || raft.learner_ids().next().is_some() {
            return Ok(false);
        }
        raft.trigger().elect(false).await.map_err(refused)?;
    } else {
        let members = BTreeMap::from([(id, BasicNode::new(&member.address))]);
        raft.initialize(members).await.map_err(refused)?;
        raft.trigger().elect(false).await.map_err(refused)?;
    }
    let ready = |metrics: &RaftMetrics<Types>| {
        let applied = metrics.last_applied;
        metrics.state.is_leader()
            && applied.is_some_and(|applied| applied.leader_id.term == metrics.current_term)
            && applied.map(|applied| applied.index) == metrics.last_log_index
    };
    let lead = raft.wait(Some(Duration::MAX / 4)).metrics(ready, "leads and has applied the log").await;
    match lead {
        Ok(_) => Ok(true),
        Err(e) => Err(refused(health.failure().unwrap_or_else(|| e.to_string()))),
    }
}

/// Flushes the state machine as the log grows or time passes, upon which the engine purges the log; and notes when the engine ends.
pub(crate) struct Keeper {
    pub(crate) raft: Engine,
    pub(crate) log: Arc<Log>,
    pub(crate) health: Arc<Health>,
    pub(crate) interval: Duration,
}

impl Keeper {
    /// Runs until aborted, or the engine's end.
    pub(crate) async fn run(self) {
        // These change with the leader and the members, and close with the engine: few wake-ups under load.
        let mut engine = self.raft.server_metrics();
        let mut next = tokio::time::Instant::now() + self.interval;
        let mut flushed = self.log.appended_bytes();
        loop {
            let due = tokio::select! {
                () = self.health.grown() => true,
                () = tokio::time::sleep_until(next) => true,
                changed = engine.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return self.engine_ended(),
                },
            };
            let appended = self.log.appended_bytes();
            if !due {
                continue;
            }
            next = tokio::time::Instant::now() + self.interval;
            if appended > flushed {
                flushed = appended;
                self.health.flush_begins(appended);
                if self.raft.trigger().snapshot().await.is_err() {
                    return self.engine_ended();
                }
            }
        }
    }

    fn engine_ended(&self) {
        let state = metrics_of(&self.raft).running_state;
        let reason = state.err().map(|fatal| fatal.to_string());
        self.health.fail(reason.as_deref().unwrap_or("the log engine ended"));
    }
}

/// What the engine knows now.
pub(crate) fn metrics_of(raft: &Engine) -> RaftMetrics<Types> {
    raft.metrics().borrow_watched().clone()
}

fn refused(reason: impl ToString) -> OpenError {
    OpenError::Start { reason: reason.to_string() }
}
