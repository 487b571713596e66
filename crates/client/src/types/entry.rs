//! Files and directories as the masters describe them.

use crate::error::{Error, Result};
use bytes::Bytes;
use forebay_base::{ErrorKind, FileId, InodeId, MountId, Name, NsPath, TimestampMs, VersionTag};
use forebay_proto::v1;

/// Whether an entry is a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its identity, which a rename does not change.
    pub inode: InodeId,
    /// Its whole path.
    pub path: NsPath,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; 0 while a new file is being written, and for a directory.
    pub length: u64,
    /// Version of the content; 0 for a directory and for a new file that is being written.
    pub version: u64,
    /// Bytes of a page, the unit of caching.
    pub page_size: u32,
    /// Bytes of a block, the unit of placement.
    pub block_size: u64,
    /// When the content changed last.
    pub modified: TimestampMs,
    /// When it was read last, as far as that is kept.
    pub accessed: TimestampMs,
    /// When the attributes changed last.
    pub changed: TimestampMs,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// False while a new file is being written.
    pub complete: bool,
    /// Whether the under store has this content.
    pub persisted: bool,
    /// The mount that it lies in.
    pub mount: MountId,
    /// Whether a store is mounted here.
    pub mount_point: bool,
    /// The under store's mark of the content.
    pub version_tag: VersionTag,
    /// Extended attributes; empty unless they were asked for.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Its name.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// What lies at and below a path, the path itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ContentSummary {
    /// Number of files.
    pub files: u64,
    /// Number of directories.
    pub directories: u64,
    /// Bytes of all files.
    pub length: u64,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.kind == EntryKind::File
    }

    /// The last name of the path; none for the root.
    pub fn name(&self) -> Option<Name> {
        self.path.file_name()
    }

    /// The version of the content, by which its cached bytes are named.
    pub fn file_id(&self) -> FileId {
        FileId { inode: self.inode, version: self.version }
    }

    /// Reads the entry at `path`. Replies to repeated requests do not hold the path, so it is the one that was asked for.
    pub(crate) fn at(path: NsPath, entry: Option<v1::Entry>) -> Result<Entry> {
        let entry = entry.ok_or_else(|| bad_reply("a reply without an entry"))?;
        Ok(Entry::with_path(entry, path))
    }

    /// Reads an entry of a listing of `directory`, which holds just its name.
    pub(crate) fn from_listing(directory: &NsPath, entry: v1::Entry) -> Result<Entry> {
        let path = Name::new(entry.path.clone())
            .and_then(|name| directory.join(&name))
            .map_err(|error| bad_reply(&error.to_string()))?;
        Ok(Entry::with_path(entry, path))
    }

    fn with_path(entry: v1::Entry, path: NsPath) -> Entry {
        let kind = match entry.kind() {
            v1::EntryKind::File => EntryKind::File,
            v1::EntryKind::Directory => EntryKind::Directory,
        };
        Entry {
            inode: InodeId(entry.inode),
            path,
            kind,
            length: entry.length,
            version: entry.version,
            page_size: entry.page_size,
            block_size: entry.block_size,
            modified: TimestampMs(entry.modified_ms),
            accessed: TimestampMs(entry.accessed_ms),
            changed: TimestampMs(entry.changed_ms),
            owner: entry.owner,
            group: entry.group,
            mode: entry.mode,
            complete: entry.complete,
            persisted: entry.persisted,
            mount: MountId(entry.mount),
            mount_point: entry.mount_point,
            version_tag: VersionTag(entry.version_tag),
            xattrs: entry.xattrs.into_iter().map(Xattr::from).collect(),
        }
    }
}

impl From<v1::Xattr> for Xattr {
    fn from(xattr: v1::Xattr) -> Xattr {
        Xattr { name: xattr.name, value: xattr.value }
    }
}

impl From<Xattr> for v1::Xattr {
    fn from(xattr: Xattr) -> v1::Xattr {
        v1::Xattr { name: xattr.name, value: xattr.value }
    }
}

impl From<v1::ContentSummaryReply> for ContentSummary {
    fn from(reply: v1::ContentSummaryReply) -> ContentSummary {
        ContentSummary { files: reply.files, directories: reply.directories, length: reply.length }
    }
}

/// A master or worker that breaks the protocol.
pub(crate) fn bad_reply(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("the server sent {what}"))
        .with_hint("check that client and servers are of the same release")
}
