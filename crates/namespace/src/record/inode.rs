//! A file or directory, as it lies under the key of its name.

use bytes::Bytes;
use forebay_base::InodeId;

/// Bytes of a block when nothing else is set.
pub const BLOCK_SIZE_DEFAULT: u64 = 64 << 20;
/// Bytes of a page when nothing else is set.
pub const PAGE_SIZE_DEFAULT: u32 = 1 << 20;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// An attribute that a user sets by name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Xattr {
    /// Its name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Its value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A file or directory with all its attributes. Fields that most inodes share are stored as a difference from the usual
/// value, which costs no bytes (protobuf leaves out zeros); read those through the methods.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Inode {
    /// Never reused.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Bits of `FLAG_*`.
    #[prost(uint32, tag = "2")]
    flags: u32,
    /// Bytes; 0 for a directory and for a new file that is being written.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Of the content, from 1; 0 for a directory and for a new file that is being written.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// When the content, or the entries of a directory, changed last: milliseconds since 1970-01-01 UTC.
    #[prost(uint64, tag = "5")]
    pub modified_ms: u64,
    /// Access time minus `modified_ms`.
    #[prost(sint64, tag = "6")]
    accessed_delta_ms: i64,
    /// Change time minus `modified_ms`.
    #[prost(sint64, tag = "7")]
    changed_delta_ms: i64,
    /// Who owns it; any text.
    #[prost(string, tag = "8")]
    pub owner: String,
    /// Its group; any text.
    #[prost(string, tag = "9")]
    pub group: String,
    /// Permission bits, exclusive-or the usual ones of its kind.
    #[prost(uint32, tag = "10")]
    mode_difference: u32,
    /// The under store's mark of this content; empty when it gives none.
    #[prost(string, tag = "11")]
    pub tag: String,
    /// Bytes of a block; 0 stands for [`BLOCK_SIZE_DEFAULT`].
    #[prost(uint64, tag = "12")]
    stored_block_size: u64,
    /// Bytes of a page; 0 stands for [`PAGE_SIZE_DEFAULT`].
    #[prost(uint32, tag = "13")]
    stored_page_size: u32,
    /// The write in progress; 0 when there is none.
    #[prost(uint64, tag = "14")]
    pub write: u64,
    /// The greatest version that a write in progress or an abandoned one was given, when it is greater than `version`: no other
    /// content may have it.
    #[prost(uint64, tag = "15")]
    pub reserved_version: u64,
    /// Of a directory: the mount whose root it is; 0 for others.
    #[prost(uint32, tag = "16")]
    pub mount: u32,
    /// Of a directory: grows when an entry is taken out by a user, so that an older listing of the store is known to be stale.
    #[prost(uint64, tag = "17")]
    pub generation: u64,
    /// Sorted by name.
    #[prost(message, repeated, tag = "18")]
    pub xattrs: Vec<Xattr>,
}

const FLAG_DIRECTORY: u32 = 1;
const FLAG_INCOMPLETE: u32 = 2;
const FLAG_LOADED: u32 = 4;
const FLAG_MADE: u32 = 8;

const FILE_MODE_USUAL: u32 = 0o644;
const DIRECTORY_MODE_USUAL: u32 = 0o755;

impl Inode {
    /// A new inode with all times at `now_ms`, the usual mode of its kind and nothing else.
    pub fn new(id: u64, kind: Kind, now_ms: u64) -> Inode {
        Inode {
            id,
            flags: if kind == Kind::Directory { FLAG_DIRECTORY } else { 0 },
            modified_ms: now_ms,
            ..Inode::default()
        }
    }

    /// Its identity.
    pub fn inode_id(&self) -> InodeId {
        InodeId(self.id)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        if self.is_directory() { Kind::Directory } else { Kind::File }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.flags & FLAG_DIRECTORY != 0
    }

    /// Whether it is a directory that a store is mounted on.
    pub fn is_mount_point(&self) -> bool {
        self.mount != 0
    }

    /// False for a new file that is being written and has no content yet.
    pub fn is_complete(&self) -> bool {
        self.flags & FLAG_INCOMPLETE == 0
    }

    /// Whether the under store has this content (or, for a directory, needs to know nothing).
    pub fn is_persisted(&self) -> bool {
        self.is_complete()
    }

    /// Of a directory: whether all its entries have been loaded from the under store once.
    pub fn is_loaded(&self) -> bool {
        self.flags & FLAG_LOADED != 0
    }

    /// Of a directory: whether a request made it, rather than that it was found in its store.
    pub fn is_made(&self) -> bool {
        self.flags & FLAG_MADE != 0
    }

    /// When it was read last.
    pub fn accessed_ms(&self) -> u64 {
        self.modified_ms.wrapping_add_signed(self.accessed_delta_ms)
    }

    /// When anything of it changed last.
    pub fn changed_ms(&self) -> u64 {
        self.modified_ms.wrapping_add_signed(self.changed_delta_ms)
    }

    /// Permission bits, `0o7777` at most.
    pub fn mode(&self) -> u32 {
        self.mode_difference ^ self.mode_usual()
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u64 {
        if self.stored_block_size == 0 { BLOCK_SIZE_DEFAULT } else { self.stored_block_size }
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u32 {
        if self.stored_page_size == 0 { PAGE_SIZE_DEFAULT } else { self.stored_page_size }
    }

    /// The version that the next content gets: higher than that of any other of this inode, and than `floor`.
    pub(crate) fn next_version(&self, floor: u64) -> u64 {
        self.version.max(self.reserved_version).max(floor) + 1
    }

    fn mode_usual(&self) -> u32 {
        if self.is_directory() { DIRECTORY_MODE_USUAL } else { FILE_MODE_USUAL }
    }

    fn set_flag(&mut self, flag: u32, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    pub(crate) fn set_complete(&mut self, complete: bool) {
        self.set_flag(FLAG_INCOMPLETE, !complete);
    }

    pub(crate) fn set_loaded(&mut self, loaded: bool) {
        self.set_flag(FLAG_LOADED, loaded);
    }

    pub(crate) fn set_made(&mut self) {
        self.set_flag(FLAG_MADE, true);
    }

    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.mode_difference = (mode & 0o7777) ^ self.mode_usual();
    }

    pub(crate) fn set_times(&mut self, modified_ms: u64, accessed_ms: u64, changed_ms: u64) {
        self.modified_ms = modified_ms;
        self.accessed_delta_ms = accessed_ms.wrapping_sub(modified_ms) as i64;
        self.changed_delta_ms = changed_ms.wrapping_sub(modified_ms) as i64;
    }

    pub(crate) fn set_block_size(&mut self, bytes: u64) {
        self.stored_block_size = if bytes == BLOCK_SIZE_DEFAULT { 0 } else { bytes };
    }

    pub(crate) fn set_page_size(&mut self, bytes: u32) {
        self.stored_page_size = if bytes == PAGE_SIZE_DEFAULT { 0 } else { bytes };
    }
}
