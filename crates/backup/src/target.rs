//! Where backups lie: a directory of a store.
//!
//! ```text
//! CLUSTER/backups/ID       the manifest of a backup
//! CLUSTER/files/SHA256     the bytes of a file, shared by all backups of the cluster that have it
//! ```

use crate::manifest::is_cluster;
use crate::{BackupError, BackupId, Manifest, Result, catalog};
use bytes::Bytes;
use forebay_ufs::{ListCursor, ListEntry, OpenOptions, Ufs, UfsError};
use futures::TryStreamExt;
use std::sync::Arc;

/// Entries asked for at once.
const PAGE: usize = 1000;
/// Entries of one directory that are taken: a thousand backups of the largest state. More are not ours.
const ENTRIES_MAX: usize = 1_000_000;

/// A directory of a store in which backups lie, of one cluster or of several.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) store: Arc<dyn Ufs>,
}

impl Target {
    /// The target of a URI, `s3://bucket/prefix` or `file:///directory`; `file:/directory` will do. Does no I/O.
    pub fn open(uri: &str, options: &OpenOptions) -> Result<Target> {
        let uri = match uri.strip_prefix("file:/") {
            Some(rest) if !rest.starts_with('/') => format!("file:///{rest}"),
            _ => uri.to_owned(),
        };
        Ok(Target { store: forebay_ufs::open(&uri, options)? })
    }

    /// As users write it.
    pub fn uri(&self) -> &str {
        self.store.uri()
    }

    /// The clusters that have backups here.
    pub async fn clusters(&self) -> Result<Vec<String>> {
        let entries = self.entries("").await?;
        let names = entries.iter().filter(|entry| entry.meta.is_directory()).filter_map(name_of);
        Ok(names.filter(|name| is_cluster(name)).map(str::to_owned).collect())
    }

    /// The identifiers of a cluster's backups, by name.
    pub(crate) async fn ids(&self, cluster: &str) -> Result<Vec<BackupId>> {
        let entries = self.entries(&format!("{cluster}/backups")).await?;
        let mut ids: Vec<BackupId> = entries.iter().filter_map(name_of).filter_map(BackupId::parse).collect();
        ids.sort();
        Ok(ids)
    }

    /// The newest backup of a cluster whose manifest can be read.
    pub async fn newest(&self, cluster: &str) -> Result<Option<Manifest>> {
        let mut newest = None;
        // Others are damaged, or of a newer version.
        catalog::each(self, cluster, |_, manifest| {
            if let Ok(manifest) = manifest {
                catalog::keep_newer(&mut newest, manifest);
            }
        })
        .await?;
        Ok(newest)
    }

    /// All entries of a directory; none when there is no such directory.
    pub(crate) async fn entries(&self, directory: &str) -> Result<Vec<ListEntry>> {
        let mut entries = Vec::new();
        let mut from: Option<ListCursor> = None;
        loop {
            let page = match self.store.list(directory.as_bytes(), from.as_ref(), PAGE).await {
                Err(UfsError::NotFound(_)) if !directory.is_empty() => return Ok(entries),
                other => other?,
            };
            entries.extend(page.entries);
            if entries.len() > ENTRIES_MAX {
                let what = format!(
                    "{}/{directory} has more than {ENTRIES_MAX} entries: backups need a directory of their own",
                    self.uri()
                );
                return Err(BackupError::Unclear { what });
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(entries),
            }
        }
    }

    /// All bytes of an object of at most `bytes_max`; none if it is not there.
    pub(crate) async fn read_whole(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>> {
        let Some(meta) = self.store.stat(key.as_bytes()).await? else { return Ok(None) };
        if meta.length > bytes_max {
            return Err(BackupError::damaged(format!(
                "{}/{key} has {} bytes, more than it can have",
                self.uri(),
                meta.length
            )));
        }
        let mut whole = Vec::with_capacity(meta.length as usize);
        if meta.length > 0 {
            let mut chunks = match self.store.read(key.as_bytes(), 0..meta.length, &meta.expected()).await {
                // Taken away meanwhile.
                Err(UfsError::NotFound(_)) => return Ok(None),
                other => other?,
            };
            while let Some(chunk) = chunks.try_next().await? {
                whole.extend_from_slice(&chunk);
            }
        }
        Ok(Some(whole.into()))
    }
}

/// Where the manifest of a backup lies.
pub(crate) fn manifest_key(cluster: &str, id: &BackupId) -> String {
    format!("{cluster}/backups/{id}")
}

/// The directory of a cluster's files.
pub(crate) fn files_key(cluster: &str) -> String {
    format!("{cluster}/files")
}

/// Where the bytes of a file lie.
pub(crate) fn file_key(cluster: &str, sha256: &str) -> String {
    format!("{cluster}/files/{sha256}")
}

/// The name of an entry, if it is text.
pub(crate) fn name_of(entry: &ListEntry) -> Option<&str> {
    std::str::from_utf8(&entry.name).ok()
}
