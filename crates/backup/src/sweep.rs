//! Takes away what is of no use any more: backups beyond the number that is kept, files that no backup has, uploads that never ended.

use crate::manifest::is_sha256;
use crate::target::{file_key, files_key, manifest_key, name_of};
use crate::{BackupError, BackupId, Manifest, Rank, Result, Target, catalog};
use forebay_ufs::{DeleteTarget, ListEntry};
use futures::future::BoxFuture;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Asked before each request whether it may be sent.
pub type Still<'a> = &'a (dyn Fn() -> BoxFuture<'a, Result<()>> + Send + Sync);

/// Objects of one request.
const BATCH: usize = 500;
/// Files are left alone for so long after they were stored, in milliseconds: one hour.
const SPARED_MS: u64 = 3_600_000;

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Backups.
    pub backups: usize,
    /// Files that no backup has.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Target {
    /// Ends the uploads that an interrupted backup of this cluster has left; there must be none under way.
    pub(crate) async fn abort_uploads(&self, cluster: &str) -> Result<()> {
        let prefix = format!("{}/", files_key(cluster));
        let mut from = None;
        loop {
            let page = self.store.list_uploads(prefix.as_bytes(), from.as_ref(), 1000).await?;
            for pending in page.uploads {
                self.store.abort_upload(&pending.key, &pending.upload).await?;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        let targets: Vec<DeleteTarget> = keys.iter().map(|key| DeleteTarget::file(key.clone())).collect();
        Ok(self.store.delete(&targets).await?.into_iter().collect::<std::result::Result<(), _>>()?)
    }
}

/// Takes away the oldest backups of a cluster, but for the newest `keep` (all are kept when it is none) and `made`, which was made just now, and the files that no
/// backup has then. Files stay for an hour by the store's clock, since they may be of a backup that is on its way, and where a manifest cannot be read. `still`
/// is asked before each request whether this may go on: only one process at a time may sweep.
pub async fn sweep(target: &Target, made: &Manifest, keep: Option<usize>, still: Still<'_>) -> Result<Swept> {
    let cluster = &made.cluster;
    let mut needed = Needed::default();
    let old = match keep {
        Some(keep) => surplus(target, made, keep.max(1), &mut needed).await?,
        None => Vec::new(),
    };
    let keys: Vec<String> = old.iter().map(|id| manifest_key(cluster, id)).collect();
    for batch in keys.chunks(BATCH) {
        still().await?;
        target.delete(batch).await?;
    }
    needed.forget(&old, made);
    let mut swept = Swept { backups: old.len(), ..Swept::default() };
    if !needed.look(target, cluster).await? {
        return Ok(swept);
    }
    // Put a moment ago: its time is now, by the clock that the files' times are by.
    let Some(own) = target.store.stat(manifest_key(cluster, &made.id).as_bytes()).await? else {
        let what = format!("backup {} has been taken away from {} already", made.id, target.uri());
        return Err(BackupError::NotFound { what });
    };
    let entries = target.entries(&files_key(cluster)).await?;
    let is_old = |entry: &ListEntry| entry.meta.modified_ms.saturating_add(SPARED_MS) < own.modified_ms;
    let old: Vec<(&str, u64)> = entries
        .iter()
        .filter(|entry| is_old(entry))
        .filter_map(|entry| Some((name_of(entry)?, entry.meta.length)))
        .filter(|(name, _)| is_sha256(name) && !needed.files.contains_key(*name))
        .collect();
    for batch in old.chunks(BATCH) {
        still().await?;
        if !needed.look(target, cluster).await? {
            break;
        }
        let batch: Vec<_> = batch.iter().filter(|(name, _)| !needed.files.contains_key(*name)).collect();
        let keys: Vec<String> = batch.iter().map(|(name, _)| file_key(cluster, name)).collect();
        target.delete(&keys).await?;
        swept.files += batch.len();
        swept.bytes += batch.iter().map(|(_, bytes)| bytes).sum::<u64>();
    }
    Ok(swept)
}

/// The backups beyond those that are kept; all that is read goes into `needed`. One that cannot be read is none of the `keep`; it goes when it is damaged and all
/// that are kept have later names.
async fn surplus(target: &Target, made: &Manifest, keep: usize, needed: &mut Needed) -> Result<Vec<BackupId>> {
    let (mut ranked, mut damaged) = (Vec::new(), Vec::new());
    catalog::each(target, &made.cluster, |id, manifest| match manifest {
        Ok(manifest) => ranked.push(needed.add(manifest)),
        Err(BackupError::Damaged { .. }) => damaged.push(id),
        Err(_) => {}
    })
    .await?;
    ranked.sort();
    let surplus = ranked.len().saturating_sub(keep);
    let (old, kept) = ranked.split_at(surplus);
    let first_kept = kept.iter().map(|rank| &rank.id).min();
    let mut old: Vec<BackupId> = old.iter().map(|rank| rank.id.clone()).filter(|id| *id != made.id).collect();
    if kept.len() == keep {
        old.extend(damaged.into_iter().filter(|id| first_kept.is_some_and(|first| id < first)));
    }
    Ok(old)
}

/// The files that the backups of a cluster have, as far as manifests have been read.
#[derive(Default)]
struct Needed {
    read: HashSet<BackupId>,
    /// Each with the newest backup that has it.
    files: HashMap<String, Arc<Rank>>,
}

impl Needed {
    /// Reads the manifests that have come since the last look. False when one cannot be read: then nobody knows what is needed.
    async fn look(&mut self, target: &Target, cluster: &str) -> Result<bool> {
        let mut ids = target.ids(cluster).await?;
        ids.retain(|id| !self.read.contains(id));
        let mut all_known = true;
        catalog::each_of(target, cluster, ids, |id, manifest| match manifest {
            Ok(manifest) => drop(self.add(manifest)),
            Err(error) => {
                tracing::warn!(backup = %id, %error, "files of old backups stay, since it cannot be told which of them a backup needs");
                all_known = false;
            }
        })
        .await?;
        Ok(all_known)
    }

    fn add(&mut self, manifest: Manifest) -> Arc<Rank> {
        let rank = Arc::new(manifest.rank());
        for file in manifest.files {
            let newest = self.files.entry(file.sha256).or_insert_with(|| Arc::clone(&rank));
            if **newest < *rank {
                *newest = Arc::clone(&rank);
            }
        }
        self.read.insert(manifest.id);
        rank
    }

    /// Leaves out what only the oldest backups have, which are gone now; `made` is there still, however old it is.
    fn forget(&mut self, gone: &[BackupId], made: &Manifest) {
        let gone: HashSet<&BackupId> = gone.iter().collect();
        self.files.retain(|_, newest| !gone.contains(&newest.id));
        self.add(made.clone());
    }
}
