//! The background that empties the trash: first the store's objects, then the inodes, in batches; it goes on after a restart.
//!
//! What lies in the trash blocks its keys, so nothing new of ours can appear there meanwhile; what other programs put there can, and survives:
//! see [`Doom`]. A directory that the user deleted with all below it is deleted by the store's own listing, since the store may hold more than was
//! ever loaded; an empty one by its marker alone.
//!
//! Where directories are real an entry waits for those below it, which were deleted before. Each mount has a pass of its own. A pass gives each trash entry a slice in turn, several entries at a time, so that a huge delete holds up
//! neither small ones nor other mounts.

mod doom;
mod pace;
mod walks;

use self::doom::Doom;
use self::pace::Pace;
use self::walks::Walks;
use crate::core::Core;
use crate::error::{Result, state_error, store_error};
use crate::metrics::names;
use crate::mounts::Mounted;
use crate::ops::lanes::Lanes;
use crate::ops::store_walk::{PAGE_LEN, Place, StoreWalk, Visit, join};
use bytes::Bytes;
use forebay_base::{MountId, NsPath};
use forebay_namespace::command::{NotePurge, PurgeTrash, TrashedName};
use forebay_namespace::query::Trashed;
use forebay_namespace::record::{PurgePlace, TrashEntry};
use forebay_namespace::{BATCH_MAX, query, versions};
use forebay_ufs::{DeleteCondition, DeleteTarget, ListKey, ObjectKind, UfsError};
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Trash entries read at a time.
const ENTRIES: usize = 1000;
/// Entries of one mount that are worked on at the same time.
const ENTRIES_AT_ONCE: usize = 16;
/// Objects, or inodes, after which an entry lets others go first.
const SLICE: usize = 1000;
/// Objects that are looked at, whosever they are, after which it does so too.
const LOOKED_AT: usize = 4 * SLICE;
/// Failures after which a pass gives up: the store is away, and the other entries would fail alike.
const FAILURES_MAX: usize = 2 * ENTRIES_AT_ONCE;
/// The lane of what needs no store: the metadata of deleted directories that no store is to know of.
const NO_STORE: MountId = MountId(0);

/// Whether an entry is done with.
enum Slice {
    Done,
    More,
}

/// Empties the trash until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut lanes = Lanes::new("purge");
    let walks = Arc::new(Walks::default());
    loop {
        if let Err(error) = begin(&core, &mut lanes, &walks) {
            tracing::warn!(%error, "the trash cannot be emptied for now");
        }
        let bell = core.work.trash.notified();
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell => {}
            () = lanes.ended() => {}
            () = tokio::time::sleep(core.settings.tick.max(Duration::from_secs(1))) => {}
        }
    }
}

/// Begins a pass for each mount that has something to delete.
fn begin(core: &Arc<Core>, lanes: &mut Lanes, walks: &Arc<Walks>) -> Result<()> {
    let snapshot = core.glance();
    let summary = query::summary(&*snapshot).map_err(state_error)?;
    metrics::gauge!(names::PENDING_DELETES).set(summary.trash_entries as f64);
    if summary.trash_entries == 0 {
        return Ok(());
    }
    for mount in core.mounts.all().iter().filter(|mount| lanes.is_free(mount.id())).collect::<Vec<_>>() {
        let entries = query::trash_of_mount(&*snapshot, mount.id(), None, 1).map_err(state_error)?;
        if !entries.is_empty() {
            lanes.begin(mount.id(), pass(Arc::clone(core), Arc::clone(mount), Arc::clone(walks)));
        }
    }
    if lanes.is_free(NO_STORE) {
        let (core, walks) = (Arc::clone(core), Arc::clone(walks));
        lanes.begin(NO_STORE, async move {
            let started = Instant::now();
            pass_without_store(&core, &walks).await?;
            // It looks at all entries, also at those that wait for a store: a tenth of the time is enough for that.
            tokio::time::sleep(core.settings.tick.max(9 * started.elapsed())).await;
            Ok(())
        });
    }
    Ok(())
}

