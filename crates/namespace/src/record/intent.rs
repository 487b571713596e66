//! Work in a store that takes several steps and must be resumed or undone after a crash.

use bytes::Bytes;

/// How far a rename has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum IntentPhase {
    /// Objects are being copied to the target; the namespace shows the source.
    Copying = 0,
    /// The namespace shows the target; the source's objects are still to be deleted. Can only go on.
    Cleaning = 1,
    /// It failed, and its client may know: the copies are to be deleted. Can only be undone.
    Undoing = 2,
}

/// A rename that the store cannot do in one step. While it exists, sync loads nothing at or below either key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenameIntent {
    /// Names the intent. Never reused.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The path that is renamed.
    #[prost(bytes = "bytes", tag = "2")]
    pub from: Bytes,
    /// Its new path.
    #[prost(bytes = "bytes", tag = "3")]
    pub to: Bytes,
    /// Fail rather than replace a target.
    #[prost(bool, tag = "4")]
    pub no_replace: bool,
    /// The mount that both lie in.
    #[prost(uint32, tag = "5")]
    pub mount: u32,
    /// The source's key in the store.
    #[prost(bytes = "bytes", tag = "6")]
    pub from_key: Bytes,
    /// The target's key in the store.
    #[prost(bytes = "bytes", tag = "7")]
    pub to_key: Bytes,
    /// The inode that is renamed.
    #[prost(uint64, tag = "8")]
    pub inode: u64,
    /// How far it has come.
    #[prost(enumeration = "IntentPhase", tag = "9")]
    pub phase: i32,
    /// The log time of its begin.
    #[prost(uint64, tag = "10")]
    pub started_ms: u64,
    /// The client whose request this serves, and the request's sequence number: a retry of it waits for this intent.
    #[prost(fixed64, tag = "11")]
    pub client: u64,
    /// See `client`.
    #[prost(uint64, tag = "12")]
    pub sequence: u64,
    /// Whether the source is a directory.
    #[prost(bool, tag = "13")]
    pub directory: bool,
    /// Of a file: the version that is renamed, and its bytes.
    #[prost(string, tag = "14")]
    pub source_tag: String,
    /// See `source_tag`.
    #[prost(uint64, tag = "15")]
    pub source_length: u64,
    /// Whether something had the target's name at the begin.
    #[prost(bool, tag = "16")]
    pub replaces: bool,
    /// Of a file that had it: its version.
    #[prost(string, tag = "17")]
    pub replaced_tag: String,
}

/// An object that a rename copies, so that the rename deletes just what it copied, and an undone one just what it wrote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Copied {
    /// Its key below the renamed one; with a slash at the end for the mark of a directory. Empty for the renamed file, and for an object that marks
    /// the renamed directory by its bare name.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The version that was copied; empty for a mark that the source did not have.
    #[prost(string, tag = "2")]
    pub source_tag: String,
    /// The version that this gave at the target; empty while that is not known.
    #[prost(string, tag = "3")]
    pub target_tag: String,
}
