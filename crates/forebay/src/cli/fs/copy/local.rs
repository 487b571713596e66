//! Local files: walking them, and writing one so that it appears whole or not at all.
//!
//! Devices, pipes and terminals are written as they are, links are followed, and a file that is replaced keeps its mode.

use super::{
    attributes::Attributes,
    source::{Item, Links, Source},
};
use anyhow::{Context, ensure};
use futures::Stream;
use std::{
    fs::{Metadata, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    fs::{self, File, ReadDir},
    io::AsyncWriteExt,
};

/// The path and, of a directory, all below it. Links are followed, as far as `links` says. What is neither a file nor a directory, leads nowhere or cannot be read is an
/// error in its place, and the walk goes on.
pub(super) fn items(root: PathBuf, links: Links) -> impl Stream<Item = anyhow::Result<Item>> + Send + 'static {
    futures::stream::unfold(Walk { root, links, levels: None }, |mut walk| async move {
        let item = walk.next().await?;
        Some((item, walk))
    })
}

struct Walk {
    root: PathBuf,
    links: Links,
    /// Open directories from the root down; none before the start.
    levels: Option<Vec<Level>>,
}

struct Level {
    entries: ReadDir,
    /// Device and inode: a link back to here would have no end.
    identity: (u64, u64),
}

impl Walk {
    async fn next(&mut self) -> Option<anyhow::Result<Item>> {
        if self.levels.is_none() {
            self.levels = Some(Vec::new());
            return Some(self.visit(self.root.clone()).await);
        }
        while let Some(level) = self.levels.as_mut().and_then(|levels| levels.last_mut()) {
            match level.entries.next_entry().await {
                Ok(Some(entry)) => return Some(self.visit(entry.path()).await),
                Ok(None) => drop(self.levels.as_mut().and_then(Vec::pop)),
                Err(error) => {
                    self.levels.as_mut().and_then(Vec::pop);
                    return Some(Err(error).context("cannot list a directory to its end"));
                }
            }
        }
        None
    }

    async fn visit(&mut self, path: PathBuf) -> anyhow::Result<Item> {
        let below: Vec<u8> =
            path.strip_prefix(&self.root).map(|below| below.as_os_str().as_bytes().to_vec()).unwrap_or_default();
        let metadata = fs::metadata(&path).await.with_context(|| format!("cannot read file:{}", path.display()))?;
        // Named by itself a pipe or a device is read to its end; found on the way it is not what was meant.
        ensure!(
            below.is_empty() || metadata.is_dir() || metadata.is_file(),
            "file:{} is neither a file nor a directory: it is left out",
            path.display()
        );
        ensure!(
            !(self.links == Links::ToFiles && metadata.is_dir() && path.is_symlink()),
            "file:{} is a link to a directory: it is left out; move what it leads to by itself",
            path.display()
        );
        if metadata.is_dir() {
            self.descend(&path, &metadata).await?;
        }
        let (is_directory, length) = (metadata.is_dir(), metadata.len());
        let attributes = Attributes::of_local(&metadata);
        Ok(Item { below, is_directory, length, unfinished: false, attributes, id: None, from: Source::Local(path) })
    }

    async fn descend(&mut self, path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
        let identity = (metadata.dev(), metadata.ino());
        let levels = self.levels.get_or_insert_default();
        ensure!(
            levels.iter().all(|level| level.identity != identity),
            "file:{} leads back to a directory above it: it is left out",
            path.display()
        );
        let entries = fs::read_dir(path).await.with_context(|| format!("cannot list file:{}", path.display()))?;
        levels.push(Level { entries, identity });
        Ok(())
    }
}

/// A local file that is being written.
pub(super) struct LocalWriter {
    file: File,
    path: PathBuf,
    /// None: a device, a pipe or a terminal, which is written directly and stays what it is.
    beside: Option<Beside>,
}

/// A regular file appears whole or not at all: it is written beside its final name.
struct Beside {
    temporary: tempfile::TempPath,
    /// The file itself, where the path is a link to it.
    real_path: PathBuf,
    /// The mode of the file that is replaced.
    mode: Option<u32>,
}

