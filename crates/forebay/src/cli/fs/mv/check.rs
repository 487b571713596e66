//! What is looked at before anything is moved: how a source gets to its target, and what speaks against it.

use super::alias;
use crate::cli::fs::copy::{Act, Source, Target};
use anyhow::Context;
use forebay_base::{ErrorKind, NsPath};
use forebay_client::{Client, Error, Mount};
use futures::TryStreamExt;
use rustix::fs::{Access, access};
use std::path::Path;

/// How a source gets to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// At once, by the masters: from where, to where.
    Rename(NsPath, NsPath),
    /// File by file, by the masters: into a directory that has entries already.
    RenameFiles,
    /// File by file, by a copy that is removed at its source.
    Copy,
}

/// What a command knows when it begins.
pub(super) struct Checks<'a> {
    pub(super) client: &'a Client,
    pub(super) mounts: Vec<Mount>,
    pub(super) no_clobber: bool,
    pub(super) merge: bool,
}

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    File,
    EmptyDirectory,
    Directory,
}

impl Checks<'_> {
    /// How `source` becomes `root`.
    pub(super) async fn way(&self, source: &Source, root: &Target) -> anyhow::Result<Way> {
        if let (Source::Local(_), Target::Local { .. }) = (source, root) {
            let message = format!("{source} and {root} are both local paths");
            return Err(Error::new(ErrorKind::InvalidArgument, message).with_hint("mv(1) moves local files").into());
        }
        let is_directory = self.check_source(source).await?;
        if !is_directory {
            root.ensure_names_a_file()?;
        }
        let within = match (source, root) {
            (Source::Tree(from), Target::Tree { path: to, .. }) if self.id_of(from) == self.id_of(to) => {
                Some((from, to))
            }
            _ => None,
        };
        if let Some((from, to)) = within
            && !(self.merge && is_directory && self.found(root).await? == Found::Directory)
        {
            return Ok(Way::Rename(from.clone(), to.clone()));
        }
        root.need_outside(source, Act::Move)?;
        root.need_store(self.client).await?;
        if let Target::Tree { path, .. } = root {
            self.check_writable(path)?;
        }
        self.check_target(source, is_directory, root).await?;
        if within.is_some() {
            return Ok(Way::RenameFiles);
        }
        alias::check(self.client, &self.mounts, source, root).await?;
        Ok(Way::Copy)
    }

    fn id_of(&self, path: &NsPath) -> Option<forebay_base::MountId> {
        mount_of(&self.mounts, path).map(|mount| mount.id)
    }

    fn check_writable(&self, path: &NsPath) -> anyhow::Result<()> {
        match mount_of(&self.mounts, path).filter(|mount| mount.spec.read_only) {
            None => Ok(()),
            Some(Mount { path: mount, .. }) => {
                let message = format!("{path} lies in {mount}, which is mounted read-only");
                let hint = format!("forebay mount update {mount} --read-only=false, if it should be writable");
                Err(Error::new(ErrorKind::PermissionDenied, message).with_hint(hint).into())
            }
        }
    }

    /// Refuses what cannot be taken away from where it is. Says whether it is a directory.
    async fn check_source(&self, source: &Source) -> anyhow::Result<bool> {
        match source {
            Source::Tree(path) => {
                self.check_no_mount(path)?;
                self.check_writable(path)?;
                Ok(super::explain(self.client, path, self.client.stat(path).await).await?.is_directory())
            }
            Source::Local(path) => check_local(path),
            Source::Stdin => Ok(false),
        }
    }

    fn check_no_mount(&self, path: &NsPath) -> anyhow::Result<()> {
        let refuse =
            |message: String, hint: String| Err(Error::new(ErrorKind::InvalidArgument, message).with_hint(hint).into());
        if path.is_root() {
            return refuse("/ cannot be moved".to_owned(), "name what is in it".to_owned());
        }
        match self.mounts.iter().find(|mount| mount.path.starts_with(path)) {
            None => Ok(()),
            Some(mount) if mount.path == *path => refuse(
                format!("{path} is a mount point and cannot be moved"),
                format!(
                    "forebay mount remove {path} and mount add mount the store elsewhere; '{path}/*' is what is in it"
                ),
            ),
            Some(mount) => refuse(
                format!("{path} cannot be moved: {} is mounted in it", mount.path),
                format!("forebay mount remove {} unmounts it and touches nothing in its store", mount.path),
            ),
        }
    }

    /// Refuses what rename(2) would: a directory may replace an empty one, a file a file.
    async fn check_target(&self, source: &Source, is_directory: bool, root: &Target) -> anyhow::Result<()> {
        let refuse = |kind, message: String| Err(Error::new(kind, message));
        let result = match (self.found(root).await?, is_directory) {
            (Found::Nothing, _) => Ok(()),
            (Found::EmptyDirectory | Found::Directory, true) if self.merge => Ok(()),
            (_, _) if self.no_clobber => {
                refuse(ErrorKind::AlreadyExists, format!("{root} exists already: {source} stays"))
            }
            (Found::File, false) | (Found::EmptyDirectory, true) => Ok(()),
            (Found::File, true) => {
                refuse(ErrorKind::NotADirectory, format!("{root} is a file: the directory {source} cannot replace it"))
            }
            (Found::Directory, true) => refuse(ErrorKind::NotEmpty, format!("{root} has entries already"))
                .map_err(|error| error.with_hint(format!("--merge moves what is in {source} into it"))),
            (_, false) => {
                refuse(ErrorKind::IsADirectory, format!("{root} is a directory: the file {source} cannot replace it"))
            }
        };
        Ok(result?)
    }

    async fn found(&self, target: &Target) -> anyhow::Result<Found> {
        match target {
            Target::Tree { path, .. } => self.found_in_tree(path).await,
            Target::Local { path, .. } => found_locally(path).with_context(|| format!("cannot look at {target}")),
            Target::Stdout => Ok(Found::Nothing),
        }
    }

    async fn found_in_tree(&self, path: &NsPath) -> anyhow::Result<Found> {
        match self.client.stat(path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(error.into()),
            Ok(entry) if entry.is_file() => Ok(Found::File),
            Ok(_) => match self.client.list(path)?.try_next().await? {
                Some(_) => Ok(Found::Directory),
                None => Ok(Found::EmptyDirectory),
            },
        }
    }
}

