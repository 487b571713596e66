//! Starts the engine, takes the lead when alone, and keeps the log short while running.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, Raft, RaftMetrics, SnapshotPolicy};

use crate::applier::Applier;
use crate::consensus::Health;
use crate::error::OpenError;
use crate::forming;
use crate::log::Log;
use crate::log_store::LogStore;
use crate::network::Peers;
use crate::raft_types::{Peer, Types};
use crate::runtime::{Instant, sleep_until};
use crate::settings::Settings;

/// The running engine.
pub(crate) type Engine = Raft<Types, Applier>;

/// Starts the engine on the log and the state machine.
pub(crate) async fn start(
    settings: &Settings,
    peers: Peers,
    log: LogStore,
    applier: Applier,
) -> Result<Engine, OpenError> {
    let config = config(settings).validate().map_err(refused)?;
    let id = settings.member.id.0;
    Raft::new(id, Arc::new(config), peers, log, applier).await.map_err(refused)
}

fn config(settings: &Settings) -> Config {
    let milliseconds = |duration: Duration| duration.as_millis() as u64;
    let lease = milliseconds(settings.lease());
    Config {
        cluster_name: "forebay".to_owned(),
        heartbeat_interval: milliseconds(settings.heartbeat_interval),
        election_timeout_min: milliseconds(settings.election_timeout),
        // Also the lease.
        election_timeout_max: lease,
        // The keeper flushes by bytes and time.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: settings.retained_entries,
        // Messages of entries are bounded by bytes where the log is read.
        max_payload_entries: 2048,
        backoff: "20ms 40ms 80ms ..500ms".to_owned(),
        enable_pre_vote: Some(true),
        // The listener says when.
        enable_elect: false,
        // A leader that hears no majority falls silent, so that those who hear it may choose another one.
        quorum_loss_probe_interval: Some(2 * lease + 1),
        // A restarted leader's state machine is older than what it had acknowledged: it must lead in a new term, whose first entry
        // is applied after all earlier ones.
        enable_leader_restore: Some(false),
        // A follower whose log ends before what it confirmed refuses to start, where that can be seen. One where it cannot is no reason for a leader to
        // end: from its answer on it counts for no entry that it lacks, until it has confirmed it again; what was committed with its help stays so.
        allow_log_reversion: Some(true),
        ..Config::default()
    }
}

/// Makes a new directory a group of one, and as the only member takes the lead and applies all of the log. Says whether it is the only member.
pub(crate) async fn lead_if_alone(
    raft: &Engine,
    log: &Arc<Log>,
    settings: &Settings,
    health: &Health,
) -> Result<bool, OpenError> {
    let id = settings.member.id.0;
    if raft.is_initialized().await.map_err(refused)? {
        let voters: Vec<u64> = raft.voter_ids().collect();
        if voters != [id] || raft.learner_ids().next().is_some() {
            return Ok(false);
        }
        forming::group_of(log).await?;
    } else {
        forming::group_of(log).await?;
        let peer = Peer { address: settings.member.address.clone(), incarnation: log.identity().incarnation };
        raft.initialize(BTreeMap::from([(id, peer)])).await.map_err(refused)?;
    }
    raft.trigger().elect(false).await.map_err(refused)?;
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
    /// The log forgets what is flushed and older than its newest bytes.
    pub(crate) retained_bytes: u64,
}

impl Keeper {
    /// Runs until aborted, or the engine's end.
    pub(crate) async fn run(self) {
        // These change with the leader and the members, and close with the engine: few wake-ups under load.
        let mut engine = self.raft.server_metrics();
        let mut next = Instant::now() + self.interval;
        let mut flushed = self.log.appended_bytes();
        loop {
            let due = tokio::select! {
                // In this order, so that no chance is involved that a simulation does not know.
                biased;
                () = self.health.grown() => true,
                () = sleep_until(next) => true,
                changed = engine.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return self.engine_ended(),
                },
            };
            let appended = self.log.appended_bytes();
            if !due {
                continue;
            }
            next = Instant::now() + self.interval;
            if appended > flushed {
                flushed = appended;
                self.health.flush_begins(appended);
                // What an earlier flush has made durable. The engine forgets nothing else, whatever it is told.
                if let Some(upto) = self.log.beyond(self.retained_bytes)
                    && self.raft.trigger().purge_log(upto).await.is_err()
                {
                    return self.engine_ended();
                }
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

/// The error of an engine that does not start.
pub(crate) fn refused(reason: impl ToString) -> OpenError {
    OpenError::Start { reason: reason.to_string() }
}
