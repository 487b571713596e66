//! The entries of a directory of the namespace, as a comparison sees them; and differences as a command.

use crate::core::Core;
use crate::error::{Result, state_error};
use crate::mounts::Mounted;
use crate::sync::merge::{Change, Child, Children};
use bytes::Bytes;
use forebay_base::{InodeId, NsPath};
use forebay_metastore::{Read, Snapshot};
use forebay_namespace::command::SyncEntry;
use forebay_namespace::{Inode, query};
use forebay_proto::error::WireError;
use forebay_ufs::{ListEntry, ObjectKind, ObjectMeta};
use std::ops::Bound;

/// Entries read at a time.
const PAGE_LEN: usize = 1000;

/// A directory in one snapshot.
pub(super) struct Directory<'a> {
    pub(super) core: &'a Core,
    pub(super) mount: &'a Mounted,
    pub(super) path: &'a NsPath,
    pub(super) snapshot: &'a Snapshot,
    /// None when the namespace has no such directory.
    pub(super) inode: Option<InodeId>,
}

impl Directory<'_> {
    fn child(&self, name: Bytes, inode: Inode) -> Result<Child<Inode>> {
        Ok(Child {
            kind: match inode.is_directory() {
                true => ObjectKind::Directory,
                false => ObjectKind::File,
            },
            guarded: is_guarded(self.core, self.mount, self.path, self.snapshot, &name, &inode)?,
            name,
            entry: inode,
        })
    }
}

/// Whether a comparison must leave an entry alone: it is a mount point or above one, or is being written, itself or something below it.
pub(super) fn is_guarded(
    core: &Core,
    mount: &Mounted,
    directory: &NsPath,
    read: &dyn Read,
    name: &Bytes,
    inode: &Inode,
) -> Result<bool> {
    if inode.is_mount_point() || !inode.is_complete() || inode.write != 0 {
        return Ok(true);
    }
    if !inode.is_directory() {
        return Ok(false);
    }
    let name = forebay_base::Name::new(name.clone()).map_err(crate::error::path_error)?;
    let Ok(path) = directory.join(&name) else {
        return Ok(false);
    };
    if core.mounts.any_below(&path) {
        return Ok(true);
    }
    let writes = query::writes_below(read, mount.id(), &mount.key(&path), 1);
    Ok(!writes.map_err(state_error)?.is_empty())
}

/// Whether the store's object is the content of the inode.
pub(super) fn is_same(inode: &Inode, meta: &ObjectMeta) -> bool {
    match (inode.is_directory(), meta.is_directory()) {
        (true, true) => true,
        (false, false) if inode.tag.is_empty() || meta.tag.is_unknown() => {
            inode.length == meta.length && inode.modified_ms == meta.modified_ms
        }
        (false, false) => inode.tag == meta.tag.0 && inode.length == meta.length,
        _ => false,
    }
}

impl Children for Directory<'_> {
    type Entry = Inode;
    type Error = WireError;

    fn get(&self, name: &[u8]) -> Result<Option<Child<Inode>>> {
        let Some(directory) = self.inode else {
            return Ok(None);
        };
        let inode = query::lookup(self.snapshot, directory, name).map_err(state_error)?;
        inode.map(|inode| self.child(Bytes::copy_from_slice(name), inode)).transpose()
    }

    fn range(&self, from: Bound<Bytes>, to: Bound<Bytes>) -> Box<dyn Iterator<Item = Result<Child<Inode>>> + '_> {
        let after = match from {
            Bound::Excluded(name) | Bound::Included(name) => name,
            Bound::Unbounded => Bytes::new(),
        };
        let Some(inode) = self.inode else {
            return Box::new(std::iter::empty());
        };
        let pages = Pages { directory: self, inode, after: Some(after), page: Vec::new().into_iter() };
        let within = move |name: &[u8]| match &to {
            Bound::Included(to) => name <= &to[..],
            Bound::Excluded(to) => name < &to[..],
            Bound::Unbounded => true,
        };
        Box::new(pages.take_while(move |child| child.as_ref().map_or(true, |child| within(&child.name))))
    }

    fn is_same(&self, inode: &Inode, found: &ListEntry) -> bool {
        is_same(inode, &found.meta)
    }
}

/// The entries of a directory, read page by page.
struct Pages<'a> {
    directory: &'a Directory<'a>,
    inode: InodeId,
    /// The last name read; none at the end.
    after: Option<Bytes>,
    page: std::vec::IntoIter<query::Entry>,
}

impl Pages<'_> {
    fn fill(&mut self) -> Result<()> {
        let Some(after) = self.after.take() else {
            return Ok(());
        };
        let page = query::list(self.directory.snapshot, self.inode, &after, PAGE_LEN).map_err(state_error)?;
        if page.len() == PAGE_LEN {
            self.after = page.last().map(|(name, _)| name.to_bytes());
        }
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Child<Inode>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0
            && let Err(error) = self.fill()
        {
            return Some(Err(error));
        }
        let (name, inode) = self.page.next()?;
        Some(self.directory.child(name.to_bytes(), inode))
    }
}

/// A difference as the command has it.
pub(super) fn sync_entry(change: Change<Inode>) -> SyncEntry {
    match change {
        Change::Add(found) => describe(found.name, &found.meta, None),
        Change::Replace(child, found) => describe(found.name, &found.meta, Some(&child.entry)),
        Change::Remove(child) => removal(child.name, &child.entry),
    }
}

/// What the store has at a name, guarded by what the namespace had there.
pub(super) fn describe(name: Bytes, meta: &ObjectMeta, before: Option<&Inode>) -> SyncEntry {
    SyncEntry {
        name,
        removed: false,
        directory: meta.is_directory(),
        length: meta.length,
        modified_ms: meta.modified_ms,
        tag: meta.tag.0.clone(),
        expected_inode: before.map_or(0, |inode| inode.id),
        expected_version: before.map_or(0, |inode| inode.version),
    }
}

/// The store has nothing at a name.
pub(super) fn removal(name: Bytes, before: &Inode) -> SyncEntry {
    SyncEntry {
        name,
        removed: true,
        expected_inode: before.id,
        expected_version: before.version,
        ..SyncEntry::default()
    }
}