/// Goes through the entries of a mount once.
async fn pass(core: Arc<Core>, mount: Arc<Mounted>, walks: Arc<Walks>) -> Result<()> {
    let pace = Pace::new(core.settings.purge_objects_per_second);
    let (mut after, mut failures, mut failed) = (None::<Bytes>, 0, None);
    loop {
        let snapshot = core.read().await?;
        let entries = query::trash_of_mount(&*snapshot, mount.id(), after.as_deref(), ENTRIES).map_err(state_error)?;
        drop(snapshot);
        let Some(last) = entries.last() else {
            return failed.map_or(Ok(()), Err);
        };
        after = Some(last.key.clone());
        let slice = |entry| Purge { core: &core, mount: &mount, pace: &pace, walks: &walks, entry }.slice();
        let slices: Vec<_> = entries.into_iter().map(slice).collect();
        let mut slices = stream::iter(slices).buffer_unordered(ENTRIES_AT_ONCE);
        while let Some(outcome) = slices.next().await {
            let Err(error) = outcome else { continue };
            failures += 1;
            if failures == FAILURES_MAX {
                return Err(error);
            }
            failed = Some(error);
        }
    }
}

/// Forgets the inodes of entries whose objects are not, or no longer, to be deleted: when a mount is gone, its store is none of ours any more.
async fn pass_without_store(core: &Arc<Core>, walks: &Walks) -> Result<()> {
    let mut after = 0;
    loop {
        let snapshot = core.read().await?;
        let entries = query::trash(&*snapshot, after, ENTRIES).map_err(state_error)?;
        // Of the same moment as the entries: the table of open stores may be behind.
        let mounts = query::mounts(&*snapshot).map_err(state_error)?;
        drop(snapshot);
        let Some(last) = entries.last() else {
            return Ok(());
        };
        after = last.id;
        for entry in entries {
            if !entry.purge_store || mounts.iter().all(|mount| mount.id != entry.mount) {
                walks.take(entry.id);
                while let Slice::More = forget_inodes(core, entry.id).await? {}
                core.work.unblocked.notify_waiters();
            }
        }
    }
}

/// One entry of the trash.
struct Purge<'a> {
    core: &'a Arc<Core>,
    mount: &'a Arc<Mounted>,
    pace: &'a Pace,
    walks: &'a Walks,
    entry: TrashEntry,
}

