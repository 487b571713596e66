//! What is kept of a run that has found something: why, the history if that is it, and of each process its log and what a master has on disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::ground::NoOrder;
use crate::world::World;

/// Ends the processes, and puts it all into a directory that is made.
pub fn keep(error: &anyhow::Error, world: &mut World, place: &Path) -> Result<()> {
    fs::create_dir_all(place)?;
    fs::write(place.join("history.txt"), in_full(error))?;
    for node in world.nodes() {
        // What it has on disk changes no more.
        node.kill()?;
        let name = node.dir().file_name().context("the directory of a process has a name")?;
        copy(&node.dir().join("log"), &place.join(name).with_extension("log"))?;
        let (data, kept) = (node.dir().join("data/master"), place.join(name));
        if data.is_dir() {
            copy(&data, &kept).with_context(|| format!("copying {} to {}", data.display(), kept.display()))?;
        }
    }
    Ok(())
}

/// Where it happened, and the history without an order.
fn in_full(error: &anyhow::Error) -> String {
    let history = error.downcast_ref::<NoOrder>().map(NoOrder::in_full);
    format!("{error:#}\n\n{}", history.unwrap_or_default())
}

/// A file, or a directory with all that is in it, in place of what an earlier run of the seed has left there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).with_context(|| format!("copying {}", from.display()));
    }
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // Sockets and the like are no evidence.
        if entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir()) {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_copied_with_all_that_is_in_it_and_nothing_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("log/deep")).unwrap();
        fs::write(from.join("log/deep/1"), "one").unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(to.join("old"), "").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("log/deep/1")).unwrap(), "one");
        assert!(!to.join("old").exists());
    }

    #[test]
    fn what_is_no_history_is_told_too() {
        assert_eq!(in_full(&anyhow::anyhow!("acknowledged and not there")), "acknowledged and not there\n\n");
    }
}
