//! Local files: walking them, and writing one so that it appears whole or not at all.

use super::{Item, Source};
use anyhow::Context;
use futures::Stream;
use std::{
    fs::Metadata,
    os::unix::ffi::OsStrExt,
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

/// A local file that is being written beside its final name.
pub(super) struct LocalWriter {
    file: File,
    temporary: tempfile::TempPath,
    path: PathBuf,
}

impl LocalWriter {
    pub(super) fn create(path: &Path) -> anyhow::Result<LocalWriter> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".forebay-")
            .tempfile_in(directory)
            .with_context(|| format!("cannot write in file:{}", directory.display()))?;
        let (file, temporary) = temporary.into_parts();
        Ok(LocalWriter { file: File::from_std(file), temporary, path: path.to_path_buf() })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).await.with_context(|| format!("cannot write file:{}", self.path.display()))
    }

    /// Gives the file its name. `replace` decides what happens to one that is there already.
    pub(super) async fn close(mut self, replace: bool, modified_ms: Option<u64>) -> anyhow::Result<bool> {
        self.file.flush().await?;
        let file = self.file.into_std().await;
        if let Some(ms) = modified_ms {
            file.set_modified(UNIX_EPOCH + Duration::from_millis(ms))?;
        }
        set_default_mode(&file)?;
        let persisted = if replace {
            self.temporary.persist(&self.path).map_err(|error| error.error)
        } else {
            self.temporary.persist_noclobber(&self.path).map_err(|error| error.error)
        };
        match persisted {
            Ok(()) => Ok(true),
            Err(error) if !replace && error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot write file:{}", self.path.display())),
        }
    }
}

/// Temporary files are private; a copy has the mode that a new file of this user has.
fn set_default_mode(file: &std::fs::File) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // The mask can only be read by setting it, which other threads would see; /proc tells it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022);
    file.set_permissions(std::fs::Permissions::from_mode(0o666 & !mask))?;
    Ok(())
}

/// When a local file was modified, in milliseconds since 1970.
pub(super) fn modified_ms(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}
