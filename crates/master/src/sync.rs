//! The comparison of the namespace with its stores: [`path`] for one object, [`listing`] for the entries of a directory, [`ahead`] for the
//! listings that nobody has asked for yet.
//!
//! The store is asked when nobody has asked within the mount's interval; only differences become commands, each guarded by what the
//! namespace held before the store was asked, so that a change made here in the meantime wins. However many ask for the same
//! thing at a time, the store is asked once; but who wants to know *now* never gets an answer that was on its way already.

mod ahead;
mod children;
mod listing;
mod merge;
mod path;

pub(crate) use listing::Arrived;
pub(crate) use merge::Watermark;

use crate::core::Core;
use crate::error::{Result, state_error};
use crate::freshness::{Freshness, SyncInterval};
use crate::metrics::names;
use crate::mounts::Mounted;
use bytes::Bytes;
use forebay_base::{MountId, NsPath};
use forebay_metastore::{Read, Snapshot};
use forebay_namespace::query::{self, Resolved};
use forebay_namespace::reply::Synced;
use forebay_proto::error::WireError;
use forebay_proto::v1::SyncMode;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// How often a comparison is begun again since entries were removed here meanwhile.
const STALE_RETRIES: usize = 8;

/// The comparisons that are going on.
pub(crate) struct Syncs {
    paths: Mutex<HashMap<NsPath, path::Running>>,
    listings: Mutex<HashMap<(NsPath, Bytes), listing::Running>>,
    last_number: AtomicU64,
    /// Places for listings; one more waits.
    places: Arc<Semaphore>,
    ahead: ahead::Ahead,
}

impl Syncs {
    pub(crate) fn new(listings_max: usize) -> Syncs {
        Syncs {
            paths: Mutex::default(),
            listings: Mutex::default(),
            last_number: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(listings_max.max(1))),
            ahead: ahead::Ahead::new(listings_max),
        }
    }

    /// Tells one comparison from the next of the same path.
    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Comparisons that are going on: of paths and of listings.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn running(&self) -> (usize, usize) {
        (self.paths.lock().len(), self.listings.lock().len())
    }

    /// How many follow listings that are going on.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn listing_followers(&self) -> usize {
        self.listings.lock().values().map(listing::Running::followers).sum()
    }
}

/// A path in the state, after any comparison that was due.
pub(crate) struct Located {
    pub(crate) snapshot: Snapshot,
    pub(crate) resolved: Resolved,
    pub(crate) mount: Option<(Arc<Mounted>, Bytes)>,
    /// Whether the store was asked for the path on behalf of this request.
    pub(crate) asked: bool,
}

/// Finds a path; asks its store first when that is due.
pub(crate) async fn locate(core: &Arc<Core>, path: &NsPath, mode: SyncMode) -> Result<Located> {
    let (asked, changes) = (Instant::now(), core.freshness.changes());
    let snapshot = core.read().await?;
    let resolved = query::resolve(&*snapshot, path).map_err(state_error)?;
    let located = Located { mount: core.mount_of(path), snapshot, resolved, asked: false };
    let Some((mount, key)) = located.mount.clone() else {
        return Ok(located);
    };
    let mount = &mount;
    if !is_path_due(core, mount, &key, path, mode, &located)? {
        if core.freshness.changes() == changes {
            return Ok(located);
        }
        // It may be known by a comparison that has ended since, whose outcome is not in this state.
        let snapshot = core.read().await?;
        let resolved = query::resolve(&*snapshot, path).map_err(state_error)?;
        return Ok(Located { resolved, snapshot, ..located });
    }
    let strict = is_strict(mount, mode);
    if !strict {
        if listing::has_passed(core, mount, path) {
            let snapshot = core.read().await?;
            let resolved = query::resolve(&*snapshot, path).map_err(state_error)?;
            if resolved.found().is_some() {
                return Ok(Located { resolved, snapshot, ..located });
            }
        }
        ahead::note(core, mount, path);
    }
    if let Err(error) = path::sync(core, mount, path, asked, strict).await {
        return stale_or(mount, mode, located, error);
    }
    let snapshot = core.read().await?;
    let resolved = query::resolve(&*snapshot, path).map_err(state_error)?;
    Ok(Located { resolved, snapshot, mount: located.mount, asked: true })
}

/// What is known, if the mount says that this will do; else the error.
fn stale_or(mount: &Mounted, mode: SyncMode, located: Located, error: WireError) -> Result<Located> {
    let known = located.resolved.found().is_some();
    if mode == SyncMode::ByInterval && known && mount.serves_stale() {
        tracing::warn!(mount = %mount.path, %error, "the store does not answer, what is known is served");
        return Ok(located);
    }
    Err(error)
}

