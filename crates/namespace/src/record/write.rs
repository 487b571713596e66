//! A write in progress.

use bytes::Bytes;

/// When a write is acknowledged, and where its bytes stay. The numbers are those of the protocol's `WriteType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum WriteType {
    /// Acknowledged when the under store has it, and cached.
    CacheThrough = 0,
    /// The same, not cached.
    Through = 1,
}

/// A file that somebody is writing, from `CreateFile` until it is completed or forgotten.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Write {
    /// Names this write. Never reused.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The directory of the file.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// The name of the file in it.
    #[prost(bytes = "bytes", tag = "3")]
    pub name: Bytes,
    /// The file.
    #[prost(uint64, tag = "4")]
    pub inode: u64,
    /// The version that the content gets. No other write ever has the same.
    #[prost(uint64, tag = "5")]
    pub version: u64,
    /// The mount that the object goes to; 0 when there is none.
    #[prost(uint32, tag = "6")]
    pub mount: u32,
    /// The object's key, relative to the mount's root. Fixed: a file cannot be renamed while it is written.
    #[prost(bytes = "bytes", tag = "7")]
    pub key: Bytes,
    /// The log time at which the write may be given up unless it is renewed.
    #[prost(uint64, tag = "8")]
    pub expires_ms: u64,
    /// The store's mark of the content that is replaced; empty when there was none, or the store gives none.
    #[prost(string, tag = "9")]
    pub base_tag: String,
    /// Whether complete content is replaced (then its version is `base_version`).
    #[prost(bool, tag = "10")]
    pub replaces: bool,
    /// The version that is replaced; 0 for a new file.
    #[prost(uint64, tag = "11")]
    pub base_version: u64,
    /// The multipart upload in the store; empty before it has begun.
    #[prost(string, tag = "12")]
    pub upload: String,
    /// Bytes of a block of the new content.
    #[prost(uint64, tag = "13")]
    pub block_size: u64,
    /// Bytes of a page of the new content.
    #[prost(uint32, tag = "14")]
    pub page_size: u32,
    /// When it is acknowledged, and where its bytes stay.
    #[prost(enumeration = "WriteType", tag = "15")]
    pub write_type: i32,
    /// Given up: the file knows nothing of it any more, only the upload is still to be aborted (then `ForgetWrites`).
    #[prost(bool, tag = "16")]
    pub abandoned: bool,
    /// The log time of its `CreateFile`.
    #[prost(uint64, tag = "17")]
    pub started_ms: u64,
}

impl Write {
    /// Whether its lease has ended and it is not given up yet.
    pub fn has_expired(&self, log_time_ms: u64) -> bool {
        !self.abandoned && self.expires_ms <= log_time_ms
    }
}
