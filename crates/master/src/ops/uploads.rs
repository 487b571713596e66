//! The background that ends writes whose lease has ended, and aborts the uploads of writes that were given up.
//!
//! A part that is on its way when its upload is aborted may come to the store afterwards, and stays there then (S3 says so of itself). So an upload is aborted again and
//! again, at growing intervals, and its write forgotten only with the last time, a lease after the first. Another leader begins with the first again.
//!
//! Only uploads that a write has recorded are aborted: other programs upload under the same keys. One that a master began and did not come to
//! record before it died stays in the store, as any upload does whose program dies; a lifecycle rule of the bucket takes those away.

mod again;

use crate::core::Core;
use crate::error::{Result, state_error, store_error};
use crate::metrics::names;
use crate::ops::lanes::Lanes;
use crate::ops::uploads::again::Aborts;
use forebay_base::MountId;
use forebay_namespace::command::{AdvanceTime, ExpireWrites, ForgetWrites};
use forebay_namespace::{Write, query};
use forebay_ufs::UploadId;
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Writes looked at in one go.
const BATCH: usize = 100;
/// Uploads of one mount that are aborted at the same time.
const ABORTS_AT_ONCE: usize = 8;

/// Works until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut lanes = Lanes::new("uploads");
    let aborts = Arc::new(Aborts::new(core.settings.write_lease));
    loop {
        if let Err(error) = tick(&core, &aborts, &mut lanes).await {
            metrics::counter!(names::BACKGROUND_FAILURES, "task" => "uploads").increment(1);
            tracing::warn!(%error, "abandoned writes cannot be cleaned up for now");
        }
        let bell = core.work.uploads.notified();
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell => {}
            () = lanes.ended() => {}
            () = tokio::time::sleep(core.settings.tick) => {}
        }
    }
}

async fn tick(core: &Arc<Core>, aborts: &Arc<Aborts>, lanes: &mut Lanes) -> Result<()> {
    expire(core).await?;
    // Those where nothing is due would have their passes end, and the next ones begin, without a pause.
    let is_due = |write: &Write| aborts.is_due(write.id, Instant::now());
    let mounts = query::mounts_with_abandoned_writes(&*core.read().await?, is_due).map_err(state_error)?;
    for mount in mounts.into_iter().filter(|mount| lanes.is_free(*mount)).collect::<Vec<_>>() {
        lanes.begin(mount, abort(Arc::clone(core), Arc::clone(aborts), mount));
    }
    Ok(())
}

/// Ends writes whose lease has ended. Log time moves with commands, so on an idle cluster one is sent when the clock says that a lease has ended.
async fn expire(core: &Arc<Core>) -> Result<()> {
    loop {
        let now_ms = core.now_ms();
        let snapshot = core.read().await?;
        let summary = query::summary(&*snapshot).map_err(state_error)?;
        let by_ms = now_ms.max(summary.log_time_ms);
        let writes = query::expired_writes(&*snapshot, by_ms, BATCH).map_err(state_error)?;
        drop(snapshot);
        if writes.is_empty() {
            return Ok(());
        }
        if summary.log_time_ms < now_ms {
            core.propose(AdvanceTime {}).await?;
        }
        metrics::counter!(names::WRITES_EXPIRED).increment(writes.len() as u64);
        let writes = writes.iter().map(|write| write.id).collect();
        core.propose(ExpireWrites { writes }).await?;
    }
}

/// Aborts the uploads of a mount's writes that were given up, those that are due, and forgets the writes of which it was the last time. One that fails holds up no other.
async fn abort(core: Arc<Core>, aborts: Arc<Aborts>, mount: MountId) -> Result<()> {
    let (mut after, mut failed) = (0, None);
    loop {
        let writes = query::abandoned_writes(&*core.read().await?, mount, after, BATCH).map_err(state_error)?;
        let Some(last) = writes.last() else {
            return failed.map_or(Ok(()), Err);
        };
        after = last.id;
        let due: Vec<&Write> = writes.iter().filter(|write| aborts.is_due(write.id, Instant::now())).collect();
        let calls = due.iter().map(|write| abort_one(&core, write)).collect::<Vec<_>>();
        let outcomes: Vec<_> = stream::iter(calls).buffered(ABORTS_AT_ONCE).collect().await;
        let (mut aborted, mut ended, mut refused) = (0, Vec::new(), None);
        for (write, outcome) in due.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    aborted += 1;
                    ended.extend(aborts.aborted(write.id, Instant::now()).then_some(write.id));
                }
                Err(error) => refused = Some(error),
            }
        }
        if !ended.is_empty() {
            core.propose(ForgetWrites { writes: ended.clone() }).await?;
            aborts.forget(&ended);
        }
        if let Some(error) = refused.take_if(|_| aborted == 0 && due.len() > 1) {
            // The store is away: the others would fail alike.
            return Err(error);
        }
        failed = refused.or(failed);
    }
}

async fn abort_one(core: &Core, write: &Write) -> Result<()> {
    let Some(mount) = core.mounts.get_or_removed(MountId(write.mount)) else {
        return Ok(());
    };
    let upload = UploadId(write.upload.clone());
    mount.store()?.abort_upload(&write.key, &upload).await.map_err(store_error)
}
