//! Local files: walking them, and writing one so that it appears whole or not at all.
//!
//! Devices, pipes and terminals are written as they are, links are followed, and a file that is replaced keeps its mode.

use super::{Item, Source};
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

/// The path and, of a directory, all below it. Links are followed at the path itself only; below it links and special files are
/// left out, as `cp -r` without `-L` would not copy what they point to.
pub(super) fn items(root: PathBuf) -> impl Stream<Item = anyhow::Result<Item>> + Send + 'static {
    futures::stream::try_unfold(Walk { root, levels: None }, |mut walk| async move {
        let item = walk.next().await?;
        Ok(item.map(|item| (item, walk)))
    })
}

struct Walk {
    root: PathBuf,
    /// Open directories from the root down; none before the start.
    levels: Option<Vec<ReadDir>>,
}

impl Walk {
    async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        if self.levels.is_none() {
            self.levels = Some(Vec::new());
            let path = self.root.clone();
            let metadata = fs::metadata(&path).await.with_context(|| format!("cannot read file:{}", path.display()))?;
            return Ok(Some(self.item(path, &metadata).await?));
        }
        while let Some(level) = self.levels.as_mut().and_then(|levels| levels.last_mut()) {
            let Some(entry) = level.next_entry().await? else {
                self.levels.as_mut().and_then(Vec::pop);
                continue;
            };
            let metadata = entry.metadata().await?;
            if metadata.is_dir() || metadata.is_file() {
                return Ok(Some(self.item(entry.path(), &metadata).await?));
            }
        }
        Ok(None)
    }

    async fn item(&mut self, path: PathBuf, metadata: &Metadata) -> anyhow::Result<Item> {
        if metadata.is_dir() {
            let level = fs::read_dir(&path).await.with_context(|| format!("cannot list file:{}", path.display()))?;
            self.levels.get_or_insert_default().push(level);
        }
        let below =
            path.strip_prefix(&self.root).map(|below| below.as_os_str().as_bytes().to_vec()).unwrap_or_default();
        Ok(Item { below, is_directory: metadata.is_dir(), length: metadata.len(), from: Source::Local(path) })
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
        let directory = real_path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
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

    /// Gives the file its name. `replace` decides what happens to one that is there already.
    pub(super) async fn close(mut self, replace: bool, modified_ms: Option<u64>) -> anyhow::Result<bool> {
        let name = || format!("cannot write file:{}", self.path.display());
        self.file.flush().await.with_context(name)?;
        let Some(Beside { temporary, real_path, mode }) = self.beside else { return Ok(true) };
        let file = self.file.into_std().await;
        if let Some(ms) = modified_ms {
            file.set_modified(UNIX_EPOCH + Duration::from_millis(ms))?;
        }
        file.set_permissions(Permissions::from_mode(mode.unwrap_or_else(default_mode)))?;
        let persisted = if replace {
            temporary.persist(&real_path).map_err(|error| error.error)
        } else {
            temporary.persist_noclobber(&real_path).map_err(|error| error.error)
        };
        match persisted {
            Ok(()) => Ok(true),
            Err(error) if !replace && error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(name),
        }
    }
}

/// Names of what this process has open already, as a shell redirected it: replacing the file behind it would miss what the shell holds.
fn is_standard_stream(path: &Path) -> bool {
    ["/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|name| path.starts_with(name))
}

/// Temporary files are private; a copy has the mode that a new file of this user has.
fn default_mode() -> u32 {
    // The mask can only be read by setting it, which other threads would see; /proc tells it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    0o666 & !mask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

/// When a local file was modified, in milliseconds since 1970.
pub(super) fn modified_ms(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}
