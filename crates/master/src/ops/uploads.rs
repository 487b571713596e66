//! The background that ends writes whose lease has ended, and aborts the uploads of writes that were given up.

use crate::core::Core;
use crate::error::{Result, state_error, store_error};
use crate::metrics::names;
use forebay_base::MountId;
use forebay_namespace::command::{AdvanceTime, ExpireWrites, ForgetWrites};
use forebay_namespace::{Write, query};
use forebay_ufs::UploadId;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Writes looked at in one go.
const BATCH: usize = 100;
/// Uploads of one key that are looked at when a write ends without having recorded one.
const UPLOADS_LISTED: usize = 100;
/// How far a store's clock may be behind ours, when its uploads are told apart from older ones.
const STORE_CLOCK_SLACK_MS: u64 = 15 * 60 * 1000;

/// Works until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        if let Err(error) = tick(&core).await {
            metrics::counter!(names::BACKGROUND_FAILURES, "task" => "uploads").increment(1);
            tracing::warn!(%error, "abandoned writes cannot be cleaned up for now");
        }
        let bell = core.work.uploads.notified();
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell => {}
            () = tokio::time::sleep(core.settings.tick) => {}
        }
    }
}

async fn tick(core: &Arc<Core>) -> Result<()> {
    expire(core).await?;
    abort(core).await
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
        for write in writes.iter().filter(|write| write.upload.is_empty()) {
            abort_unrecorded(core, write).await;
        }
        metrics::counter!(names::WRITES_EXPIRED).increment(writes.len() as u64);
        let writes = writes.iter().map(|write| write.id).collect();
        core.propose(ExpireWrites { writes }).await?;
    }
}

/// Aborts uploads of a write that ended before it could record one: a master died between beginning it and saying so. They are
/// told by their key and by having begun since the write did. What cannot be found out now stays in the store.
async fn abort_unrecorded(core: &Core, write: &Write) {
    let Some(mount) = core.mounts.get(MountId(write.mount)) else {
        return;
    };
    let Ok(store) = mount.store() else { return };
    let listed = store.list_uploads(&write.key, None, UPLOADS_LISTED).await;
    let uploads = match listed {
        Ok(page) => page.uploads,
        Err(error) => {
            tracing::warn!(write = write.id, %error, "uploads of an ended write cannot be looked for");
            return;
        }
    };
    let since_ms = write.started_ms.saturating_sub(STORE_CLOCK_SLACK_MS);
    for pending in uploads {
        if pending.key == write.key
            && pending.begun_ms >= since_ms
            && let Err(error) = store.abort_upload(&write.key, &pending.upload).await
        {
            tracing::warn!(write = write.id, %error, "an upload of an ended write stays in the store");
        }
    }
}

/// Aborts uploads of writes that were given up, then forgets those writes.
async fn abort(core: &Arc<Core>) -> Result<()> {
    loop {
        let writes = query::abandoned_writes(&*core.read().await?, BATCH).map_err(state_error)?;
        if writes.is_empty() {
            return Ok(());
        }
        let (mut ended, mut failed) = (Vec::new(), None);
        for write in writes {
            match abort_one(core, &write).await {
                Ok(()) => ended.push(write.id),
                Err(error) => failed = Some(error),
            }
        }
        if !ended.is_empty() {
            core.propose(ForgetWrites { writes: ended }).await?;
        }
        if let Some(error) = failed {
            return Err(error);
        }
    }
}

async fn abort_one(core: &Core, write: &Write) -> Result<()> {
    let Some(mount) = core.mounts.get(MountId(write.mount)) else {
        return Ok(());
    };
    let upload = UploadId(write.upload.clone());
    mount.store()?.abort_upload(&write.key, &upload).await.map_err(store_error)
}
