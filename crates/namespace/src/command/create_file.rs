//! Starts the writing of a file.

use bytes::Bytes;

/// Starts the writing of a file. A new file is visible with length 0 and not complete; an existing one keeps its content until the write is completed.
/// An earlier write of the same file that is still going on is abandoned when `overwrite` is set: the last creator wins.
/// Reply: [`crate::reply::Payload::Created`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateFile {
    /// Where, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Replace an existing file; otherwise it is an error.
    #[prost(bool, tag = "2")]
    pub overwrite: bool,
    /// Make missing parent directories, with the same owner and group and the usual mode.
    #[prost(bool, tag = "3")]
    pub parents: bool,
    /// Who owns what is made.
    #[prost(string, tag = "4")]
    pub owner: String,
    /// Its group.
    #[prost(string, tag = "5")]
    pub group: String,
    /// Permission bits, `0o7777` at most.
    #[prost(uint32, tag = "6")]
    pub mode: u32,
    /// Bytes of a block; 0: the mount's. A multiple of the page size.
    #[prost(uint64, tag = "7")]
    pub block_size: u64,
    /// Bytes of a page, a power of two; 0: the mount's.
    #[prost(uint32, tag = "8")]
    pub page_size: u32,
    /// When it is acknowledged, and where its bytes stay.
    #[prost(enumeration = "crate::record::WriteType", tag = "9")]
    pub write_type: i32,
    /// How long the write lives by log time unless renewed.
    #[prost(uint64, tag = "10")]
    pub lease_ms: u64,
}
