//! A new cluster from a backup: its state goes into an empty data directory, and a log that begins behind it.
//!
//! The cluster that comes of it is another one: it has an identity, keys and a log of its own, so that neither workers nor masters of the old one take it for
//! theirs. What the state must forget, and which numbers it leaves out, is in `forebay_namespace::restored`. Until the last step the directory says
//! that a restore is going on, and no master starts on it; the next attempt begins anew.

use crate::backups::mark_of;
use crate::data_dir::{DataDir, DataDirError, Keys, foreign_key};
use crate::group::{Place, find_running};
use crate::settings::{RestoreFrom, Settings};
use crate::state;
use forebay_backup::{BackupError, Manifest, Target, check_position, fetch, find};
use forebay_base::{ByteSize, ErrorKind};
use forebay_consensus::{Consensus, Member, OpenError};
use forebay_metastore::{RocksSettings, RocksStore, Store};
use forebay_namespace::restored::{Restored, begin_anew};
use forebay_namespace::{ApplyError, query};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Entries of the log left out: more than the old cluster can have had since the backup. Views of the workers are numbered by it, and clients that knew the old
/// cluster take only a higher number for newer.
const ENTRIES_LEFT_OUT: u64 = 1 << 32;

/// Why a backup was not restored. The data directory is empty still, or says that a restore did not end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log cannot be begun.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The state in the backup cannot be used.
    #[error("the state in the backup: {0}")]
    State(ApplyError),
    /// Another master must do it, or must not run.
    #[error("{0}")]
    NotHere(String),
    /// The key is not the one that sealed the credentials in the backup.
    #[error(
        "{path:?} is not the secret.key of the cluster that the backup is of, or there is no such file; without it leave out --restore-secret-key, and give the credentials of the mounts again afterwards"
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
}

impl From<ApplyError> for RestoreError {
    fn from(error: ApplyError) -> RestoreError {
        RestoreError::State(error)
    }
}

impl RestoreError {
    /// What can be done about it, where that is known.
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match self {
            RestoreError::Backup(error) => Some(error.kind()),
            RestoreError::Log(error) => Some(error.kind()),
            RestoreError::State(ApplyError::Corrupt(_)) => Some(ErrorKind::Corrupt),
            RestoreError::State(_) | RestoreError::DataDir(_) | RestoreError::NotHere(_) => None,
            RestoreError::WrongKey { .. } => Some(ErrorKind::InvalidArgument),
        }
    }
}

/// Restores a backup into `data`, in which there is nothing yet.
pub(crate) async fn restore(
    data: &DataDir,
    from: &RestoreFrom,
    settings: &Settings,
    address: &str,
) -> Result<(), RestoreError> {
    let started = Instant::now();
    // Before the other masters are asked: of one that was restored before they would be those of its own cluster.
    data.check_restorable()?;
    check_place(settings, address, &data.log()).await?;
    let target = Target::open(&from.uri, &from.options)?;
    let manifest = find(&target, from.backup.as_deref()).await?;
    let keys = keys_for(&manifest, from)?;
    data.begin_restore()?;
    tracing::info!(backup = %manifest.id, cluster = manifest.cluster, from = target.uri(), bytes = manifest.bytes(), "restoring a backup");
    let directory = state::make_first(&data.state())?;
    fetch(&target, &manifest, &directory, &|_| ()).await?;
    // The place is found anew: what an earlier attempt had left in the log is gone.
    let member = Place::find(settings, address, &data.log())?.own;
    let position = Consensus::begin_after(&data.log(), &member, manifest.index + ENTRIES_LEFT_OUT)?;
    let now_ms = settings.clock.now().0;
    let of = manifest.clone();
    let begin = move || begin(&directory, &of, now_ms, position);
    let begun = tokio::task::spawn_blocking(begin).await;
    let (restored, sealed) =
        begun.map_err(|error| RestoreError::NotHere(format!("the work was stopped: {error}")))??;
    state::put_first(&data.state())?;
    data.store_keys(&keys)?;
    data.end_restore()?;
    tell(&manifest, &keys, restored, started);
    if from.secret_key.is_none() && !sealed.is_empty() {
        tracing::warn!(
            mounts = sealed.join(", "),
            "these mounts have stored credentials that cannot be read without the secret.key of the old cluster; give them again with `forebay mount update`"
        );
    }
    Ok(())
}

/// One master restores, and takes the others in: two that did would be two clusters under one list of masters.
async fn check_place(settings: &Settings, address: &str, log: &Path) -> Result<(), RestoreError> {
    let Some(first) = settings.masters.first().filter(|first| settings.masters.len() > 1 && *first != address) else {
        let place = Place::find(settings, address, log)?;
        return match find_running(&place).await {
            Some((Member { address, .. }, cluster)) => Err(RestoreError::NotHere(format!(
                "the master at {address} runs and belongs to cluster {cluster}: stop it, and empty its data directory before it joins the restored one"
            ))),
            None => Ok(()),
        };
    };
    Err(RestoreError::NotHere(format!(
        "{first}, the first of the list of masters, restores; start this one without --restore-from, with an empty data directory, and take it in there: forebay masters add {address}"
    )))
}

/// Those of a new cluster, but for the one that sealed credentials, if it is at hand.
fn keys_for(manifest: &Manifest, from: &RestoreFrom) -> Result<Keys, RestoreError> {
    let mut keys = Keys::draw();
    if let Some(path) = &from.secret_key {
        let wrong = || RestoreError::WrongKey { path: path.clone() };
        keys.secret_key = foreign_key(path)?.filter(|key| mark_of(key) == manifest.secret_key).ok_or_else(wrong)?;
    }
    Ok(keys)
}

/// Makes the state in `directory`, which is that of the backup, that of a new cluster. Also returns the mounts that have sealed credentials.
fn begin(
    directory: &Path,
    manifest: &Manifest,
    now_ms: u64,
    position: bytes::Bytes,
) -> Result<(Restored, Vec<String>), RestoreError> {
    let settings = RocksSettings { block_cache: ByteSize::mib(64), ..RocksSettings::default() };
    let store: Arc<dyn Store> = Arc::new(RocksStore::open(directory, &settings).map_err(ApplyError::from)?);
    // The log begins behind the entry that the manifest says.
    check_position(manifest, &*store)?;
    let restored = begin_anew(&store, now_ms, position)?;
    let mounts = query::mounts(&*store)?;
    let sealed = mounts.iter().filter(|mount| !mount.spec.sealed_secrets.is_empty());
    Ok((restored, sealed.map(|mount| String::from_utf8_lossy(&mount.path).into_owned()).collect()))
}

fn tell(manifest: &Manifest, keys: &Keys, restored: Restored, started: Instant) {
    let Restored { inodes, writes, deletes, renames } = restored;
    tracing::info!(
        backup = %manifest.id, cluster = keys.cluster_id, inodes, seconds = started.elapsed().as_secs_f64(),
        "a backup is restored; {writes} writes, {deletes} deletes and {renames} renames that were under way then are forgotten"
    );
}
