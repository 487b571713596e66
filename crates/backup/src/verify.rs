//! Whether a backup can be restored: reads every byte of it, and opens the state.

use crate::error::ended;
use crate::{BackupError, Manifest, OnProgress, Result, Target, fetch};
use forebay_base::ByteSize;
use forebay_consensus::AppliedAt;
use forebay_metastore::{Read, RocksSettings, RocksStore, Snapshot, Store, StoreError};
use forebay_namespace::{ApplyError, census};
use std::path::Path;

/// What a backup was found to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Files and directories of its namespace.
    pub inodes: u64,
    /// Rows of its store, each of which was read.
    pub rows: u64,
}

/// Fetches a backup into `scratch`, an empty directory, compares all checksums, opens the state, reads every row, and compares what is there with what the
/// manifest says. What is in `scratch` afterwards is the caller's to remove.
pub async fn verify(
    target: &Target,
    manifest: &Manifest,
    scratch: &Path,
    progress: OnProgress<'_>,
) -> Result<Verified> {
    fetch(target, manifest, scratch, progress).await?;
    let (manifest, scratch) = (manifest.clone(), scratch.to_owned());
    tokio::task::spawn_blocking(move || check_state(&manifest, &scratch)).await.map_err(ended)?
}

/// Opens the state in `directory`, the files of a backup, and reads all of it.
fn check_state(manifest: &Manifest, directory: &Path) -> Result<Verified> {
    let broken = |why: String| BackupError::damaged(format!("backup {} is damaged: {why}", manifest.id));
    let settings = RocksSettings { block_cache: ByteSize::mib(32), ..RocksSettings::default() };
    let store = RocksStore::open(directory, &settings).map_err(|error| state_error(manifest, error.into()))?;
    let snapshot: Snapshot = store.snapshot();
    let census = census::census(&*snapshot).map_err(|error| state_error(manifest, error))?;
    check_position(manifest, &*snapshot)?;
    if census.summary.inodes != manifest.inodes {
        return Err(broken(format!("it has {} inodes, not {}", census.summary.inodes, manifest.inodes)));
    }
    Ok(Verified { inodes: census.summary.inodes, rows: census.kinds.iter().map(|count| count.rows).sum() })
}

/// Fails unless the state, which is that of the backup, is at the entry of the log that the manifest says.
pub fn check_position(manifest: &Manifest, state: &dyn Read) -> Result<()> {
    let broken = |why: String| BackupError::damaged(format!("backup {} is damaged: {why}", manifest.id));
    let position = forebay_namespace::query::applied_position(state).map_err(|error| state_error(manifest, error))?;
    let at = AppliedAt::read(&position).map_err(broken)?;
    match (at.term, at.index) == (manifest.term, manifest.index) {
        true => Ok(()),
        false => {
            let (term, index) = (manifest.term, manifest.index);
            Err(broken(format!(
                "its state is at entry {} of term {}, not at {index} of term {term}",
                at.index, at.term
            )))
        }
    }
}

/// The error of a state that is not as it was backed up. A newer format is no damage.
fn state_error(manifest: &Manifest, error: ApplyError) -> BackupError {
    match error {
        ApplyError::NewerFormat { found, supported }
        | ApplyError::Store(StoreError::NewerFormat { found, supported, .. }) => {
            BackupError::Newer { id: manifest.id.to_string(), found, known: supported }
        }
        other => BackupError::damaged(format!("the state of backup {} cannot be read: {other}", manifest.id)),
    }
}
