//! A change of voters is two entries: one with the old and the new voters together, one with the new ones alone. Who proposes the first one
//! proposes the second. If its lead ends in between, whoever leads next does it: in the first one both majorities are needed for everything,
//! and no other change can begin.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;

use crate::runtime::{sleep, timeout};
use crate::start::{Engine, metrics_of};

/// What is needed to finish a change.
pub(crate) struct Finisher {
    pub(crate) raft: Engine,
    /// Held by those whose change is under way here.
    pub(crate) changes: Arc<tokio::sync::Mutex<()>>,
    /// Between two attempts.
    pub(crate) pause: Duration,
    /// For one attempt.
    pub(crate) patience: Duration,
}

impl Finisher {
    /// Runs until aborted, or the engine's end.
    pub(crate) async fn run(self) {
        let mut engine = self.raft.server_metrics();
        loop {
            if self.is_due() {
                self.finish().await;
                sleep(self.pause).await;
            } else if engine.changed().await.is_err() {
                return;
            }
        }
    }

    /// This member leads, and the voters are half changed: perhaps by somebody here who is at it.
    fn is_due(&self) -> bool {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_planted(crate::simulation::Fault::ChangeLeftUnfinished) {
            return false;
        }
        let metrics = metrics_of(&self.raft);
        let joint = metrics.membership_config.membership().get_joint_config().len() > 1;
        joint && metrics.state.is_leader() && metrics.running_state.is_ok()
    }

    async fn finish(&self) {
        let Ok(_turn) = self.changes.try_lock() else {
            return;
        };
        // Whoever had the turn before may have finished it.
        if !self.is_due() {
            return;
        }
        // No change but the one that is half made.
        let rest = ChangeMembers::AddVoterIds(BTreeSet::new());
        match timeout(self.patience, self.raft.change_membership(rest, false)).await {
            Ok(Ok(_)) => tracing::info!("finished a change of the masters that an earlier leader began"),
            // Its first half is not decided yet, or the lead has ended.
            Ok(Err(error)) => tracing::debug!(%error, "a change of the masters cannot be finished yet"),
            Err(_) => tracing::debug!("a change of the masters is not finished in time"),
        }
    }
}
