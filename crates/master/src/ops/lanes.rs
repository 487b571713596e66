//! Background work by mount: at most one pass of a kind runs for each, and a store that hangs holds up nobody but its own mount.

use crate::error::Result;
use crate::metrics::names;
use forebay_base::MountId;
use futures::FutureExt;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The pause of a mount after a pass that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Where a mount stands.
enum Lane {
    Busy,
    /// Its last pass failed: nothing begins before then.
    RestsUntil(Instant),
}

/// The passes of one kind of work. Dropping it ends them, which they must bear at any point, as a crash.
pub(crate) struct Lanes {
    task: &'static str,
    lanes: HashMap<MountId, Lane>,
    running: JoinSet<(MountId, bool)>,
}

impl Lanes {
    /// `task` is the work's name in metrics and messages.
    pub(crate) fn new(task: &'static str) -> Lanes {
        Lanes { task, lanes: HashMap::new(), running: JoinSet::new() }
    }

    /// Whether a pass may begin for the mount.
    pub(crate) fn is_free(&self, mount: MountId) -> bool {
        self.is_free_at(mount, Instant::now())
    }

    fn is_free_at(&self, mount: MountId, now: Instant) -> bool {
        match self.lanes.get(&mount) {
            None => true,
            Some(Lane::Busy) => false,
            Some(Lane::RestsUntil(then)) => now >= *then,
        }
    }

    /// Begins a pass for a mount that is free.
    pub(crate) fn begin(&mut self, mount: MountId, pass: impl Future<Output = Result<()>> + Send + 'static) {
        self.lanes.insert(mount, Lane::Busy);
        let task = self.task;
        self.running.spawn(async move {
            let outcome = AssertUnwindSafe(pass).catch_unwind().await;
            let error = match outcome {
                Ok(Ok(())) => return (mount, true),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            metrics::counter!(names::BACKGROUND_FAILURES, "task" => task).increment(1);
            tracing::warn!(mount = mount.0, error, "background work of a mount ({task}) goes on later");
            (mount, false)
        });
    }

    /// Waits for the end of any pass; for ever when none runs.
    pub(crate) async fn ended(&mut self) {
        match self.running.join_next().await {
            Some(Ok((mount, true))) => {
                self.lanes.remove(&mount);
            }
            Some(Ok((mount, false))) => {
                self.lanes.insert(mount, Lane::RestsUntil(Instant::now() + RETRY_PAUSE));
            }
            // Aborted with the runtime.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::internal;

    #[tokio::test]
    async fn a_mount_has_one_pass_and_rests_after_a_failure() {
        let mut lanes = Lanes::new("test");
        let (one, two) = (MountId(1), MountId(2));
        lanes.begin(one, std::future::pending());
        assert!(!lanes.is_free(one) && lanes.is_free(two), "a pass that hangs is nobody else's business");
        lanes.begin(two, async { Ok(()) });
        lanes.ended().await;
        assert!(lanes.is_free(two));
        lanes.begin(two, async { Err(internal("planted by the test")) });
        lanes.ended().await;
        assert!(!lanes.is_free(two));
        assert!(lanes.is_free_at(two, Instant::now() + RETRY_PAUSE));
        lanes.begin(two, async { panic!("planted by the test") });
        lanes.ended().await;
        assert!(!lanes.is_free(two) && !lanes.is_free(one));
    }
}
