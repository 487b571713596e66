//! Where copies go.

use super::{STANDARD_STREAM, attributes::Attributes, job::Act, source::Source};
use crate::cli::place::Place;
use anyhow::{Context, bail};
use forebay_base::{ErrorKind, Name, NsPath};
use forebay_client::{Client, Error, MakeDirectoryOptions};
use std::{
    ffi::OsStr,
    fmt, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A path that is written, and whether it was a directory before.
#[derive(Clone, Debug)]
pub(in crate::cli::fs) enum Target {
    Tree { path: NsPath, kind: Kind },
    Local { path: PathBuf, kind: Kind },
    Stdout,
}

/// What a target was when the command started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::fs) enum Kind {
    Directory,
    /// Nothing is there, and the name ends with `/`: only a directory can be copied there.
    NewDirectory,
    Other,
}

impl Kind {
    fn of(is_directory: bool, name: &OsStr) -> Kind {
        match is_directory {
            true => Kind::Directory,
            false if name.as_bytes().ends_with(b"/") => Kind::NewDirectory,
            false => Kind::Other,
        }
    }
}

impl Target {
    pub(in crate::cli::fs) async fn find(client: &Client, argument: &OsStr) -> anyhow::Result<Target> {
        if argument == STANDARD_STREAM {
            return Ok(Target::Stdout);
        }
        match Place::parse(argument) {
            Place::Local(path) => {
                need_local_parent(&path)?;
                Ok(Target::Local { kind: Kind::of(path.is_dir(), argument), path })
            }
            Place::Tree(bytes) => {
                let path = NsPath::parse(&bytes)?;
                let is_directory = match client.stat(&path).await {
                    Ok(entry) => entry.is_directory(),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        need_parent(client, &path).await?;
                        false
                    }
                    Err(error) => return Err(error.into()),
                };
                Ok(Target::Tree { path, kind: Kind::of(is_directory, argument) })
            }
        }
    }

    pub(in crate::cli::fs) fn is_directory(&self) -> bool {
        matches!(self, Target::Tree { kind: Kind::Directory, .. } | Target::Local { kind: Kind::Directory, .. })
    }

    /// Refuses a file at a name that can only be a directory's.
    pub(in crate::cli::fs) fn ensure_names_a_file(&self) -> anyhow::Result<()> {
        let new = matches!(
            self,
            Target::Tree { kind: Kind::NewDirectory, .. } | Target::Local { kind: Kind::NewDirectory, .. }
        );
        if !new {
            return Ok(());
        }
        let message = format!("no directory {self}/");
        Err(Error::new(ErrorKind::NotFound, message).with_hint("make it first, or name the file").into())
    }

    /// What `source` becomes: a name inside the target when that is a directory, else the target itself.
    pub(in crate::cli::fs) fn root_for(&self, source: &Source) -> anyhow::Result<Target> {
        if !self.is_directory() {
            return Ok(self.clone());
        }
        let name = match source {
            Source::Tree(path) => path.file_name().map(|name| name.as_bytes().to_vec()),
            Source::Local(path) => local_name(path),
            Source::Stdin => bail!("{self} is a directory: name the file that standard input becomes"),
        };
        self.join(&name.unwrap_or_default())
    }

    /// Refuses a source that lies at or above this target.
    pub(in crate::cli::fs) fn need_outside(&self, source: &Source, act: Act) -> anyhow::Result<()> {
        if !self.is_inside(source) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidArgument, format!("cannot {act} {source} into itself ({self})")).into())
    }

    /// Refuses a path of the tree that lies in no mount and has none below it: files have no store there. Most who name one mean a local path.
    pub(in crate::cli::fs) async fn need_store(&self, client: &Client) -> anyhow::Result<()> {
        let Target::Tree { path, .. } = self else { return Ok(()) };
        let mounts = client.mounts().await?;
        if mounts.iter().any(|mount| path.starts_with(&mount.path) || mount.path.starts_with(path)) {
            return Ok(());
        }
        let hint = format!(
            "file:{path} is the local path; forebay mount list shows what is mounted in the tree, forebay mount add mounts a store"
        );
        let message = format!("{path} of the tree lies in no mount, so there is no store for a copy");
        Err(Error::new(ErrorKind::InvalidArgument, message).with_hint(hint).into())
    }

    /// The target below this one; `below` is empty for this one.
    pub(super) fn join(&self, below: &[u8]) -> anyhow::Result<Target> {
        if below.is_empty() {
            return Ok(self.clone());
        }
        Ok(match self {
            Target::Tree { path, .. } => {
                let mut path = path.clone();
                for name in below.split(|byte| *byte == b'/') {
                    path = path.join(&Name::new(name.to_vec())?)?;
                }
                Target::Tree { path, kind: Kind::Other }
            }
            Target::Local { path, .. } => {
                Target::Local { path: path.join(OsStr::from_bytes(below)), kind: Kind::Other }
            }
            Target::Stdout => bail!("a directory cannot be copied to standard output"),
        })
    }

    /// Whether copying `source` here would copy the copies too, or is not needed.
    fn is_inside(&self, source: &Source) -> bool {
        match (self, source) {
            (Target::Tree { path, .. }, Source::Tree(source)) => path.starts_with(source),
            (Target::Local { path, .. }, Source::Local(source)) => resolved(path).starts_with(resolved(source)),
            _ => false,
        }
    }

    /// The name itself is meant, also when it is a directory's.
    pub(in crate::cli::fs) fn itself(mut self) -> Target {
        if let Target::Tree { kind, .. } | Target::Local { kind, .. } = &mut self {
            *kind = Kind::Other;
        }
        self
    }

    /// Makes the directory, in the tree with these attributes, unless there is one.
    pub(super) async fn make_directory(&self, client: &Client, attributes: Option<&Attributes>) -> anyhow::Result<()> {
        match self {
            Target::Tree { path, .. } => {
                let usual = MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
                let options = match attributes.cloned() {
                    Some(Attributes { owner, group, mode }) => {
                        MakeDirectoryOptions { owner, group, mode: mode.unwrap_or(usual.mode), ..usual }
                    }
                    None => usual,
                };
                client.make_directory(path, options).await?;
            }
            Target::Local { path, .. } => {
                tokio::fs::create_dir_all(path).await.with_context(|| format!("cannot make {self}"))?;
            }
            Target::Stdout => bail!("a directory cannot be copied to standard output"),
        }
        Ok(())
    }
}

