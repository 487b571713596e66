//! What callers may choose.

use super::entry::Xattr;
use bytes::Bytes;
use forebay_base::{ByteSize, FileId, Name, TimestampMs};
use forebay_proto::v1;

/// Whether the under store is asked before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// When the mount's sync interval has passed.
    #[default]
    ByInterval,
    /// In any case.
    Now,
    /// In no case.
    Never,
}

/// Choices of a stat.
#[derive(Clone, Debug, Default)]
pub struct StatOptions {
    /// Whether the under store is asked first.
    pub sync: SyncMode,
    /// Return extended attributes too.
    pub with_xattrs: bool,
}

/// Choices of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Whether the under store is asked first.
    pub sync: SyncMode,
    /// Start after this name.
    pub start_after: Option<Name>,
    /// Number of entries at most.
    pub limit: Option<u32>,
    /// Return extended attributes too.
    pub with_xattrs: bool,
}

/// Choices of opening a file for reading.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Whether the under store is asked first.
    pub sync: SyncMode,
    /// What reading does to the cache; not given: [`ClientConfig::read_type`](crate::ClientConfig::read_type).
    pub read_type: Option<ReadType>,
}

/// What reading a file does to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadType {
    /// What had to be fetched is kept; pages stay in the tier that they are in.
    Cache,
    /// The same, and what is read again and again from a slower tier moves to the fastest one. One scan moves nothing, so this is the
    /// default: it gives a tier above to those who use it most. With one tier it does nothing.
    #[default]
    CachePromote,
    /// What had to be fetched is not kept. What is cached already is read from there, and counts as if nobody had.
    NoCache,
}

/// When a write is acknowledged, and whether it is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WriteType {
    /// Acknowledged when the under store has it, and cached.
    #[default]
    CacheThrough,
    /// The same, not cached.
    Through,
}

/// Choices of writing a file.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Replace an existing file; its old content stays readable until the new one is complete.
    pub overwrite: bool,
    /// Make missing parent directories.
    pub parents: bool,
    /// When the write is acknowledged.
    pub write_type: WriteType,
    /// Owner; empty leaves it to the masters.
    pub owner: String,
    /// Group; empty leaves it to the masters.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
    /// Size of a block; the mount's when not given.
    pub block_size: Option<ByteSize>,
    /// Size of a page; the mount's when not given.
    pub page_size: Option<ByteSize>,
    /// Modification time to set; the time of completion when not given.
    pub modified: Option<TimestampMs>,
}

/// Choices of making a directory.
#[derive(Clone, Debug)]
pub struct MakeDirectoryOptions {
    /// As `mkdir -p`: make missing parents; an existing directory is no error.
    pub parents: bool,
    /// Owner; empty leaves it to the masters.
    pub owner: String,
    /// Group; empty leaves it to the masters.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
}

/// Choices of a rename.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenameOptions {
    /// Fail when the target exists. Otherwise as POSIX rename(2).
    pub no_replace: bool,
}

/// Choices of a delete.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteOptions {
    /// Delete a directory with all below it. Without it a directory must be empty.
    pub recursive: bool,
    /// Forget the metadata and leave the under store alone; it is loaded again when asked for.
    pub namespace_only: bool,
    /// Delete only this version ([`Entry::file_id`](crate::Entry::file_id)), as the under store has it now. Something else at the path, and what
    /// is being written, is a `conflict`, and nothing else is deleted from the store.
    pub expected: Option<FileId>,
}

/// Attributes to change; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct AttributeChanges {
    /// New owner.
    pub owner: Option<String>,
    /// New group.
    pub group: Option<String>,
    /// New permission bits.
    pub mode: Option<u32>,
    /// New modification time.
    pub modified: Option<TimestampMs>,
    /// New access time.
    pub accessed: Option<TimestampMs>,
    /// Extended attributes to set.
    pub set_xattrs: Vec<Xattr>,
    /// Names of extended attributes to remove.
    pub remove_xattrs: Vec<Bytes>,
    /// Change all below a directory too.
    pub recursive: bool,
}

impl Default for CreateOptions {
    /// A new file with mode `0o644`, no replacing, no making of parents.
    fn default() -> Self {
        CreateOptions {
            overwrite: false,
            parents: false,
            write_type: WriteType::default(),
            owner: String::new(),
            group: String::new(),
            mode: 0o644,
            block_size: None,
            page_size: None,
            modified: None,
        }
    }
}

impl Default for MakeDirectoryOptions {
    /// Mode `0o755`, no making of parents.
    fn default() -> Self {
        MakeDirectoryOptions { parents: false, owner: String::new(), group: String::new(), mode: 0o755 }
    }
}

impl SyncMode {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            SyncMode::ByInterval => v1::SyncMode::ByInterval,
            SyncMode::Now => v1::SyncMode::Now,
            SyncMode::Never => v1::SyncMode::Never,
        }
        .into()
    }
}

impl WriteType {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            WriteType::CacheThrough => v1::WriteType::CacheThrough,
            WriteType::Through => v1::WriteType::Through,
        }
        .into()
    }
}
