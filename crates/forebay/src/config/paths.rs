//! Paths that are relative: what to, and what becomes of them.
//!
//! In a file they are relative to the file's own directory, so that a server finds its data wherever it is started from; in a variable or a flag, which a
//! person types in a shell, to the working directory.

use super::{Settings, layers::Source};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Makes the paths absolute. Tells what was made of relative ones that somebody set.
pub(super) fn resolve(settings: &mut Settings, sources: &BTreeMap<String, Source>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut one = |key: String, setting: &str, path: &mut PathBuf| {
        if path.is_absolute() || path.as_os_str().is_empty() {
            return;
        }
        let source = sources.get(setting);
        let (absolute, base) = match source {
            Some(Source::File(file)) => (beside(file, path), "the file's directory"),
            _ => (std::path::absolute(&*path), "the working directory"),
        };
        // It fails when there is no working directory any more: then the path is as good as it was.
        let Ok(absolute) = absolute else { return };
        if source.is_some() {
            notes.push(format!("{key} is relative to {base}: {}", absolute.display()));
        }
        *path = absolute;
    };
    one("data_dir".to_owned(), "data_dir", &mut settings.data_dir);
    for (tier, settings) in settings.worker.tiers.iter_mut().enumerate() {
        for (at, directory) in settings.directories.iter_mut().enumerate() {
            one(format!("worker.tiers[{tier}].directories[{at}].path"), "worker.tiers", &mut directory.path);
        }
    }
    notes
}

fn beside(file: &Path, path: &Path) -> std::io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    std::path::absolute(file.parent().unwrap_or(Path::new("/")).join(path))
}
