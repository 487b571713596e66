//! The comparison of a directory's entries: pages of the store's listing against ranges of the namespace.
//!
//! One task lists; who asks follows its watermark and reads from the namespace what is settled. Memory is one page,
//! however large the directory. A listing that nobody follows any more stops; it begins where its first asker wanted, so that reading a large directory
//! in many requests lists each part once.

use crate::core::Core;
use crate::error::{Result, internal, state_error, store_error};
use crate::metrics::names;
use crate::mounts::Mounted;
use crate::sync::children::{Directory, sync_entry};
use crate::sync::merge::{Change, Progress, Watermark};
use crate::sync::path::busy;
use crate::sync::{STALE_RETRIES, count, is_blocked};
use bytes::Bytes;
use forebay_base::{InodeId, NsPath};
use forebay_metastore::Snapshot;
use forebay_namespace::command::{SyncApply, SyncEntry};
use forebay_namespace::query::{self, SyncBase};
use forebay_namespace::{BATCH_MAX, Inode, Payload, Reason};
use forebay_proto::error::WireError;
use forebay_ufs::{ListCursor, ListEntry, ListKey, ListPage, ObjectKind, UfsError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// Entries of one page of the store: what S3 gives at most.
const PAGE_LEN: usize = 1000;

/// How far a listing has come.
#[derive(Clone, Debug)]
enum Stage {
    Running(Watermark),
    Failed(WireError),
}

/// What a listing is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody asks for the entries: what is not among them is not there.
    Entries,
    /// Nobody does yet: names that are not found are asked for when somebody wants them.
    Ahead,
}

/// What a listing is for: who comes for the entries of one that nobody has asked for makes it theirs, until it is at its last page.
struct Aim(Mutex<(Purpose, bool)>);

impl Aim {
    fn new(purpose: Purpose) -> Aim {
        Aim(Mutex::new((purpose, false)))
    }

    /// Whether it serves this purpose, too, from now on.
    fn serves(&self, purpose: Purpose) -> bool {
        let (own, is_decided) = &mut *self.0.lock();
        if purpose == Purpose::Entries && !*is_decided {
            *own = purpose;
        }
        purpose == Purpose::Ahead || *own == purpose
    }

    /// What it was for. It does not change any more.
    fn decide(&self) -> Purpose {
        let (purpose, is_decided) = &mut *self.0.lock();
        *is_decided = true;
        *purpose
    }
}

/// A listing under way. The table follows it by its sender alone, so that who else follows can be counted.
pub(super) struct Running {
    started: Instant,
    stage: Arc<watch::Sender<Stage>>,
    aim: Arc<Aim>,
}

impl Running {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn followers(&self) -> usize {
        self.stage.receiver_count()
    }
}

/// A listing that somebody follows.
pub(crate) struct Arrived {
    stage: watch::Receiver<Stage>,
}

impl Arrived {
    /// Up to which name the namespace shows what the store has.
    pub(crate) fn watermark(&mut self) -> Result<Watermark> {
        match &*self.stage.borrow_and_update() {
            Stage::Running(watermark) => Ok(watermark.clone()),
            Stage::Failed(error) => Err(error.clone()),
        }
    }

    /// Waits until the watermark has moved.
    pub(crate) async fn moved(&mut self) -> Result<()> {
        let ended = self.stage.changed().await.is_err();
        match (self.watermark()?, ended) {
            (Watermark::All, _) | (_, false) => Ok(()),
            (_, true) => Err(internal("a listing ended before its end")),
        }
    }

    /// Waits for the end.
    pub(crate) async fn wait_for_all(&mut self) -> Result<()> {
        while self.watermark()? != Watermark::All {
            self.moved().await?;
        }
        Ok(())
    }
}

/// Joins the listing of the entries after `start_after`, or begins it. With `strict` it must have begun after `asked`.
pub(super) async fn join(
    core: &Arc<Core>,
    mount: &Arc<Mounted>,
    directory: &NsPath,
    start_after: &[u8],
    asked: Instant,
    strict: bool,
) -> Result<Arrived> {
    loop {
        let (started, serves, mut arrived) = enter(core, mount, directory, start_after, Purpose::Entries);
        if serves && (!strict || started >= asked) {
            return Ok(arrived);
        }
        // Its end, good or bad, lets the next one begin.
        let _ = arrived.wait_for_all().await;
        while arrived.stage.changed().await.is_ok() {}
    }
}

