//! Removing what was moved: just the version that was copied, and only directories with nothing in them.

use super::source::Source;
use anyhow::Context;
use forebay_base::{ErrorKind, FileId};
use forebay_client::{Client, DeleteOptions, Error};
use std::{fs::Metadata, io, os::unix::fs::MetadataExt, path::Path};

/// Which content of a file was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tree(FileId),
    Local(Identity),
    /// A pipe, a device or standard input: what came of it is gone already.
    Stream,
}

/// A local file as it was when it was opened. Whoever writes to it changes its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Removes a file, if it is still what was copied. One that is gone already is as good. Of a link it is the link that goes.
pub(super) async fn file(client: &Client, from: &Source, copied: &Version) -> anyhow::Result<()> {
    match (from, copied) {
        (Source::Tree(path), Version::Tree(id)) => {
            let options = DeleteOptions { expected: Some(*id), ..DeleteOptions::default() };
            match client.delete(path, options).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => Err(changed(from)),
                result => result.with_context(|| cannot_remove(from)),
            }
        }
        (Source::Local(path), Version::Local(identity)) => local_file(path, identity).await,
        _ => Ok(()),
    }
}

async fn local_file(path: &Path, copied: &Identity) -> anyhow::Result<()> {
    let from = Source::Local(path.to_path_buf());
    match tokio::fs::metadata(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| cannot_remove(&from)),
        Ok(now) if Identity::of(&now) != *copied => Err(changed(&from)),
        Ok(_) => tokio::fs::remove_file(path).await.with_context(|| cannot_remove(&from)),
    }
}

/// Removes a directory that has become empty.
pub(super) async fn directory(client: &Client, from: &Source, id: Option<FileId>) -> anyhow::Result<()> {
    match from {
        Source::Tree(path) => match client.delete(path, DeleteOptions { expected: id, ..Default::default() }).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotEmpty => Err(not_empty(from)),
            Err(error) if error.kind() == ErrorKind::Conflict => Err(changed(from)),
            result => result.with_context(|| cannot_remove(from)),
        },
        Source::Local(path) => local_directory(path, from).await,
        Source::Stdin => Ok(()),
    }
}

async fn local_directory(path: &Path, from: &Source) -> anyhow::Result<()> {
    match tokio::fs::remove_dir(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(not_empty(from)),
        result => result.with_context(|| cannot_remove(from)),
    }
}

/// Whether a directory stays because there is something in it.
pub(super) fn is_not_empty(error: &anyhow::Error) -> bool {
    crate::cli::failure::kind(error) == Some(ErrorKind::NotEmpty)
}

fn cannot_remove(from: &Source) -> String {
    format!("{from} was copied, but cannot be removed")
}

fn changed(from: &Source) -> anyhow::Error {
    let message = format!("{from} changed while it was moved: it stays, and the target has what it was before");
    Error::new(ErrorKind::Conflict, message).with_hint("move it again").into()
}

fn not_empty(from: &Source) -> anyhow::Error {
    let message = format!("{from} stays: something was put there while it was moved");
    Error::new(ErrorKind::NotEmpty, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(change: impl FnOnce(&Path), stays: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let identity = Identity::of(&std::fs::metadata(&path).unwrap());
        change(&path);
        let removed = local_file(&path, &identity).await;
        assert_eq!((removed.is_err(), path.exists()), (stays, stays), "{removed:?}");
    }

    #[tokio::test]
    async fn a_local_file_that_is_another_by_now_stays() {
        check(|_| {}, false).await;
        check(|path| std::fs::write(path, "another").unwrap(), true).await;
        check(|path| std::fs::remove_file(path).unwrap(), false).await;
        let replace = |path: &Path| {
            let beside = path.with_extension("new");
            std::fs::write(&beside, "content").unwrap();
            std::fs::rename(beside, path).unwrap();
        };
        check(replace, true).await;
    }
}
