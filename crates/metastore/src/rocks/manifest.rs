//! What a power cut may leave of the manifest: the file `CURRENT` names one that is not there.
//!
//! When it begins a new manifest, at each opening first of all, RocksDB syncs its bytes, renames `CURRENT` to name it, and syncs the directory. A file system that
//! keeps names in order (ext4, XFS) shows either all of that or nothing. POSIX promises no order: the rename may be kept, and the manifest lost. The one before is
//! removed after that sync only, and nothing was acknowledged before it: so the one before is whole, and counts. Of such orders: Pillai et al., "All File Systems Are Not
//! Created Equal" (OSDI 2014).

use super::format;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";
const TABLE: &str = ".sst";

/// Has `CURRENT` name the manifest before the one that it names, when that is not there. In a directory where nothing was ever stored `CURRENT` goes, for
/// the store to be made anew. Everything else is left as it is, for RocksDB to tell: a manifest may be missing since somebody has removed it.
pub(super) fn mend(directory: &Path) -> io::Result<()> {
    let current = directory.join(CURRENT);
    let text = match fs::read(&current) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let name = str::from_utf8(&text).unwrap_or_default().trim_end();
    let Some(named) = number_of(name) else {
        return Ok(());
    };
    if directory.join(name).try_exists()? {
        return Ok(());
    }
    let (mut before, mut newest_table) = (None, None);
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_str().unwrap_or_default();
        before = before.max(number_of(name).filter(|number| *number < named).map(|number| (number, name.to_owned())));
        newest_table = newest_table.max(name.strip_suffix(TABLE).and_then(|number| number.parse::<u64>().ok()));
    }
    // A process that has the store open goes on meanwhile.
    let is_unchanged = || fs::read(&current).is_ok_and(|now| now == text);
    match before {
        // What was made after it, it named.
        _ if newest_table > Some(named) => return Ok(()),
        Some((_, before)) if is_unchanged() => {
            tracing::warn!(directory = %directory.display(), named, before, "the manifest that CURRENT names is not there, as after a power cut: the one before counts");
            let unfinished = directory.join("CURRENT.new");
            let mut file = File::create(&unfinished)?;
            writeln!(file, "{before}")?;
            file.sync_all()?;
            fs::rename(&unfinished, &current)?;
        }
        None if newest_table.is_none() && !format::is_written(directory) && is_unchanged() => {
            tracing::warn!(directory = %directory.display(), named, "the making of the store was cut off: it is made anew");
            fs::remove_file(&current)?;
        }
        _ => return Ok(()),
    }
    File::open(directory)?.sync_all()
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Read, RocksSettings, RocksStore, Store};
    use std::path::PathBuf;

    fn open(directory: &Path) -> crate::Result<RocksStore> {
        RocksStore::open(directory, &RocksSettings::default())
    }

    fn manifest(directory: &Path) -> PathBuf {
        directory.join(fs::read_to_string(directory.join(CURRENT)).unwrap().trim_end())
    }

    fn flushed(directory: &Path) {
        let store = open(directory).unwrap();
        let mut batch = Batch::new();
        batch.put(&b"k"[..], &b"v"[..]);
        store.write(batch).unwrap();
        store.flush().unwrap();
    }

    #[test]
    fn the_manifest_before_counts_when_the_newest_was_lost() {
        let directory = tempfile::tempdir().unwrap();
        flushed(directory.path());
        let before = manifest(directory.path());
        fs::write(directory.path().join(CURRENT), "MANIFEST-000999\n").unwrap();
        // One that never counted.
        fs::write(directory.path().join("MANIFEST-001000"), "cut off").unwrap();
        assert_eq!(open(directory.path()).unwrap().get(b"k").unwrap().unwrap(), "v");
        assert_ne!(manifest(directory.path()), before, "it goes on as ever");
        assert_eq!(open(directory.path()).unwrap().get(b"k").unwrap().unwrap(), "v");
    }

    #[test]
    fn a_store_whose_making_was_cut_off_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CURRENT), "MANIFEST-000001\n").unwrap();
        flushed(directory.path());
        assert_eq!(open(directory.path()).unwrap().get(b"k").unwrap().unwrap(), "v");
    }

    #[test]
    fn a_store_without_tables_that_was_made_is_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        fs::remove_file(manifest(directory.path())).unwrap();
        assert!(open(directory.path()).is_err());
    }

    #[test]
    fn a_store_that_has_lost_its_manifest_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        flushed(directory.path());
        fs::remove_file(manifest(directory.path())).unwrap();
        let names = || {
            let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| !name.to_str().unwrap().starts_with("LOG")).collect::<std::collections::BTreeSet<_>>()
        };
        let before = names();
        let error = open(directory.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("MANIFEST-"), "{error}");
        assert_eq!(names(), before);
        // An old one that nobody has come to remove does not know the newest tables.
        fs::write(directory.path().join("MANIFEST-000001"), "old").unwrap();
        let before = names();
        assert!(open(directory.path()).is_err());
        assert_eq!(names(), before);
        fs::write(directory.path().join(CURRENT), "nonsense").unwrap();
        assert!(open(directory.path()).is_err(), "RocksDB tells");
    }
}