/// Joins the listing of a directory, or begins one that nobody has asked for.
pub(super) fn begin_ahead(core: &Arc<Core>, mount: &Arc<Mounted>, directory: &NsPath) -> Arrived {
    enter(core, mount, directory, b"", Purpose::Ahead).2
}

/// Joins a listing or begins it: when it began, whether it serves the purpose, and the listing.
fn enter(
    core: &Arc<Core>,
    mount: &Arc<Mounted>,
    directory: &NsPath,
    start_after: &[u8],
    purpose: Purpose,
) -> (Instant, bool, Arrived) {
    let id = (directory.clone(), Bytes::copy_from_slice(start_after));
    let mut listings = core.syncs.listings.lock();
    if let Some(running) = listings.get(&id) {
        let stage = running.stage.subscribe();
        return (running.started, running.aim.serves(purpose), Arrived { stage });
    }
    let started = Instant::now();
    let (sender, stage) = watch::channel(Stage::Running(Watermark::Nothing));
    let sender = Arc::new(sender);
    let aim = Arc::new(Aim::new(purpose));
    listings.insert(id.clone(), Running { started, stage: Arc::clone(&sender), aim: Arc::clone(&aim) });
    let listing = Listing {
        core: Arc::clone(core),
        mount: Arc::clone(mount),
        directory: directory.clone(),
        start_after: id.1,
        aim,
        started,
        sender,
    };
    tokio::spawn(listing.run());
    (started, true, Arrived { stage })
}

/// Whether all entries of a directory are being listed.
pub(super) fn is_running(core: &Core, directory: &NsPath) -> bool {
    core.syncs.listings.lock().contains_key(&(directory.clone(), Bytes::new()))
}

/// Whether a listing under way of the path's directory, begun within the mount's interval, has settled the path.
pub(super) fn has_passed(core: &Core, mount: &Mounted, path: &NsPath) -> bool {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let listings = core.syncs.listings.lock();
    let Some(running) = listings.get(&(directory, Bytes::new())) else {
        return false;
    };
    let is_fresh = mount.interval().holds(running.started, Instant::now());
    is_fresh && matches!(&*running.stage.borrow(), Stage::Running(watermark) if watermark.covers(name.as_bytes()))
}

/// How a listing ended.
enum Listed {
    /// At its end.
    Whole,
    /// The directory was deleted, or is being deleted or renamed.
    Gone,
    /// Nobody wanted to know any more.
    Left,
}

struct Listing {
    core: Arc<Core>,
    mount: Arc<Mounted>,
    directory: NsPath,
    start_after: Bytes,
    aim: Arc<Aim>,
    started: Instant,
    sender: Arc<watch::Sender<Stage>>,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut listings = self.core.syncs.listings.lock();
        self.leave(&mut listings);
    }
}

impl Listing {
    /// Lists for as long as anybody follows: also one that waits for a place, or for the store, ends with its last follower.
    async fn run(self) {
        let mut work = std::pin::pin!(self.work());
        loop {
            tokio::select! {
                () = &mut work => return,
                () = self.sender.closed() => if self.is_left() { return },
            }
        }
    }

    async fn work(&self) {
        let places = Arc::clone(&self.core.syncs.places);
        let Ok(_place) = places.acquire().await else {
            return;
        };
        match self.list().await {
            Ok(Listed::Whole) => {
                self.remember();
                self.show(Stage::Running(Watermark::All));
            }
            // Nothing was compared that could be remembered.
            Ok(Listed::Gone) => self.show(Stage::Running(Watermark::All)),
            Ok(Listed::Left) => {}
            Err(error) => {
                metrics::counter!(names::SYNC_FAILURES).increment(1);
                self.show(Stage::Failed(error));
            }
        }
    }

    fn remember(&self) {
        let (freshness, mount) = (&self.core.freshness, self.mount.id());
        match self.aim.decide() {
            Purpose::Entries if self.start_after.is_empty() => {
                freshness.entries_compared(mount, &self.directory, self.started);
            }
            Purpose::Entries => {}
            Purpose::Ahead => freshness.found_compared(mount, &self.directory, self.started),
        }
    }

