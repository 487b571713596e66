//! The namespace as one reader may see it here.

use super::Follower;
use crate::error::{Result, state_error};
use crate::freshness::SyncInterval;
use crate::mounts::interval_of;
use crate::ops::tree::Source;
use crate::sync::{are_entries_known, is_known_for_ever, is_path_known};
use bytes::Bytes;
use forebay_base::{MountId, NsPath};
use forebay_metastore::{Read, Snapshot};
use forebay_namespace::Mount;
use forebay_namespace::query::{self, Resolved};
use forebay_proto::v1::{ReadBound, SyncMode};
use std::sync::Arc;
use std::time::Duration;

/// How often a path is looked at while the leader tells of comparisons: it does so once a question, one of which may be for this path.
const LOOKS: u32 = 4;

/// How one client wants the state. Each look at it is no older than its bound when it is taken.
#[derive(Clone)]
pub(super) struct View {
    follower: Arc<Follower>,
    bound: Duration,
    seen: u64,
}

/// Where a path lies in a store.
pub(super) struct Site {
    pub(super) mount: Mount,
    pub(super) key: Bytes,
}

/// Whether something needs no asking of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Here,
    /// It may be by what the leader has compared.
    PerhapsThere,
    /// Whatever it has compared: it is the one to answer.
    Nowhere,
}

impl Known {
    fn unless_asked_always(interval: SyncInterval) -> Known {
        if interval == SyncInterval::Always { Known::Nowhere } else { Known::PerhapsThere }
    }
}

impl View {
    pub(super) fn new(follower: &Arc<Follower>, bound: ReadBound) -> View {
        View {
            follower: Arc::clone(follower),
            bound: Duration::from_micros(bound.max_staleness_us),
            seen: bound.seen_index,
        }
    }

    /// Finds a path, unless its store is to be asked first.
    pub(super) async fn locate(&self, path: &NsPath, mode: SyncMode) -> Result<(Resolved, Option<Site>)> {
        if mode == SyncMode::Now {
            return Err(self.follower.ask_leader("the store is to be asked"));
        }
        let mut may_learn = true;
        for _ in 0..LOOKS {
            let changes = self.follower.freshness.changes();
            let snapshot = self.read().await?;
            let resolved = query::resolve(&*snapshot, path).map_err(state_error)?;
            let Some(site) = self.site(&*snapshot, path, &resolved)? else {
                return Ok((resolved, None));
            };
            match self.is_known(&*snapshot, path, mode, &resolved, &site)? {
                // Else it may be known by what was told since, of a state that is not this one.
                Known::Here if self.follower.freshness.changes() == changes => return Ok((resolved, Some(site))),
                Known::Here => {}
                Known::PerhapsThere
                    if std::mem::take(&mut may_learn) && self.follower.learn(MountId(site.mount.id), path).await => {}
                _ => return Err(self.follower.ask_leader(&format!("the store of {path} may have to be asked first"))),
            }
        }
        Err(self.follower.ask_leader("its news come faster than they are looked through"))
    }

    fn is_known(
        &self,
        read: &dyn Read,
        path: &NsPath,
        mode: SyncMode,
        resolved: &Resolved,
        site: &Site,
    ) -> Result<Known> {
        let (id, interval) = (MountId(site.mount.id), interval_of(&site.mount.spec));
        // What is not there, in a directory that was never loaded, may have come to be unknown by a rename that is here before the leader's word of it.
        let may_be_known = is_known_for_ever(resolved);
        let compared = may_be_known && is_path_known(&self.follower.freshness, id, path, interval, resolved);
        Ok(match mode == SyncMode::Never || site.key.is_empty() || compared || is_blocked(read, site)? {
            true => Known::Here,
            false if may_be_known => Known::unless_asked_always(interval),
            false => Known::Nowhere,
        })
    }

    /// Whether the entries of a directory need no asking.
    fn are_known(&self, read: &dyn Read, path: &NsPath, resolved: &Resolved, site: &Site) -> Result<Known> {
        let (id, interval) = (MountId(site.mount.id), interval_of(&site.mount.spec));
        let is_known = are_entries_known(&self.follower.freshness, id, path, interval, resolved);
        Ok(match is_known || is_blocked(read, site)? {
            true => Known::Here,
            false => Known::unless_asked_always(interval),
        })
    }

    /// By the mounts of the same snapshot, so that tree and mounts fit together.
    fn site(&self, read: &dyn Read, path: &NsPath, resolved: &Resolved) -> Result<Option<Site>> {
        let Some(id) = resolved.mount() else { return Ok(None) };
        match query::mount(read, id).map_err(state_error)? {
            Some(mount) => Ok(Some(Site { key: query::key_in(&mount, path), mount })),
            None => Err(self.follower.ask_leader(&format!("{path} lies in a mount that is going"))),
        }
    }
}

fn is_blocked(read: &dyn Read, site: &Site) -> Result<bool> {
    let blockers = query::blockers(read, MountId(site.mount.id), &site.key).map_err(state_error)?;
    Ok(blockers.is_some())
}

impl Source for View {
    async fn read(&self) -> Result<Snapshot> {
        self.follower.fresh(self.bound, self.seen).await?;
        Ok(self.follower.state.snapshot())
    }

    async fn load(&self, directory: &NsPath, mode: SyncMode) -> Result<()> {
        if mode == SyncMode::Never {
            return Ok(());
        }
        let mut may_learn = true;
        loop {
            let snapshot = self.read().await?;
            let resolved = query::resolve(&*snapshot, directory).map_err(state_error)?;
            let Some(site) = self.site(&*snapshot, directory, &resolved)? else { return Ok(()) };
            match self.are_known(&*snapshot, directory, &resolved, &site)? {
                Known::Here => return Ok(()),
                Known::PerhapsThere
                    if std::mem::take(&mut may_learn)
                        && self.follower.learn(MountId(site.mount.id), directory).await => {}
                _ => {
                    let why = format!("the store of {directory} may have to be listed first");
                    return Err(self.follower.ask_leader(&why));
                }
            }
        }
    }
}
