//! Which objects a delete takes.
//!
//! The versions that the namespace knew when it deleted them; of objects that it did not know, or knew in another version, those that were there
//! then, by what the store says of their last change. What was put there since survives.

use crate::error::{Result, state_error};
use bytes::Bytes;
use forebay_base::InodeId;
use forebay_metastore::Read;
use forebay_namespace::record::TrashEntry;
use forebay_namespace::{Inode, query};
use forebay_ufs::{ListEntry, ObjectMeta};

/// Stores that keep whole seconds may round them up.
const SECOND_MS: u64 = 1000;

/// What one delete takes.
pub(super) struct Doom<'a> {
    entry: &'a TrashEntry,
}

impl<'a> Doom<'a> {
    pub(super) fn of(entry: &'a TrashEntry) -> Doom<'a> {
        Doom { entry }
    }

    /// Whether an object is as it was when the delete was acknowledged, to the resolution of the store's clock.
    pub(super) fn was_there(&self, found: &ObjectMeta) -> bool {
        let earliest_ms = match found.modified_ms.is_multiple_of(SECOND_MS) {
            true => found.modified_ms.saturating_sub(SECOND_MS - 1),
            false => found.modified_ms,
        };
        earliest_ms <= self.entry.deleted_ms
    }

    /// Whether a directory's marker goes: an empty one says nothing that could be lost.
    pub(super) fn takes_marker(&self, marker: &ObjectMeta) -> bool {
        marker.length == 0 || self.was_there(marker)
    }

    /// Those of a directory's files that go.
    pub(super) fn among(&self, read: &dyn Read, directory: &[u8], files: Vec<ListEntry>) -> Result<Vec<ListEntry>> {
        let trashed = self.trashed_directory(read, directory)?;
        let mut doomed = Vec::with_capacity(files.len());
        for file in files {
            if self.was_there(&file.meta) || self.is_known(read, trashed, &file)? {
                doomed.push(file);
            }
        }
        Ok(doomed)
    }

    fn is_known(&self, read: &dyn Read, directory: Option<InodeId>, file: &ListEntry) -> Result<bool> {
        let Some(directory) = directory else {
            return Ok(false);
        };
        let inode = query::lookup(read, directory, &file.name).map_err(state_error)?;
        Ok(inode.is_some_and(|inode| !inode.is_directory() && inode.tag == file.meta.tag.0))
    }

    /// The directory of that key as it lies in the trash; none when it was never loaded.
    fn trashed_directory(&self, read: &dyn Read, key: &[u8]) -> Result<Option<InodeId>> {
        let mut directory = InodeId(self.entry.id);
        let below = key.strip_prefix(&self.entry.key[..]).unwrap_or_default();
        for name in below.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let inode = query::lookup(read, directory, &Bytes::copy_from_slice(name)).map_err(state_error)?;
            match inode.filter(Inode::is_directory) {
                Some(inode) => directory = inode.inode_id(),
                None => return Ok(None),
            }
        }
        Ok(Some(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_ufs::ObjectKind;

    #[test]
    fn what_came_later_survives() {
        let entry = TrashEntry { deleted_ms: 10_500, ..TrashEntry::default() };
        let found = |modified_ms, length| ObjectMeta {
            kind: ObjectKind::File,
            length,
            modified_ms,
            tag: forebay_base::VersionTag("t".to_owned()),
        };
        let doom = Doom::of(&entry);
        for (modified_ms, was_there) in
            [(0, true), (10_000, true), (10_500, true), (10_501, false), (11_000, true), (12_000, false)]
        {
            assert_eq!(doom.was_there(&found(modified_ms, 1)), was_there, "{modified_ms}");
        }
        assert!(doom.takes_marker(&found(99_999, 0)));
        assert!(!doom.takes_marker(&found(99_999, 1)));
    }
}