/// How a file that was written gets its name.
pub(super) struct NewFile {
    /// One of that name is replaced.
    pub(super) replace: bool,
    pub(super) modified_ms: Option<u64>,
    /// That of the source; this process's mask takes bits away.
    pub(super) mode: Option<u32>,
    /// Bytes and name are on the disk at the end.
    pub(super) synced: bool,
}

impl LocalWriter {
    pub(super) fn create(path: &Path) -> anyhow::Result<LocalWriter> {
        let name = || format!("cannot write file:{}", path.display());
        let present = match std::fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(name),
        };
        ensure!(present.is_some() || !path.is_symlink(), "{}: it is a link to nothing", name());
        ensure!(!present.as_ref().is_some_and(Metadata::is_dir), "{}: it is a directory", name());
        if present.as_ref().is_some_and(|metadata| !metadata.is_file()) || is_standard_stream(path) {
            let file = std::fs::OpenOptions::new().write(true).open(path).with_context(name)?;
            return Ok(LocalWriter { file: File::from_std(file), path: path.to_path_buf(), beside: None });
        }
        let real_path = if present.is_some() { path.canonicalize().with_context(name)? } else { path.to_path_buf() };
        let directory = parent(&real_path);
        let temporary = tempfile::Builder::new()
            .prefix(".forebay-")
            .tempfile_in(directory)
            .with_context(|| format!("cannot write in file:{}", directory.display()))?;
        let (file, temporary) = temporary.into_parts();
        // Without set-user-id and the like: the copy may belong to somebody else.
        let mode = present.map(|metadata| metadata.mode() & 0o777);
        let beside = Some(Beside { temporary, real_path, mode });
        Ok(LocalWriter { file: File::from_std(file), path: path.to_path_buf(), beside })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).await.with_context(|| format!("cannot write file:{}", self.path.display()))
    }

    /// Gives the file its name. False when there is one already that is not to be replaced.
    pub(super) async fn close(mut self, new: NewFile) -> anyhow::Result<bool> {
        let name = || format!("cannot write file:{}", self.path.display());
        self.file.flush().await.with_context(name)?;
        let Some(Beside { temporary, real_path, mode }) = self.beside else { return Ok(true) };
        let file = self.file.into_std().await;
        if let Some(ms) = new.modified_ms {
            file.set_modified(UNIX_EPOCH + Duration::from_millis(ms))?;
        }
        let mode = mode.unwrap_or_else(|| new.mode.unwrap_or(0o666) & 0o777 & !mask());
        file.set_permissions(Permissions::from_mode(mode))?;
        if new.synced {
            sync(file).await.with_context(name)?;
        }
        let persisted = if new.replace {
            temporary.persist(&real_path).map_err(|error| error.error)
        } else {
            temporary.persist_noclobber(&real_path).map_err(|error| error.error)
        };
        match persisted {
            Ok(()) if new.synced => sync(directory_of(&real_path)?).await.map(|()| true).with_context(name),
            Ok(()) => Ok(true),
            Err(error) if !new.replace && error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(name),
        }
    }
}

/// Names of what this process has open already, as a shell redirected it: replacing the file behind it would miss what the shell holds.
fn is_standard_stream(path: &Path) -> bool {
    ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|name| path.starts_with(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn directory_of(path: &Path) -> anyhow::Result<std::fs::File> {
    let directory = parent(path);
    std::fs::File::open(directory).with_context(|| format!("cannot open file:{}", directory.display()))
}

async fn sync(file: std::fs::File) -> anyhow::Result<()> {
    Ok(tokio::task::spawn_blocking(move || file.sync_all()).await??)
}

/// The bits of a mode that new files of this user do not get. Temporary files are private; a copy is not.
fn mask() -> u32 {
    // It can only be read by setting it, which other threads would see; /proc tells it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

/// When a local file was modified, in milliseconds since 1970.
pub(super) fn modified_ms(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}
