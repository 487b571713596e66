//! Mounts a store.

use bytes::Bytes;

/// Mounts a store on a path, which must be missing or an empty directory, and not the root. Missing parents are made.
/// Reply: [`crate::reply::Payload::Mount`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AddMount {
    /// Where, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// What.
    #[prost(message, required, tag = "2")]
    pub spec: crate::record::MountSpec,
    /// Owner of the mount point, when it is made.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// Group of the mount point, when it is made.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Mode of the mount point, when it is made.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
}
