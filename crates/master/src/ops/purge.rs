//! The background that empties the trash: first the store's objects, then the inodes, in batches; it goes on after a restart.
//!
//! What lies in the trash blocks its keys, so nothing new can appear there meanwhile. A directory that the user deleted with all below it
//! is deleted by the store's own listing, since the store may hold more than was ever loaded; an empty one by its marker alone, so that what somebody else
//! put there since survives.

use crate::core::Core;
use crate::error::{Result, state_error, store_error};
use crate::metrics::names;
use crate::mounts::Mounted;
use bytes::Bytes;
use forebay_base::{MountId, NsPath};
use forebay_namespace::command::{PurgeTrash, TrashedName};
use forebay_namespace::query::Trashed;
use forebay_namespace::record::TrashEntry;
use forebay_namespace::{BATCH_MAX, query};
use forebay_ufs::{DeleteTarget, ListCursor, ObjectKind, Ufs};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Trash entries read at a time.
const ENTRIES: usize = 100;
/// Objects of one delete request: what S3 takes at most.
const TARGETS: usize = 1000;
/// The pause after a failure of a store.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Empties the trash until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        let pause = match empty(&core).await {
            Ok(true) => core.settings.tick.max(Duration::from_secs(1)),
            Ok(false) => RETRY_PAUSE,
            Err(error) => {
                tracing::warn!(%error, "the trash cannot be emptied for now");
                RETRY_PAUSE
            }
        };
        let bell = core.work.trash.notified();
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Goes through all entries once; whether all are gone.
async fn empty(core: &Arc<Core>) -> Result<bool> {
    let (mut after, mut all_gone) = (0, true);
    loop {
        let entries = query::trash(&*core.read().await?, after, ENTRIES).map_err(state_error)?;
        let Some(last) = entries.last() else {
            return Ok(all_gone);
        };
        after = last.id;
        for entry in entries {
            let id = entry.id;
            if let Err(error) = purge(core, entry).await {
                metrics::counter!(names::BACKGROUND_FAILURES, "task" => "purge").increment(1);
                tracing::warn!(entry = id, %error, "deleted objects cannot be removed from their store yet");
                all_gone = false;
            }
        }
        let summary = query::summary(&*core.glance()).map_err(state_error)?;
        metrics::gauge!(names::PENDING_DELETES).set(summary.trash_entries as f64);
    }
}

async fn purge(core: &Arc<Core>, entry: TrashEntry) -> Result<()> {
    // When the mount is gone, its store is none of ours any more.
    let mount = core.mounts.get(MountId(entry.mount));
    if let Some(mount) = mount.filter(|_| entry.purge_store) {
        delete_objects(core, &mount, &entry).await?;
    }
    crate::fault::point("purge: deleted, not committed")?;
    forget_inodes(core, entry.id).await?;
    core.work.unblocked.notify_waiters();
    Ok(())
}

async fn delete_objects(core: &Arc<Core>, mount: &Mounted, entry: &TrashEntry) -> Result<()> {
    let page = query::trash_page(&*core.glance(), entry.id, 2).map_err(state_error)?;
    let Some(top) = page.first() else {
        return Ok(());
    };
    keep_parent(core, mount, entry).await?;
    let store = mount.store()?;
    let is_top = top.inode.id == entry.id;
    if is_top && !top.inode.is_directory() {
        return delete_batch(core, store, vec![DeleteTarget::file(entry.key.clone())]).await;
    }
    if !is_top || !top.inode.is_loaded() {
        delete_below(core, store, &entry.key).await?;
    }
    delete_marker(store, &entry.key).await
}

/// Deletes what makes a directory stay when it is empty. Entries that somebody else has put there stay, and are loaded when asked for.
pub(crate) async fn delete_marker(store: &Arc<dyn Ufs>, key: &Bytes) -> Result<()> {
    match store.delete(&[DeleteTarget::directory(key.clone())]).await.map_err(store_error)?.pop() {
        Some(Err(forebay_ufs::UfsError::NotEmpty(_))) | None | Some(Ok(())) => {}
        Some(Err(error)) => return Err(store_error(error)),
    }
    if store.capabilities().real_directories {
        return Ok(());
    }
    // Some tools mark a directory by an empty object of its name. Without the entries it would show as an empty file.
    let left = store.stat(key).await.map_err(store_error)?;
    if left.is_some_and(|meta| !meta.is_directory() && meta.length == 0) {
        for outcome in store.delete(&[DeleteTarget::file(key.clone())]).await.map_err(store_error)? {
            outcome.map_err(store_error)?;
        }
    }
    Ok(())
}

