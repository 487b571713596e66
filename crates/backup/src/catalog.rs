//! Which backups there are, and which is newer.
//!
//! Of two backups of a cluster the newer one is that which has more of the log. The clock that named them may have been wrong: it only tells apart those that
//! have the same entries.

use crate::manifest::MANIFEST_BYTES_MAX;
use crate::target::manifest_key;
use crate::{BackupError, BackupId, Manifest, Result, Target};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

/// A backup that is there, or whose manifest is and cannot be read.
#[derive(Debug)]
pub struct Listed {
    /// The cluster that it is of.
    pub cluster: String,
    /// Which one.
    pub id: BackupId,
    /// What it consists of, or why that cannot be told.
    pub manifest: Result<Manifest>,
}

/// The backups of all clusters, one cluster after the other, of each the oldest first. Those whose manifest cannot be read come before the others of their
/// cluster. The cluster whose last one has the latest name, which is by the clock, comes last.
pub async fn list(target: &Target) -> Result<Vec<Listed>> {
    let mut clusters: Vec<Vec<Listed>> = Vec::new();
    for cluster in target.clusters().await? {
        let mut own = Vec::new();
        each(target, &cluster, |id, manifest| own.push(Listed { cluster: cluster.clone(), id, manifest })).await?;
        own.sort_by_cached_key(Listed::order);
        clusters.push(own);
    }
    // Their logs have nothing in common, so only the clock is left.
    clusters.sort_by(|a, b| a.last().map(|last| &last.id).cmp(&b.last().map(|last| &last.id)));
    Ok(clusters.into_iter().flatten().collect())
}

impl Listed {
    fn order(&self) -> (Option<Rank>, BackupId) {
        (self.manifest.as_ref().ok().map(Manifest::rank), self.id.clone())
    }
}

/// By which the backups of one cluster are ordered: the greater one is newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Of the last entry of the log that it has: the term.
    pub term: u64,
    /// Of the last entry of the log that it has: the index.
    pub index: u64,
    /// When it was made, by the masters' clock, in milliseconds since 1970-01-01 UTC.
    pub created_ms: u64,
    /// Which one it is.
    pub id: BackupId,
}

impl Manifest {
    /// Its place among the backups of its cluster.
    pub fn rank(&self) -> Rank {
        Rank { term: self.term, index: self.index, created_ms: self.created_ms, id: self.id.clone() }
    }
}

/// Manifests on their way at a time.
const MANIFESTS_AT_ONCE: usize = 16;

/// Reads the manifests of a cluster's backups, in no order. One that is taken away meanwhile is left out.
pub(crate) async fn each(
    target: &Target,
    cluster: &str,
    take: impl FnMut(BackupId, Result<Manifest>) + Send,
) -> Result<()> {
    each_of(target, cluster, target.ids(cluster).await?, take).await
}

/// Reads the manifests of these backups as [`each`] does. The store's own errors end it.
pub(crate) async fn each_of(
    target: &Target,
    cluster: &str,
    ids: Vec<BackupId>,
    mut take: impl FnMut(BackupId, Result<Manifest>) + Send,
) -> Result<()> {
    let reading = |id: BackupId| async move { (read(target, cluster, &id).await, id) }.boxed();
    let readings: Vec<BoxFuture<'_, (Result<Manifest>, BackupId)>> = ids.into_iter().map(reading).collect();
    let mut manifests = futures::stream::iter(readings).buffer_unordered(MANIFESTS_AT_ONCE);
    while let Some((manifest, id)) = manifests.next().await {
        match manifest {
            Err(error @ BackupError::Store(_)) => return Err(error),
            Err(BackupError::NotFound { .. }) => {}
            manifest => take(id, manifest),
        }
    }
    Ok(())
}

/// The newest backup of a cluster. One that cannot be read and has a later name may be newer, so it is the one that is meant: who wants another must say so.
async fn newest(target: &Target, cluster: &str) -> Result<Option<BackupId>> {
    let (mut newest, mut unclear): (Option<Manifest>, Option<BackupId>) = (None, None);
    each(target, cluster, |id, manifest| match manifest {
        Ok(manifest) => keep_newer(&mut newest, manifest),
        Err(_) => unclear = unclear.take().max(Some(id)),
    })
    .await?;
    Ok(newest.map(|newest| newest.id).max(unclear))
}

/// Puts the newer one of both into `newest`.
pub(crate) fn keep_newer(newest: &mut Option<Manifest>, other: Manifest) {
    if newest.as_ref().is_none_or(|known| known.rank() < other.rank()) {
        *newest = Some(other);
    }
}

/// The backup named `id`, or the newest one when none is named; that must be of the only cluster that has any.
pub async fn find(target: &Target, id: Option<&str>) -> Result<Manifest> {
    let wanted = match id {
        Some(text) => {
            let parsed = BackupId::parse(text);
            Some(parsed.ok_or_else(|| BackupError::Unclear { what: format!("{text:?} is not the name of a backup") })?)
        }
        None => None,
    };
    let mut found: Vec<(String, BackupId)> = Vec::new();
    for cluster in target.clusters().await? {
        let id = match &wanted {
            Some(wanted) => target.ids(&cluster).await?.into_iter().find(|id| id == wanted),
            None => newest(target, &cluster).await?,
        };
        found.extend(id.map(|id| (cluster, id)));
    }
    match &found[..] {
        [(cluster, id)] => read(target, cluster, id).await,
        [] => {
            let which = id.map_or("no backup".to_owned(), |id| format!("no backup {id}"));
            Err(BackupError::NotFound { what: format!("there is {which} in {}", target.uri()) })
        }
        several => {
            let names: Vec<String> = several.iter().map(|(cluster, id)| format!("{id} of cluster {cluster}")).collect();
            let what = format!(
                "{} has backups of several clusters, name the one to use: the newest are {}",
                target.uri(),
                names.join(", ")
            );
            Err(BackupError::Unclear { what })
        }
    }
}

/// Reads what a backup consists of.
pub(crate) async fn read(target: &Target, cluster: &str, id: &BackupId) -> Result<Manifest> {
    let key = manifest_key(cluster, id);
    let gone = || BackupError::NotFound { what: format!("backup {id} is not in {} any more", target.uri()) };
    let manifest = Manifest::decode(id, &target.read_whole(&key, MANIFEST_BYTES_MAX).await?.ok_or_else(gone)?)?;
    match manifest.cluster == cluster {
        true => Ok(manifest),
        false => Err(BackupError::damaged(format!(
            "backup {id} lies under cluster {cluster} and says that it is of {}",
            manifest.cluster
        ))),
    }
}
