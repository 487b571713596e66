//! Where copies go.

use super::{STANDARD_STREAM, Source};
use crate::cli::place::Place;
use anyhow::{Context, bail, ensure};
use forebay_base::{ErrorKind, Name, NsPath};
use forebay_client::{Client, MakeDirectoryOptions};
use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A path that is written, and whether it was a directory before.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Tree { path: NsPath, kind: Kind },
    Local { path: PathBuf, kind: Kind },
    Stdout,
}

/// What a target was when the command started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
    pub(super) async fn find(client: &Client, argument: &OsStr) -> anyhow::Result<Target> {
        if argument == STANDARD_STREAM {
            return Ok(Target::Stdout);
        }
        match Place::parse(argument) {
            Place::Local(path) => Ok(Target::Local { kind: Kind::of(path.is_dir(), argument), path }),
            Place::Tree(bytes) => {
                let path = NsPath::parse(&bytes)?;
                let is_directory = match client.stat(&path).await {
                    Ok(entry) => entry.is_directory(),
                    Err(error) if error.kind() == ErrorKind::NotFound => false,
                    Err(error) => return Err(error.into()),
                };
                Ok(Target::Tree { path, kind: Kind::of(is_directory, argument) })
            }
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Target::Tree { kind: Kind::Directory, .. } | Target::Local { kind: Kind::Directory, .. })
    }

    /// Refuses a file at a name that can only be a directory's.
    pub(super) fn ensure_names_a_file(&self) -> anyhow::Result<()> {
        let new = matches!(
            self,
            Target::Tree { kind: Kind::NewDirectory, .. } | Target::Local { kind: Kind::NewDirectory, .. }
        );
        ensure!(!new, "{self}/ is not a directory: make it first, or name the file");
        Ok(())
    }

    /// What `source` becomes: a name inside the target when that is a directory, else the target itself.
    pub(super) fn root_for(&self, source: &Source) -> anyhow::Result<Target> {
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

    /// Whether copying `source` here would copy the copies too.
    pub(super) fn is_inside(&self, source: &Source) -> bool {
        match (self, source) {
            (Target::Tree { path, .. }, Source::Tree(source)) => path.starts_with(source),
            (Target::Local { path, .. }, Source::Local(source)) => resolved(path).starts_with(resolved(source)),
            _ => false,
        }
    }

    pub(super) async fn make_directory(&self, client: &Client) -> anyhow::Result<()> {
        match self {
            Target::Tree { path, .. } => {
                let options = MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
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

/// The last name of a local path; `.` and `..` are looked up, but `x/.` is what is in `x`.
fn local_name(path: &Path) -> Option<Vec<u8>> {
    if path.as_os_str().as_bytes().ends_with(b"/.") {
        return None;
    }
    let name = |path: &Path| path.file_name().map(|name| name.as_bytes().to_vec());
    name(path).or_else(|| name(&path.canonicalize().ok()?))
}

/// The path with links resolved as far as it exists.
fn resolved(path: &Path) -> PathBuf {
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