    fn show(&self, stage: Stage) {
        self.sender.send_replace(stage);
    }

    /// Whether nobody but the table of listings follows. Taken out of it at once then, so that nobody joins a listing that stops.
    fn is_left(&self) -> bool {
        let mut listings = self.core.syncs.listings.lock();
        if self.sender.receiver_count() > 0 {
            return false;
        }
        self.leave(&mut listings);
        true
    }

    /// Takes itself out of the table; the next listing of the same entries may stand there already.
    fn leave(&self, listings: &mut HashMap<(NsPath, Bytes), Running>) {
        let id = (self.directory.clone(), self.start_after.clone());
        let own = listings.get(&id).is_some_and(|running| Arc::ptr_eq(&running.stage, &self.sender));
        if own {
            listings.remove(&id);
        }
    }

    /// Lists to the end.
    async fn list(&self) -> Result<Listed> {
        let mut listed_inode = None;
        let mut progress = Progress::after(&self.start_after);
        let mut cursor = (!self.start_after.is_empty()).then(|| ListCursor::after(ListKey(self.start_after.clone())));
        loop {
            let Some(page) = self.page(&progress, cursor.as_ref(), &mut listed_inode).await? else {
                return Ok(Listed::Gone);
            };
            let Some(next) = page.next else {
                return Ok(Listed::Whole);
            };
            progress = self.advance(&progress, &page.entries, &next).await?;
            self.show(Stage::Running(progress.watermark()));
            cursor = Some(next);
            // Who follows gets to read, and perhaps has enough, also when the store answers at once.
            tokio::task::yield_now().await;
            if self.is_left() {
                return Ok(Listed::Left);
            }
        }
    }

    /// Fetches one page and applies its differences; again when something was removed here meanwhile. None when the directory is not the one any
    /// more that the listing began with: what is left of the store's answer would bring it back.
    async fn page(
        &self,
        progress: &Progress,
        cursor: Option<&ListCursor>,
        listed_inode: &mut Option<InodeId>,
    ) -> Result<Option<ListPage>> {
        let key = self.mount.key(&self.directory);
        for _ in 0..STALE_RETRIES {
            let snapshot = self.core.read().await?;
            let Some((base, inode)) = self.base(&snapshot)? else {
                return Ok(None);
            };
            if *listed_inode.get_or_insert(inode) != inode || is_blocked(&snapshot, &self.mount, &key)? {
                return Ok(None);
            }
            metrics::counter!(names::SYNC_PAGES).increment(1);
            let page = match self.mount.store()?.list(&key, cursor, PAGE_LEN).await {
                Err(UfsError::NotFound(_)) => ListPage::default(),
                page => page.map_err(store_error)?,
            };
            self.warn_of_skipped(&page);
            if self.apply(progress, &page, &snapshot, base).await? {
                return Ok(Some(page));
            }
        }
        Err(busy(&self.directory))
    }

    /// What guards the comparison, and the directory; none when there is no such directory.
    fn base(&self, snapshot: &Snapshot) -> Result<Option<(SyncBase, InodeId)>> {
        let resolved = query::resolve(&**snapshot, &self.directory).map_err(state_error)?;
        let found = resolved.found().filter(|step| step.inode.is_directory()).map(|step| step.inode.inode_id());
        let base = query::sync_base(&**snapshot, &self.directory).map_err(state_error)?;
        Ok(base.zip(found))
    }

    fn warn_of_skipped(&self, page: &ListPage) {
        if page.skipped.count == 0 {
            return;
        }
        metrics::counter!(names::SYNC_SKIPPED).increment(page.skipped.count);
        tracing::warn!(
            directory = %self.directory,
            count = page.skipped.count,
            samples = ?page.skipped.samples,
            "objects of the store cannot be names of the tree and are not shown"
        );
    }

