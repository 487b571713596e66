//! Takes over what an under store says of one directory.

use bytes::Bytes;

/// One difference between the store and the directory.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SyncEntry {
    /// The entry's name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// The store has it no more; what follows but the expectations is ignored.
    #[prost(bool, tag = "2")]
    pub removed: bool,
    /// It is a directory.
    #[prost(bool, tag = "3")]
    pub directory: bool,
    /// Bytes of the file.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// When the store says that it changed.
    #[prost(uint64, tag = "5")]
    pub modified_ms: u64,
    /// The store's mark of the content; empty when it gives none.
    #[prost(string, tag = "6")]
    pub tag: String,
    /// The inode that had this name when the difference was found; 0: none had. If it is another now, nothing is done.
    #[prost(uint64, tag = "7")]
    pub expected_inode: u64,
    /// The version of that inode.
    #[prost(uint64, tag = "8")]
    pub expected_version: u64,
}

/// Takes over what an under store says of one directory, at most [`crate::BATCH_MAX`] entries, each guarded by what was there when it was compared: a
/// local change in the meantime wins. Files that are being written are left alone, as are paths whose objects are being deleted or renamed.
///
/// The proposer takes ONE snapshot before it asks the store, and gets from it both the base ([`crate::query::sync_base`]) and what it compares with. When
/// something was removed from the base since, the listing may be stale: the command fails with [`crate::reply::Reason::Stale`] and changes nothing; compare again.
/// Reply: [`crate::reply::Payload::Synced`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SyncApply {
    /// The directory, in normal form. It and missing parents are made, inside the mount.
    #[prost(bytes = "bytes", tag = "1")]
    pub directory: Bytes,
    /// The deepest directory that existed on that path in the snapshot.
    #[prost(uint64, tag = "2")]
    pub base_inode: u64,
    /// Its generation in the snapshot.
    #[prost(uint64, tag = "3")]
    pub base_generation: u64,
    /// The differences.
    #[prost(message, repeated, tag = "4")]
    pub entries: Vec<SyncEntry>,
    /// With this command all entries of the directory have been compared once.
    #[prost(bool, tag = "5")]
    pub mark_loaded: bool,
    /// Owner of what is made.
    #[prost(string, tag = "6")]
    pub owner: String,
    /// Group of what is made.
    #[prost(string, tag = "7")]
    pub group: String,
    /// Mode of files that are made; 0: 0o644.
    #[prost(uint32, tag = "8")]
    pub file_mode: u32,
    /// Mode of directories that are made; 0: 0o755.
    #[prost(uint32, tag = "9")]
    pub directory_mode: u32,
}
