//! Waiting for a path whose objects are still being deleted or renamed in the store.

use crate::core::Core;
use crate::error::{Result, state_error};
use crate::mounts::Mounted;
use crate::path_locks::PathGuard;
use crate::sync::is_blocked;
use forebay_base::{ErrorKind, NsPath};
use forebay_namespace::query;
use forebay_proto::error::WireError;
use std::pin::pin;
use tokio::time::{Instant, timeout_at};

/// Returns when nothing blocks the path. Looked at before a command is proposed, so that a refusal does not become the request's answer.
/// No lock may be held: who ends a rename takes those of its paths.
pub(crate) async fn until_free(core: &Core, mount: &Mounted, path: &NsPath, deadline: Instant) -> Result<()> {
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

/// Locks paths when nothing blocks them in the mount that they lie in, if any.
pub(crate) async fn lock_free(
    core: &Core,
    mount: Option<&Mounted>,
    paths: &[&NsPath],
    deadline: Instant,
) -> Result<PathGuard> {
    let own = || paths.iter().copied().cloned().collect();
    let Some(mount) = mount else {
        return Ok(core.locks.lock(own()).await);
    };
    loop {
        for path in paths {
            until_free(core, mount, path, deadline).await?;
        }
        let guard = core.locks.lock(own()).await;
        // Whoever held the locks before may have left the paths blocked.
        let snapshot = core.glance();
        let blocked = paths.iter().map(|path| is_blocked(&snapshot, mount, &mount.key(path)));
        if !blocked.collect::<Result<Vec<_>>>()?.contains(&true) {
            return Ok(guard);
        }
    }
}

fn blocked(path: &NsPath) -> WireError {
    WireError::new(ErrorKind::Unavailable, format!("objects at {path} are still being deleted or renamed in the store"))
        .with_hint("try again later; forebay status shows the pending deletes")
}