/// In an object store a directory ends with its last object: marks the parent, if it is to stay.
async fn keep_parent(core: &Arc<Core>, mount: &Mounted, entry: &TrashEntry) -> Result<()> {
    let store = mount.store()?;
    let Some(slash) = entry.key.iter().rposition(|byte| *byte == b'/') else {
        return Ok(());
    };
    if store.capabilities().real_directories {
        return Ok(());
    }
    mark_if_empty(core, mount, &entry.key[..slash]).await
}

/// Marks a directory of an object store that the namespace shows and that has no entries any more.
pub(crate) async fn mark_if_empty(core: &Core, mount: &Mounted, key: &[u8]) -> Result<()> {
    if key.is_empty() {
        return Ok(());
    }
    let path: NsPath = mount.path_of_key(key)?;
    let snapshot = core.read().await?;
    let resolved = query::resolve(&*snapshot, &path).map_err(state_error)?;
    let Some(step) = resolved.found().filter(|step| step.inode.is_directory()) else {
        return Ok(());
    };
    let entries = query::list(&*snapshot, step.inode.inode_id(), b"", 1).map_err(state_error)?;
    if !entries.is_empty() {
        return Ok(());
    }
    mount.store()?.make_directory(key).await.map_err(store_error)
}

/// Deletes everything below a directory, by the store's own listing, children before their directory.
pub(crate) async fn delete_below(core: &Arc<Core>, store: &Arc<dyn Ufs>, key: &[u8]) -> Result<()> {
    let mut frames = vec![Frame::new(Bytes::copy_from_slice(key))];
    while let Some(frame) = frames.last_mut() {
        if let Some(directory) = frame.directories.pop() {
            frames.push(Frame::new(directory));
            continue;
        }
        if let Some(files) = frame.fill(store).await? {
            delete_batch(core, store, files).await?;
            continue;
        }
        let done = frames.pop().map(|frame| frame.key);
        if let Some(key) = done.filter(|_| !frames.is_empty()) {
            delete_batch(core, store, vec![DeleteTarget::directory(key)]).await?;
        }
    }
    Ok(())
}

/// One directory on the way down: one page of its listing at a time.
struct Frame {
    key: Bytes,
    directories: Vec<Bytes>,
    cursor: Option<ListCursor>,
    ended: bool,
}

impl Frame {
    fn new(key: Bytes) -> Frame {
        Frame { key, directories: Vec::new(), cursor: None, ended: false }
    }

    /// Reads the next page: its directories are kept, its files returned. None at the end.
    async fn fill(&mut self, store: &Arc<dyn Ufs>) -> Result<Option<Vec<DeleteTarget>>> {
        if self.ended {
            return Ok(None);
        }
        let page = match store.list(&self.key, self.cursor.as_ref(), TARGETS).await {
            Err(forebay_ufs::UfsError::NotFound(_)) => Default::default(),
            page => page.map_err(store_error)?,
        };
        self.ended = page.next.is_none();
        self.cursor = page.next;
        let shown = page.entries.into_iter().map(|entry| (entry.name, entry.meta.kind));
        let hidden = page.hidden.into_iter().map(|entry| (entry.name, entry.kind));
        let mut files = Vec::new();
        for (name, kind) in shown.chain(hidden) {
            let key = join(&self.key, &name);
            match kind {
                ObjectKind::Directory => self.directories.push(key),
                ObjectKind::File => files.push(DeleteTarget::file(key)),
            }
        }
        Ok(Some(files))
    }
}

/// The key of an entry of a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Bytes {
    match directory {
        b"" => Bytes::copy_from_slice(name),
        directory => [directory, b"/", name].concat().into(),
    }
}

/// Deletes at the rate of the settings.
async fn delete_batch(core: &Core, store: &Arc<dyn Ufs>, targets: Vec<DeleteTarget>) -> Result<()> {
    for part in targets.chunks(TARGETS) {
        for outcome in store.delete(part).await.map_err(store_error)? {
            outcome.map_err(store_error)?;
        }
        metrics::counter!(names::PURGED_OBJECTS).increment(part.len() as u64);
        let rate = core.settings.purge_objects_per_second.max(1);
        tokio::time::sleep(Duration::from_secs(1) * part.len() as u32 / rate).await;
    }
    Ok(())
}

async fn forget_inodes(core: &Arc<Core>, trash: u64) -> Result<()> {
    loop {
        let page = query::trash_page(&*core.read().await?, trash, BATCH_MAX).map_err(state_error)?;
        if page.is_empty() {
            return Ok(());
        }
        let command = PurgeTrash { trash, entries: page.iter().map(place).collect() };
        core.propose(command).await?;
        let files = page.iter().filter(|trashed| !trashed.inode.is_directory());
        core.registry.freed(files.map(|trashed| trashed.inode.id));
    }
}

fn place(trashed: &Trashed) -> TrashedName {
    TrashedName { parent: trashed.parent.0, name: trashed.name.clone() }
}
