//! Takes deleted inodes out of the trash for good.

use bytes::Bytes;

/// One inode in the trash.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TrashedName {
    /// Its directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Its name there.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Takes inodes for good that lie in the trash and have no entries, in the order given: children before their directory, as [`crate::query::trash_page`] gives
/// them. Others are left alone. With the entry's own inode the entry ends. At most [`crate::BATCH_MAX`] at once. Reply: [`crate::reply::Payload::Purged`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PurgeTrash {
    /// Which trash entry.
    #[prost(uint64, tag = "1")]
    pub trash: u64,
    /// What to take.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<TrashedName>,
}
