//! Renames a file or directory.

use bytes::Bytes;

/// Renames a file or directory by the rules of POSIX `rename(2)`, at once, however much lies below.
/// A mount point, a directory above one, and a file or directory with a write going on at or below it are refused, and so is leaving the mount.
/// Reply: [`crate::reply::Payload::Renamed`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Rename {
    /// What, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub from: Bytes,
    /// Its new path, in normal form.
    #[prost(bytes = "bytes", tag = "2")]
    pub to: Bytes,
    /// Fail when the target exists.
    #[prost(bool, tag = "3")]
    pub no_replace: bool,
    /// For a file: the store's mark of the object at its new place; empty: as before. The content, and so the version, is the same.
    #[prost(string, tag = "4")]
    pub tag: String,
    /// For a file: its modification time in the store at the new place; 0: as before.
    #[prost(uint64, tag = "5")]
    pub modified_ms: u64,
}