/// As cp(1) and `hdfs dfs -put` do, a copy makes no directories above its target: a slip of the pen shall not make a tree.
async fn need_parent(client: &Client, path: &NsPath) -> anyhow::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match client.stat(&parent).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let make = format!("make it: forebay fs mkdir -p {parent}");
            // Most who name a directory that only this machine has mean that one.
            let hint = match Path::new(OsStr::from_bytes(&parent.to_bytes())).is_dir() {
                true => format!("file:{path} is the local path; if the tree is meant, {make}"),
                false => make,
            };
            Err(Error::new(ErrorKind::NotFound, format!("no directory {parent} in the tree")).with_hint(hint).into())
        }
        Err(error) => Err(error.into()),
        Ok(entry) if entry.is_directory() => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::NotADirectory, format!("{parent} is a file, not a directory")).into()),
    }
}

/// The same for local paths.
fn need_local_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent)
            if !path.exists() && std::fs::metadata(parent).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) =>
        {
            let parent = parent.display();
            let hint = format!("make it: mkdir -p {parent}");
            Err(Error::new(ErrorKind::NotFound, format!("no directory file:{parent}")).with_hint(hint).into())
        }
        _ => Ok(()),
    }
}

/// The last name of a local path; `.` and `..` are looked up, but `x/.` is what is in `x`.
fn local_name(path: &Path) -> Option<Vec<u8>> {
    if path.as_os_str().as_bytes().ends_with(b"/.") {
        return None;
    }
    let name = |path: &Path| path.file_name().map(|name| name.as_bytes().to_vec());
    name(path).or_else(|| name(&path.canonicalize().ok()?))
}

/// The path with links resolved as far as it exists.
pub(in crate::cli::fs) fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    absolute
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tree { path, .. } => path.fmt(f),
            Target::Local { path, .. } => write!(f, "file:{}", path.display()),
            Target::Stdout => f.write_str("standard output"),
        }
    }
}
