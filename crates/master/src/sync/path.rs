//! The comparison of one path: one object is asked for, never its whole directory.

use crate::core::Core;
use crate::error::{Result, internal, state_error, store_error};
use crate::metrics::names;
use crate::mounts::Mounted;
use crate::sync::children::{describe, is_guarded, is_same, removal};
use crate::sync::{STALE_RETRIES, count, is_blocked};
use forebay_base::{ErrorKind, Name, NsPath};
use forebay_metastore::Snapshot;
use forebay_namespace::command::{SyncApply, SyncEntry};
use forebay_namespace::query;
use forebay_namespace::{Payload, Reason};
use forebay_proto::error::WireError;
use forebay_ufs::ObjectMeta;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::AbortHandle;

/// Compares a path with its store, together with all who ask for it at the time. With `strict` the store must be asked after `asked`.
pub(super) async fn sync(
    core: &Arc<Core>,
    mount: &Arc<Mounted>,
    path: &NsPath,
    asked: Instant,
    strict: bool,
) -> Result<()> {
    loop {
        let (started, outcome) = join(core, mount, path);
        let outcome = outcome.await;
        if !strict || started >= asked {
            return outcome;
        }
    }
}

type Outcome = BoxFuture<'static, Result<()>>;

/// A comparison under way. It lives as long as anybody waits for it: there are never more than requests that are being served.
pub(super) struct Running {
    number: u64,
    started: Instant,
    outcome: WeakShared<Outcome>,
}

fn join(core: &Arc<Core>, mount: &Arc<Mounted>, path: &NsPath) -> (Instant, Shared<Outcome>) {
    let mut paths = core.syncs.paths.lock();
    if let Some(running) = paths.get(path)
        && let Some(outcome) = running.outcome.upgrade()
    {
        return (running.started, outcome);
    }
    let started = Instant::now();
    let number = core.syncs.next_number();
    let leave = Leave { core: Arc::clone(core), path: path.clone(), number };
    let task = tokio::spawn(run(leave, Arc::clone(mount), started));
    let abandoned = AbortOnDrop(task.abort_handle());
    let outcome = async move {
        let _abandoned = abandoned;
        task.await.unwrap_or_else(|error| Err(internal(format!("a comparison ended: {error}"))))
    };
    let outcome = outcome.boxed().shared();
    // It has not been asked for its outcome yet, so there is one to follow.
    if let Some(weak) = outcome.downgrade() {
        paths.insert(path.clone(), Running { number, started, outcome: weak });
    }
    (started, outcome)
}

/// Ends a comparison that nobody waits for any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes the comparison out of the table, also when it panics; the next one of the path may stand there already.
struct Leave {
    core: Arc<Core>,
    path: NsPath,
    number: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut paths = self.core.syncs.paths.lock();
        if paths.get(&self.path).is_some_and(|running| running.number == self.number) {
            paths.remove(&self.path);
        }
    }
}

async fn run(leave: Leave, mount: Arc<Mounted>, started: Instant) -> Result<()> {
    let (core, path) = (&leave.core, &leave.path);
    let outcome = compare(core, &mount, path).await;
    match &outcome {
        Ok(Compared::Yes) => core.freshness.path_compared(mount.id(), path, started),
        Ok(Compared::Blocked) => {}
        Err(_) => metrics::counter!(names::SYNC_FAILURES).increment(1),
    }
    outcome.map(|_| ())
}

/// Whether a path was compared.
enum Compared {
    Yes,
    /// Objects there are being deleted or renamed: nothing was looked at that could be remembered.
    Blocked,
}

async fn compare(core: &Arc<Core>, mount: &Arc<Mounted>, path: &NsPath) -> Result<Compared> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Compared::Yes);
    };
    let key = mount.key(path);
    for _ in 0..STALE_RETRIES {
        let snapshot = core.read().await?;
        if is_blocked(&snapshot, mount, &key)? {
            return Ok(Compared::Blocked);
        }
        let Some(base) = query::sync_base(&*snapshot, &directory).map_err(state_error)? else {
            // A file stands in the way. If it is gone from the store, what lies behind it may be there now.
            return Box::pin(compare_obstacle(core, mount, path, &snapshot)).await;
        };
        metrics::counter!(names::SYNC_STATS).increment(1);
        let meta = mount.store()?.stat(&key).await;
        // A file above the key, on a store with real directories: nothing can lie below it.
        let meta = match meta {
            Err(forebay_ufs::UfsError::NotADirectory(_)) => None,
            meta => meta.map_err(store_error)?,
        };
        let Some(entry) = difference(core, mount, path, &name, &snapshot, meta)? else {
            return Ok(Compared::Yes);
        };
        let command = SyncApply {
            directory: directory.to_bytes(),
            base_inode: base.inode.0,
            base_generation: base.generation,
            entries: vec![entry],
            ..SyncApply::default()
        };
        match core.propose(command).await {
            Ok(Payload::Synced(synced)) => {
                count(&synced);
                return Ok(Compared::Yes);
            }
            Ok(other) => return Err(internal(format!("a comparison was answered {other:?}"))),
            Err(refused) if refused.reason == Reason::Stale => {}
            Err(refused) => return Err(refused.error),
        }
    }
    Err(busy(path))
}

/// Entries keep being removed while the store is asked.
pub(super) fn busy(path: &NsPath) -> WireError {
    WireError::new(ErrorKind::Unavailable, format!("{path} changes faster than it can be compared with its store"))
        .with_hint("try again in a moment")
}

fn difference(
    core: &Core,
    mount: &Mounted,
    path: &NsPath,
    name: &Name,
    snapshot: &Snapshot,
    meta: Option<ObjectMeta>,
) -> Result<Option<SyncEntry>> {
    let resolved = query::resolve(snapshot, path).map_err(state_error)?;
    let before = resolved.found().map(|step| &step.inode);
    let directory = path.parent().unwrap_or_else(NsPath::root);
    if let Some(inode) = before
        && is_guarded(core, mount, &directory, snapshot, &name.to_bytes(), inode)?
    {
        return Ok(None);
    }
    Ok(match (before, meta) {
        (None, None) => None,
        (Some(inode), Some(meta)) if is_same(inode, &meta) => None,
        (Some(inode), None) => Some(removal(name.to_bytes(), inode)),
        (before, Some(meta)) => Some(describe(name.to_bytes(), &meta, before)),
    })
}

/// The path leads through a file: compares that one, and the path once more if it was no file any longer.
async fn compare_obstacle(
    core: &Arc<Core>,
    mount: &Arc<Mounted>,
    path: &NsPath,
    snapshot: &Snapshot,
) -> Result<Compared> {
    let resolved = query::resolve(snapshot, path).map_err(state_error)?;
    let above = path
        .ancestors_and_self()
        .nth(resolved.steps.len() - 1)
        .filter(|above| above != path && above.starts_with(&mount.path));
    let Some(above) = above else { return Ok(Compared::Yes) };
    compare(core, mount, &above).await?;
    let snapshot = core.read().await?;
    let directory = path.parent().unwrap_or_else(NsPath::root);
    match query::sync_base(&*snapshot, &directory).map_err(state_error)? {
        None => Ok(Compared::Yes),
        Some(_) => compare(core, mount, path).await,
    }
}