    /// Applies the differences of a page; false when the listing may be older than a removal here.
    async fn apply(&self, progress: &Progress, page: &ListPage, snapshot: &Snapshot, base: SyncBase) -> Result<bool> {
        let upper = page.next.as_ref().map(|next| next.list_key().clone());
        let resolved = query::resolve(&**snapshot, &self.directory).map_err(state_error)?;
        let found = resolved.found().map(|step| &step.inode);
        let is_whole = || self.start_after.is_empty() && self.aim.decide() == Purpose::Entries;
        let loads = upper.is_none() && is_whole() && !found.is_some_and(Inode::is_loaded);
        let mut resume = None;
        loop {
            let (changes, next) = {
                let children = Directory {
                    core: &self.core,
                    mount: &self.mount,
                    path: &self.directory,
                    snapshot,
                    inode: found.filter(|inode| inode.is_directory()).map(Inode::inode_id),
                };
                let range = progress.page(&page.entries, upper.as_ref());
                range.compare(&children, resume.as_ref(), BATCH_MAX)?
            };
            let last = next.is_none();
            let entries: Vec<SyncEntry> = changes.into_iter().map(sync_entry).collect();
            if (!entries.is_empty() || last && loads) && !self.propose(entries, base, last && loads).await? {
                return Ok(false);
            }
            if last {
                return Ok(true);
            }
            resume = next;
        }
    }

    async fn propose(&self, entries: Vec<SyncEntry>, base: SyncBase, mark_loaded: bool) -> Result<bool> {
        let command = SyncApply {
            directory: self.directory.to_bytes(),
            base_inode: base.inode.0,
            base_generation: base.generation,
            entries,
            mark_loaded,
            ..SyncApply::default()
        };
        match self.core.propose(command).await {
            Ok(Payload::Synced(synced)) => {
                count(&synced);
                Ok(true)
            }
            Ok(other) => Err(internal(format!("a listing was answered {other:?}"))),
            Err(refused) if refused.reason == Reason::Stale => Ok(false),
            Err(refused) => Err(refused.error),
        }
    }

    /// The progress after a page. A name that may still come as a directory, and holds back more than one page, is asked for on its own.
    async fn advance(&self, before: &Progress, entries: &[ListEntry], next: &ListCursor) -> Result<Progress> {
        let mut progress = before.next(entries, next.list_key());
        while let Some(late) = progress.is_stuck(before) {
            self.probe(&late).await?;
            progress.settle(late);
        }
        Ok(progress)
    }

    async fn probe(&self, name: &Bytes) -> Result<()> {
        for _ in 0..STALE_RETRIES {
            let snapshot = self.core.read().await?;
            let Some((base, _)) = self.base(&snapshot)? else { return Ok(()) };
            let key = self.child_key(name);
            metrics::counter!(names::SYNC_STATS).increment(1);
            let meta = self.mount.store()?.stat(&key).await.map_err(store_error)?;
            let found = meta.map(|meta| ListEntry { name: name.clone(), meta });
            let change = self.probed(name, found, &snapshot)?;
            let Some(change) = change else { return Ok(()) };
            if self.propose(vec![sync_entry(change)], base, false).await? {
                return Ok(());
            }
        }
        Err(busy(&self.directory))
    }

    fn child_key(&self, name: &[u8]) -> Bytes {
        let key = self.mount.key(&self.directory);
        match key.is_empty() {
            true => Bytes::copy_from_slice(name),
            false => [&key[..], b"/", name].concat().into(),
        }
    }

    fn probed(&self, name: &Bytes, found: Option<ListEntry>, snapshot: &Snapshot) -> Result<Option<Change<Inode>>> {
        use crate::sync::merge::Children;
        let resolved = query::resolve(&**snapshot, &self.directory).map_err(state_error)?;
        let directory = Directory {
            core: &self.core,
            mount: &self.mount,
            path: &self.directory,
            snapshot,
            inode: resolved.found().map(|step| step.inode.inode_id()),
        };
        let child = directory.get(name)?;
        Ok(match (child, found) {
            (Some(child), _) if child.guarded => None,
            (Some(child), Some(found)) => {
                let same = match (child.kind, found.meta.kind) {
                    (ObjectKind::Directory, ObjectKind::Directory) => true,
                    _ => directory.is_same(&child.entry, &found),
                };
                (!same).then_some(Change::Replace(child, found))
            }
            (Some(child), None) => Some(Change::Remove(child)),
            (None, found) => found.map(Change::Add),
        })
    }
}
