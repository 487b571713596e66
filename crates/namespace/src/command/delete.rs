//! Deletes a file or directory.

use bytes::Bytes;

/// Deletes a file or directory: one step into the trash, however much lies below. Mount points, and directories with one below, are refused.
/// Reply: [`crate::reply::Payload::Deleted`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Delete {
    /// What, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Without it a directory must be empty.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Forget the metadata and leave the store alone.
    #[prost(bool, tag = "3")]
    pub namespace_only: bool,
}
