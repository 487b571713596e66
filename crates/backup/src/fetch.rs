//! Brings the files of a backup into a local directory, each checked as it comes.

use crate::error::ended;
use crate::manifest::hex;
use crate::target::{file_key, manifest_key};
use crate::{BackupError, BackupFile, Manifest, OnProgress, Progress, Result, Target};
use forebay_ufs::UfsError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

/// Files on their way at a time.
const FILES_AT_ONCE: usize = 4;

/// Brings all files of a backup into `directory`, which is there and empty; they are on disk when it returns. A file whose bytes are not those of
/// the backup is [`BackupError::Damaged`]; a backup that is taken away meanwhile is [`BackupError::NotFound`].
pub async fn fetch(target: &Target, manifest: &Manifest, directory: &Path, progress: OnProgress<'_>) -> Result<()> {
    let outcome = fetch_all(target, manifest, directory, progress).await;
    let may_be_gone = matches!(outcome, Err(BackupError::Damaged { .. } | BackupError::Store(UfsError::NotFound(_))));
    // Its files go after its manifest.
    let key = manifest_key(&manifest.cluster, &manifest.id);
    if may_be_gone && target.store.stat(key.as_bytes()).await?.is_none() {
        let what = format!("backup {} was taken away from {} while it was read", manifest.id, target.uri());
        return Err(BackupError::NotFound { what });
    }
    outcome
}

async fn fetch_all(target: &Target, manifest: &Manifest, directory: &Path, progress: OnProgress<'_>) -> Result<()> {
    let (total, done) = (manifest.bytes(), AtomicU64::new(0));
    let count = |bytes: usize| {
        let done = done.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        progress(Progress { done, total, sent: 0 });
    };
    let fetching = |file| fetch_file(target, &manifest.cluster, file, directory, &count).boxed();
    let files: Vec<BoxFuture<'_, Result<()>>> = manifest.files.iter().map(fetching).collect();
    futures::stream::iter(files).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
    let directory = directory.to_owned();
    let synced = tokio::task::spawn_blocking(move || {
        std::fs::File::open(&directory).and_then(|open| open.sync_all()).map_err(BackupError::local("sync", directory))
    });
    synced.await.map_err(ended)?
}

async fn fetch_file(
    target: &Target,
    cluster: &str,
    file: &BackupFile,
    directory: &Path,
    count: &(dyn Fn(usize) + Send + Sync),
) -> Result<()> {
    let key = file_key(cluster, &file.sha256);
    let damaged = |what: String| BackupError::damaged(format!("{}/{key} is damaged: {what}", target.uri()));
    let Some(meta) = target.store.stat(key.as_bytes()).await? else {
        return Err(BackupError::damaged(format!("{}/{key} is missing", target.uri())));
    };
    if meta.length != file.length {
        return Err(damaged(format!("it has {} bytes instead of {}", meta.length, file.length)));
    }
    let path = directory.join(&file.name);
    let mut out = File::create(&path).await.map_err(BackupError::local("create", &path))?;
    let mut sum = Sha256::new();
    if file.length > 0 {
        let mut chunks = target.store.read(key.as_bytes(), 0..file.length, &meta.expected()).await?;
        while let Some(chunk) = chunks.try_next().await? {
            sum.update(&chunk);
            out.write_all(&chunk).await.map_err(BackupError::local("write", &path))?;
            count(chunk.len());
        }
    }
    out.flush().await.map_err(BackupError::local("write", &path))?;
    out.sync_all().await.map_err(BackupError::local("sync", &path))?;
    match hex(&sum.finalize()) == file.sha256 {
        true => Ok(()),
        false => {
            // Nobody may take it for the right one.
            let _ = fs::remove_file(&path).await;
            Err(damaged("its bytes do not match their checksum".to_owned()))
        }
    }
}
