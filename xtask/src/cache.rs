//! Where the toolbox keeps what it builds once: the user's cache directory, never the repository.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// `$XDG_CACHE_HOME/forebay`, else `~/.cache/forebay`.
pub(crate) fn dir() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir),
        None => env::home_dir().context("no home directory: set HOME or XDG_CACHE_HOME")?.join(".cache"),
    };
    Ok(base.join("forebay"))
}

/// Holds an exclusive lock on `NAME.lock` in the cache directory until the file is dropped, so that two
/// toolboxes started at once build a thing once.
pub(crate) fn lock(name: &str) -> Result<File> {
    let dir = dir()?;
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let path = dir.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("{name}: another toolbox is at it, waiting");
        file.lock().with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

/// Makes `target` appear whole or not at all: `fill` writes into a scratch directory beside it, which is then renamed.
pub(crate) fn install_dir(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let scratch = target.with_added_extension(format!("tmp-{}", std::process::id()));
    remove_dir_if_there(&scratch)?;
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let filled = fill(&scratch);
    if filled.is_err() {
        remove_dir_if_there(&scratch)?;
        return filled;
    }
    remove_dir_if_there(target)?;
    fs::rename(&scratch, target).with_context(|| format!("renaming {} to {}", scratch.display(), target.display()))
}

fn remove_dir_if_there(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
