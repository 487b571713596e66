//! A store mounted into the tree.

use bytes::Bytes;
use std::collections::BTreeMap;

/// A sync interval that never passes.
pub const SYNC_NEVER: u64 = u64::MAX;

/// What is mounted, and how. The state machine reads `read_only` and the sizes, the rest is the master's.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MountSpec {
    /// `s3://bucket/prefix`, `file:///directory`.
    #[prost(string, tag = "1")]
    pub uri: String,
    /// Nothing below may be changed by users.
    #[prost(bool, tag = "2")]
    pub read_only: bool,
    /// How long what the store said counts as true; 0: ask always; [`SYNC_NEVER`]: never again.
    #[prost(uint64, tag = "3")]
    pub sync_interval_ms: u64,
    /// Options that are no secrets.
    #[prost(btree_map = "string, string", tag = "4")]
    pub options: BTreeMap<String, String>,
    /// Secret options, encrypted by the master; opaque here.
    #[prost(bytes = "bytes", tag = "5")]
    pub sealed_secrets: Bytes,
    /// Bytes of a block of files that are loaded or created here; 0: the default.
    #[prost(uint64, tag = "6")]
    pub block_size: u64,
    /// Bytes of a page of files that are loaded or created here; 0: the default.
    #[prost(uint32, tag = "7")]
    pub page_size: u32,
}

/// A store mounted into the tree. Its path never changes: neither a mount point nor a directory above one can be renamed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mount {
    /// From 1. Never reused.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Where it is mounted, in normal form.
    #[prost(bytes = "bytes", tag = "2")]
    pub path: Bytes,
    /// The directory at that path.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// What is mounted.
    #[prost(message, required, tag = "4")]
    pub spec: MountSpec,
    /// The log time of `AddMount`.
    #[prost(uint64, tag = "5")]
    pub created_ms: u64,
    /// Grows with each `UpdateMount`, from 1.
    #[prost(uint64, tag = "6")]
    pub revision: u64,
}
