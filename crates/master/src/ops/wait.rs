//! Waiting for a path whose objects are still being deleted or renamed in the store.

use crate::core::Core;
use crate::error::{Result, state_error};
use crate::mounts::Mounted;
use forebay_base::{ErrorKind, NsPath};
use forebay_namespace::query;
use forebay_proto::error::WireError;
use std::pin::pin;
use tokio::time::{Instant, timeout_at};

/// Returns when nothing blocks the path. Looked at before a command is proposed, so that a refusal does not become the request's answer.
pub(crate) async fn until_free(core: &Core, mount: &Mounted, path: &NsPath) -> Result<()> {
    let deadline = Instant::now() + core.settings.blocked_wait;
    let key = mount.key(path);
    loop {
        let mut bell = pin!(core.work.unblocked.notified());
        bell.as_mut().enable();
        let snapshot = core.read().await?;
        let blockers = query::blockers(&*snapshot, mount.id(), &key).map_err(state_error)?;
        if blockers.is_none() {
            return Ok(());
        }
        core.work.trash.notify_one();
        if timeout_at(deadline, bell).await.is_err() {
            return Err(blocked(path));
        }
    }
}

fn blocked(path: &NsPath) -> WireError {
    WireError::new(ErrorKind::Unavailable, format!("objects at {path} are still being deleted or renamed in the store"))
        .with_hint("try again later; forebay status shows the pending deletes")
}
