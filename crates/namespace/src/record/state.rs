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
    /// New content gets a higher version than this: a restored state has it so high that no content from after the backup had more.
    #[prost(uint64, tag = "7")]
    pub(crate) version_floor: u64,
}

impl State {
    /// Without what moves when nothing changes: how far the log is, its time, and what follows from it.
    pub(crate) fn without_position(&self) -> State {
        State { position: Bytes::new(), log_time_ms: 0, sweeping: false, ..self.clone() }
    }
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

/// Inode numbers up to this one are the root's, the trash's and kept for later.
const INODE_RESERVED_LAST: u64 = 15;

impl Counters {
    /// Of a tree of nothing but `/`, in which there was never anything else.
    pub(crate) fn of_an_empty_tree() -> Counters {
        Counters { inode_last: INODE_RESERVED_LAST, inodes: 1, ..Counters::default() }
    }
}