/// Whether an answer must have been asked for after the question.
fn is_strict(mount: &Mounted, mode: SyncMode) -> bool {
    mode == SyncMode::Now || mount.interval() == SyncInterval::Always
}

fn is_path_due(
    core: &Core,
    mount: &Mounted,
    key: &[u8],
    path: &NsPath,
    mode: SyncMode,
    located: &Located,
) -> Result<bool> {
    let interval = match mode {
        SyncMode::Never => return Ok(false),
        SyncMode::Now => SyncInterval::Always,
        SyncMode::ByInterval => mount.interval(),
    };
    // The mount point itself is there as long as the mount is.
    if key.is_empty() || !mount.can_hold(key)? || is_blocked(&located.snapshot, mount, key)? {
        return Ok(false);
    }
    Ok(!is_path_known(&core.freshness, mount.id(), path, interval, &located.resolved))
}

/// Whether a path needs no asking.
pub(crate) fn is_path_known(
    freshness: &Freshness,
    mount: MountId,
    path: &NsPath,
    interval: SyncInterval,
    resolved: &Resolved,
) -> bool {
    if interval == SyncInterval::Never && is_known_for_ever(resolved) {
        return true;
    }
    let (now, found) = (Instant::now(), resolved.found().is_some());
    freshness.is_path_fresh(mount, path, interval, now) || found && freshness.is_found_fresh(mount, path, interval, now)
}

/// Whether the entries of a directory need no asking. Whatever was compared: what is not loaded is not known.
pub(crate) fn are_entries_known(
    freshness: &Freshness,
    mount: MountId,
    directory: &NsPath,
    interval: SyncInterval,
    resolved: &Resolved,
) -> bool {
    let loaded = resolved.found().is_some_and(|step| step.inode.is_loaded());
    loaded
        && (interval == SyncInterval::Never || freshness.are_entries_fresh(mount, directory, interval, Instant::now()))
}

/// It is there, or all entries of its directory were loaded once: with the interval `never` that will do.
pub(crate) fn is_known_for_ever(resolved: &Resolved) -> bool {
    let deepest = &resolved.deepest().inode;
    resolved.missing == 0 || !deepest.is_directory() || deepest.is_loaded()
}

/// Whether objects at or above the key are being deleted or renamed, so that nothing is loaded for now.
pub(crate) fn is_blocked(read: &dyn Read, mount: &Mounted, key: &[u8]) -> Result<bool> {
    let blockers = query::blockers(read, mount.id(), key).map_err(state_error)?;
    Ok(blockers.is_some())
}

/// How the entries of a directory are to be read.
pub(crate) enum Entries {
    /// They are known.
    Known,
    /// They arrive.
    Arriving(Arrived),
}

/// Begins, or joins, the listing of a directory's entries after the name `start_after`, if that is due.
pub(crate) async fn entries(
    core: &Arc<Core>,
    directory: &NsPath,
    located: &Located,
    mode: SyncMode,
    start_after: &[u8],
) -> Result<Entries> {
    let asked = Instant::now();
    let Some((mount, key)) = &located.mount else {
        return Ok(Entries::Known);
    };
    let interval = match mode {
        SyncMode::Never => return Ok(Entries::Known),
        SyncMode::Now => SyncInterval::Always,
        SyncMode::ByInterval => mount.interval(),
    };
    if is_blocked(&located.snapshot, mount, key)? {
        return Ok(Entries::Known);
    }
    if are_entries_known(&core.freshness, mount.id(), directory, interval, &located.resolved) {
        return Ok(Entries::Known);
    }
    let strict = is_strict(mount, mode);
    let arrived = listing::join(core, mount, directory, start_after, asked, strict).await?;
    Ok(Entries::Arriving(arrived))
}

/// Has all entries of a directory compared, if that is due.
pub(crate) async fn load_entries(
    core: &Arc<Core>,
    directory: &NsPath,
    located: &Located,
    mode: SyncMode,
) -> Result<()> {
    match entries(core, directory, located, mode, b"").await? {
        Entries::Known => Ok(()),
        Entries::Arriving(mut arrived) => arrived.wait_for_all().await,
    }
}

/// Counts what a comparison changed.
fn count(synced: &Synced) {
    let counts = [synced.added, synced.changed, synced.removed, synced.skipped];
    for (change, count) in crate::metrics::SYNC_CHANGES.into_iter().zip(counts) {
        if count > 0 {
            metrics::counter!(names::SYNC_CHANGES, "change" => change).increment(count);
        }
    }
}
