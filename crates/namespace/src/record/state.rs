//! What the state machine holds about itself.

use bytes::Bytes;

/// What the state machine holds about itself, written with every batch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct State {
    /// The format of all records; a newer one is refused.
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    /// The position of the last entry applied; opaque.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) position: Bytes,
    /// The greatest time that a command carried.
    #[prost(uint64, tag = "3")]
    pub(crate) log_time_ms: u64,
    /// See [`crate::command::SetClusterVersion`].
    #[prost(uint32, tag = "4")]
    pub(crate) cluster_version: u32,
    /// The last number given to each kind of thing, and how many there are now.
    #[prost(message, required, tag = "5")]
    pub(crate) counters: Counters,
    /// There may be expired sessions to take away.
    #[prost(bool, tag = "6")]
    pub(crate) sweeping: bool,
}

/// The last number given to each kind of thing, and how many there are now.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Counters {
    /// The last inode number given.
    #[prost(uint64, tag = "1")]
    pub(crate) inode_last: u64,
    /// The last write number given.
    #[prost(uint64, tag = "2")]
    pub(crate) write_last: u64,
    /// The last mount number given.
    #[prost(uint32, tag = "3")]
    pub(crate) mount_last: u32,
    /// The last intent number given.
    #[prost(uint64, tag = "4")]
    pub(crate) intent_last: u64,
    /// Inodes, those in the trash included.
    #[prost(uint64, tag = "5")]
    pub(crate) inodes: u64,
    /// Trash entries.
    #[prost(uint64, tag = "6")]
    pub(crate) trash_entries: u64,
    /// Writes, abandoned ones included.
    #[prost(uint64, tag = "7")]
    pub(crate) writes: u64,
    /// Keys of stores that are blocked.
    #[prost(uint64, tag = "8")]
    pub(crate) blocked_keys: u64,
    /// Rename intents.
    #[prost(uint64, tag = "9")]
    pub(crate) intents: u64,
}
