//! What was deleted and is not purged yet, and the keys of stores that may not be loaded meanwhile.

use bytes::Bytes;

/// A deleted file or directory with all that lay below it, until it is purged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TrashEntry {
    /// The deleted inode, which also names the entry: it lies in the directory [`crate::TRASH`] under this number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The mount that it lay in; 0 when it lay in none.
    #[prost(uint32, tag = "2")]
    pub mount: u32,
    /// Its key in that mount's store.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// Whether its objects are to be deleted from the store. Until that is done the key is blocked.
    #[prost(bool, tag = "4")]
    pub purge_store: bool,
    /// The log time of the deletion.
    #[prost(uint64, tag = "5")]
    pub deleted_ms: u64,
    /// It was being written when it was deleted: the store may have the new content, under a mark that nobody knew yet.
    #[prost(bool, tag = "6")]
    pub was_being_written: bool,
    /// Of a file: another version than the deleted one stays in the store, also one that was there at the time.
    #[prost(bool, tag = "7")]
    pub only_version: bool,
    /// How far the walk over its objects is, where that was noted: see [`crate::command::NotePurge`].
    #[prost(message, optional, tag = "8")]
    pub purged_to: Option<PurgePlace>,
}

/// A place in the walk over the objects of a deleted directory. All that comes before it is done with.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PurgePlace {
    /// The directory that the walk is in, below the key of the deleted one, without a leading slash; empty: that one itself.
    #[prost(bytes = "bytes", tag = "1")]
    pub directory: Bytes,
    /// What it has come past there: a name, with a slash at the end when it is a directory; empty: nothing.
    #[prost(bytes = "bytes", tag = "2")]
    pub after: Bytes,
}

/// Why a key of a store may not be loaded or created for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// Objects at and below it are being deleted: the number of a [`TrashEntry`].
    Trash(u64),
    /// It is the source or target of a rename in progress: the number of a [`crate::record::RenameIntent`].
    Rename(u64),
}

/// All that block one key of one store.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Blockers {
    /// Numbers of [`TrashEntry`]s.
    #[prost(uint64, repeated, tag = "1")]
    pub trash: Vec<u64>,
    /// Numbers of [`crate::record::RenameIntent`]s.
    #[prost(uint64, repeated, tag = "2")]
    pub renames: Vec<u64>,
}