/// The mount that a path lies in.
pub(super) fn mount_of<'a>(mounts: &'a [Mount], path: &NsPath) -> Option<&'a Mount> {
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.path));
    around.max_by_key(|mount| mount.path.as_bytes().len())
}

fn check_local(path: &Path) -> anyhow::Result<bool> {
    let name = || format!("cannot move file:{}", path.display());
    let own = std::fs::symlink_metadata(path).with_context(name)?;
    let metadata = std::fs::metadata(path).with_context(name)?;
    let refuse = |why: &str| {
        let message = format!("{}: {why}", name());
        Err(Error::new(ErrorKind::InvalidArgument, message).into())
    };
    if path.file_name().is_none() {
        return refuse("name the directory itself");
    }
    if metadata.is_dir() && own.is_symlink() {
        return refuse("it is a link to a directory; move what it leads to");
    }
    if !metadata.is_dir() && !metadata.is_file() {
        return refuse("it is neither a file nor a directory");
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    access(parent, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(std::io::Error::from)
        .with_context(|| format!("{}: nothing can be removed from its directory", name()))?;
    Ok(metadata.is_dir())
}

fn found_locally(path: &Path) -> std::io::Result<Found> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_dir() => Ok(Found::File),
        Ok(_) => match std::fs::read_dir(path)?.next() {
            Some(_) => Ok(Found::Directory),
            None => Ok(Found::EmptyDirectory),
        },
    }
}
