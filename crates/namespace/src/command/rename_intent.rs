//! A rename that the store cannot do in one step, in three commands.

use bytes::Bytes;

/// Checks that a rename could be done now, and records it so that it can be resumed or undone after a crash. Nothing is loaded from the store at or below
/// either path until the intent ends. Reply: [`crate::reply::Payload::Intent`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BeginRename {
    /// What, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub from: Bytes,
    /// Its new path, in normal form.
    #[prost(bytes = "bytes", tag = "2")]
    pub to: Bytes,
    /// Fail when the target exists.
    #[prost(bool, tag = "3")]
    pub no_replace: bool,
    /// The client whose request this serves; the request id itself goes with [`CommitRename`].
    #[prost(fixed64, tag = "4")]
    pub client: u64,
    /// The sequence of that request.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
}

/// Renames in the namespace, once the copies are complete; the source's objects are then deleted. When it fails, the intent stays as it was, to be undone.
/// Reply: [`crate::reply::Payload::Renamed`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CommitRename {
    /// Which intent.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// See [`super::Rename`].
    #[prost(string, tag = "2")]
    pub tag: String,
    /// See [`super::Rename`].
    #[prost(uint64, tag = "3")]
    pub modified_ms: u64,
}

/// Ends an intent: the source's objects are deleted, or, of an intent that was not committed, the copies.
/// No error when it has ended already. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct EndRename {
    /// Which intent.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
}
