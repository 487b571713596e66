//! What a power cut may leave of the manifest: the file `CURRENT` names one that is not there.
//!
//! At each opening RocksDB makes a manifest, syncs its bytes, renames `CURRENT` to name it, and then syncs the directory. A file system that keeps names in order
//! (ext4, XFS) shows either all of that or nothing. One that does not (POSIX promises no order, Btrfs keeps none) may keep the rename and lose the manifest. The one
//! before is removed after that sync only, and nothing was acknowledged before it: so the one before is whole, and counts. See Pillai et al., "All File Systems Are Not
//! Created Equal" (OSDI 2014), for such orders.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";

/// Has `CURRENT` name the newest manifest that is there, when the one that it names is not. In a directory without any manifest and without tables nothing was ever
/// stored: `CURRENT` goes, for the store to be made anew. Everything else is left as it is, for RocksDB to tell.
pub(super) fn mend(directory: &Path) -> io::Result<()> {
    let current = directory.join(CURRENT);
    let named = match fs::read_to_string(&current) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let named = named.trim_end();
    if number_of(named).is_none() || directory.join(named).try_exists()? {
        return Ok(());
    }
    let (mut newest, mut has_tables) = (None, false);
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_str().unwrap_or_default();
        has_tables |= name.ends_with(".sst");
        newest = newest.max(number_of(name).map(|number| (number, name.to_owned())));
    }
    match newest {
        Some((_, newest)) => {
            tracing::warn!(directory = %directory.display(), named, newest, "the manifest that CURRENT names is not there, as after a power cut: the one before counts");
            let unfinished = directory.join("CURRENT.new");
            let mut file = File::create(&unfinished)?;
            writeln!(file, "{newest}")?;
            file.sync_all()?;
            fs::rename(&unfinished, &current)?;
        }
        None if has_tables => return Ok(()),
        None => {
            tracing::warn!(directory = %directory.display(), named, "the making of the store was cut off: it is made anew");
            fs::remove_file(&current)?;
        }
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
        fs::write(directory.path().join(CURRENT), "nonsense").unwrap();
        assert!(open(directory.path()).is_err(), "RocksDB tells");
    }
}
