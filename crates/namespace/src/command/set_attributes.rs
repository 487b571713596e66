//! Changes attributes of files and directories.

use bytes::Bytes;

/// A file or directory by its place.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Target {
    /// Its directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Its name there.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// What it must be, else it is left alone.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
}

/// What to change; what is not given stays.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AttributeChanges {
    /// The new owner.
    #[prost(string, optional, tag = "1")]
    pub owner: Option<String>,
    /// The new group.
    #[prost(string, optional, tag = "2")]
    pub group: Option<String>,
    /// The new permission bits.
    #[prost(uint32, optional, tag = "3")]
    pub mode: Option<u32>,
    /// The new modification time.
    #[prost(uint64, optional, tag = "4")]
    pub modified_ms: Option<u64>,
    /// The new access time.
    #[prost(uint64, optional, tag = "5")]
    pub accessed_ms: Option<u64>,
    /// Extended attributes to set.
    #[prost(message, repeated, tag = "6")]
    pub set_xattrs: Vec<crate::record::Xattr>,
    /// Extended attributes to take away; no error when one is not there.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub remove_xattrs: Vec<Bytes>,
}

/// Changes attributes of one path, or of a batch of inodes (a part of a recursive change), at most [`crate::BATCH_MAX`].
/// Reply: [`crate::reply::Payload::Inode`] for a path, [`crate::reply::Payload::Done`] for a batch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetAttributes {
    /// Whose, in normal form; empty when there are `targets`.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Whose, in a batch.
    #[prost(message, repeated, tag = "2")]
    pub targets: Vec<Target>,
    /// What.
    #[prost(message, required, tag = "3")]
    pub changes: AttributeChanges,
}