impl Purge<'_> {
    async fn slice(self) -> Result<Slice> {
        crate::fault::point("purge: not begun")?;
        if self.core.mounts.get(self.mount.id()).is_none() {
            // Unmounted since the pass began: its store is none of ours any more.
            return Ok(Slice::More);
        }
        if let Slice::More = self.delete_objects().await? {
            return Ok(Slice::More);
        }
        crate::fault::point("purge: deleted, not committed")?;
        let outcome = forget_inodes(self.core, self.entry.id).await;
        self.core.work.unblocked.notify_waiters();
        outcome
    }

    async fn delete_objects(&self) -> Result<Slice> {
        let entry = &self.entry;
        let page = query::trash_page(&*self.core.glance(), entry.id, 2).map_err(state_error)?;
        let Some(top) = page.first() else {
            return Ok(Slice::Done);
        };
        // What was deleted before it, from below it, goes first: a directory of a disk can only go when it is empty.
        let is_real = self.mount.store()?.capabilities().real_directories;
        if is_real && query::trash_below(&*self.core.glance(), self.mount.id(), &entry.key).map_err(state_error)? {
            return Ok(Slice::More);
        }
        self.keep_parent().await?;
        let is_top = top.inode.id == entry.id;
        if is_top && !top.inode.is_directory() {
            return self.delete_file(top).await;
        }
        if !is_top || !top.inode.is_loaded() {
            return self.delete_below().await;
        }
        // What others have put there since it was seen to be empty stays, and is loaded when asked for.
        let marker = self.mount.store()?.stat_object(&entry.key, ObjectKind::Directory).await.map_err(store_error)?;
        self.delete_directory(&entry.key, marker).await?;
        self.delete_bare_marker().await?;
        Ok(Slice::Done)
    }

    /// The version that was deleted goes; and another one that was there at the time, which nobody had looked at yet, or which is a copy that a rename made,
    /// unless just the one version was asked for.
    async fn delete_file(&self, top: &Trashed) -> Result<Slice> {
        let key = &self.entry.key;
        let when = |tag| vec![DeleteTarget::file(key.clone()).when(DeleteCondition::IfTag(tag))];
        let tag = &top.inode.tag;
        if !tag.is_empty() && !self.entry.was_being_written {
            let known = when(forebay_base::VersionTag(tag.clone()));
            if self.delete(known).await? > 0 {
                return Ok(Slice::Done);
            }
        }
        if self.entry.only_version && !tag.is_empty() {
            self.left();
            return Ok(Slice::Done);
        }
        let found = self.mount.store()?.stat_object(key, ObjectKind::File).await.map_err(store_error)?;
        if let Some(found) = found.filter(|found| Doom::of(&self.entry).was_there(found)) {
            self.delete(when(found.tag)).await?;
        }
        Ok(Slice::Done)
    }

    /// Deletes what lay below a directory, by the store's own listing, children before their directory, and then the directory. Goes on where the
    /// slice before has ended.
    async fn delete_below(&self) -> Result<Slice> {
        let store = self.mount.store()?;
        let walk = self.walks.take(self.entry.id);
        let (mut walk, mut deleted, mut looked_at) = (walk.unwrap_or_else(|| self.walk()), 0, 0);
        while let Some(visit) = walk.next(store).await? {
            deleted += match visit {
                Visit::Files { directory, files } => {
                    looked_at += files.len();
                    let doomed = Doom::of(&self.entry).among(&self.core.glance(), &directory, files)?;
                    let target = |file: forebay_ufs::ListEntry| {
                        let key = join(&directory, &file.name);
                        DeleteTarget::file(key).when(DeleteCondition::IfListed(file.meta.tag))
                    };
                    self.delete(doomed.into_iter().map(target).collect()).await?
                }
                Visit::Left { directory, marker, .. } => self.delete_directory(&directory, marker).await?,
            };
            if deleted >= SLICE || looked_at >= LOOKED_AT {
                self.note(&walk).await?;
                self.walks.keep(self.entry.id, walk);
                return Ok(Slice::More);
            }
        }
        self.delete_bare_marker().await?;
        Ok(Slice::Done)
    }

    /// The walk from where the log says that it is: another leader may have begun it.
    fn walk(&self) -> StoreWalk {
        let top = self.entry.key.clone();
        let Some(noted) = &self.entry.purged_to else {
            return StoreWalk::below(top);
        };
        tracing::debug!(trash = self.entry.id, directory = ?noted.directory, after = ?noted.after, "goes on with a delete");
        let directory = if noted.directory.is_empty() { top.clone() } else { join(&top, &noted.directory) };
        StoreWalk::resume(top, &Place { directory, after: ListKey(noted.after.clone()) })
    }

    /// Notes in the log how far the walk is, if all masters can read that.
    async fn note(&self, walk: &StoreWalk) -> Result<()> {
        let Some(place) = walk.place().filter(|_| self.core.cluster_version() >= versions::PURGE_PLACES) else {
            return Ok(());
        };
        let below = place.directory.strip_prefix(&self.entry.key[..]).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let place = PurgePlace { directory: place.directory.slice_ref(below), after: place.after.0 };
        self.core.propose(NotePurge { trash: self.entry.id, place }).await?;
        Ok(())
    }

    /// Deletes what makes a directory stay when it is empty: its marker in an object store, itself on a disk.
    async fn delete_directory(&self, key: &Bytes, marker: Option<forebay_ufs::ObjectMeta>) -> Result<usize> {
        let target = DeleteTarget::directory(key.clone());
        let doom = Doom::of(&self.entry);
        if self.mount.store()?.capabilities().real_directories {
            return self.delete(vec![target]).await;
        }
        match marker.filter(|marker| doom.takes_marker(marker)) {
            Some(marker) => self.delete(vec![target.when(DeleteCondition::IfListed(marker.tag))]).await,
            None => Ok(0),
        }
    }

    /// Some tools mark a directory by an empty object of its name. Without the entries it would show as an empty file.
    async fn delete_bare_marker(&self) -> Result<()> {
        let (store, key) = (self.mount.store()?, &self.entry.key);
        if store.capabilities().real_directories {
            return Ok(());
        }
        let found = store.stat_object(key, ObjectKind::File).await.map_err(store_error)?;
        if let Some(found) = found.filter(|found| found.length == 0 && Doom::of(&self.entry).was_there(found)) {
            self.delete(vec![DeleteTarget::file(key.clone()).when(DeleteCondition::IfTag(found.tag))]).await?;
        }
        Ok(())
    }

    /// Deletes at the rate of the settings; how many went. What is another version by now stays, and so does a directory with entries.
    async fn delete(&self, targets: Vec<DeleteTarget>) -> Result<usize> {
        let mut deleted = 0;
        for part in targets.chunks(PAGE_LEN) {
            self.pace.take(part.len()).await;
            self.core.still_leads().await?;
            for outcome in self.mount.store()?.delete(part).await.map_err(store_error)? {
                match outcome {
                    Ok(()) => deleted += 1,
                    Err(UfsError::VersionChanged(_) | UfsError::NotEmpty(_)) => self.left(),
                    Err(error) => return Err(store_error(error)),
                }
            }
        }
        metrics::counter!(names::PURGED_OBJECTS).increment(deleted as u64);
        Ok(deleted)
    }

    /// Others' objects are seen at the next access.
    fn left(&self) {
        let Ok(path) = self.mount.path_of_key(&self.entry.key) else {
            return;
        };
        self.core.freshness.forget(self.mount.id(), &path);
        if let Some(parent) = path.parent() {
            self.core.freshness.forget(self.mount.id(), &parent);
        }
    }

    /// In an object store a directory ends with its last object: marks the parent, if it is to stay.
    async fn keep_parent(&self) -> Result<()> {
        let Some(slash) = self.entry.key.iter().rposition(|byte| *byte == b'/') else {
            return Ok(());
        };
        if self.mount.store()?.capabilities().real_directories {
            return Ok(());
        }
        mark_if_empty(self.core, self.mount, &self.entry.key[..slash]).await
    }
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
    core.still_leads().await?;
    mount.store()?.make_directory(key).await.map_err(store_error)
}

/// Forgets some of an entry's inodes, the entry with the last.
async fn forget_inodes(core: &Arc<Core>, trash: u64) -> Result<Slice> {
    let page = query::trash_page(&*core.read().await?, trash, BATCH_MAX).map_err(state_error)?;
    if page.is_empty() {
        return Ok(Slice::Done);
    }
    let last = page.last().is_some_and(|trashed| trashed.inode.id == trash);
    let command = PurgeTrash { trash, entries: page.iter().map(place).collect() };
    core.propose(command).await?;
    let files = page.iter().filter(|trashed| !trashed.inode.is_directory());
    core.registry.freed(files.map(|trashed| trashed.inode.id));
    Ok(if last { Slice::Done } else { Slice::More })
}

fn place(trashed: &Trashed) -> TrashedName {
    TrashedName { parent: trashed.parent.0, name: trashed.name.clone() }
}
