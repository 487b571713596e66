//! What lies in a directory, to compare it with later.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every file below `directory`, with its bytes; but the locks, which name the process that had them last.
pub(super) fn files_below(directory: &Path) -> Result<BTreeSet<(PathBuf, Vec<u8>)>> {
    let mut files = BTreeSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true => directories.push(path),
                false if path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("lock")) => {}
                false => drop(files.insert((path.clone(), std::fs::read(&path)?))),
            }
        }
    }
    Ok(files)
}
