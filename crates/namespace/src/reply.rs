//! What a command answers: a payload, or a refusal. Kept in the state for repeated requests.

use crate::record::{Inode, Mount, RenameIntent, Write};
use bytes::Bytes;
use forebay_base::ErrorKind;
use prost::Message;

/// The answer to a command.
pub type Outcome = Result<Payload, Refusal>;

/// What a command answers when it was done.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Payload {
    /// Done, nothing to say.
    #[prost(message, tag = "2")]
    Done(Done),
    /// The inode as it is now.
    #[prost(message, tag = "3")]
    Inode(InodeReply),
    /// A write has begun.
    #[prost(message, tag = "4")]
    Created(Created),
    /// The write as it is now.
    #[prost(message, tag = "5")]
    Write(Write),
    /// Leases were renewed.
    #[prost(message, tag = "6")]
    Renewed(Renewed),
    /// Writes were given up.
    #[prost(message, tag = "7")]
    Abandoned(Abandoned),
    /// Something has another name now.
    #[prost(message, tag = "8")]
    Renamed(Renamed),
    /// The intent as it is now.
    #[prost(message, tag = "9")]
    Intent(RenameIntent),
    /// Something lies in the trash.
    #[prost(message, tag = "10")]
    Deleted(Deleted),
    /// Trash is gone for good.
    #[prost(message, tag = "11")]
    Purged(Purged),
    /// A directory was compared with its store.
    #[prost(message, tag = "12")]
    Synced(Synced),
    /// The mount as it is now, or as it was.
    #[prost(message, tag = "13")]
    Mount(Mount),
    /// The request is being carried out in a store; its reply is to come.
    #[prost(message, tag = "14")]
    Begun(Begun),
}

/// Nothing.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Done {}

/// A request that has begun and is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Begun {}

/// An inode.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InodeReply {
    /// The inode.
    #[prost(message, required, tag = "1")]
    pub inode: Inode,
    /// The mount that it lies in; 0: none.
    #[prost(uint32, tag = "2")]
    pub mount: u32,
    /// The version of its content that is gone now, if one was replaced: its pages may be dropped.
    #[prost(uint64, tag = "3")]
    pub replaced_version: u64,
}

/// A write that has begun.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Created {
    /// The file as it is visible now.
    #[prost(message, required, tag = "1")]
    pub inode: Inode,
    /// The write.
    #[prost(message, required, tag = "2")]
    pub write: Write,
    /// An earlier write of the file that was given up for this one; abort its upload.
    #[prost(message, optional, tag = "3")]
    pub abandoned: Option<Write>,
}

/// Renewed leases.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Renewed {
    /// The log time at which the leases end.
    #[prost(uint64, tag = "1")]
    pub expires_ms: u64,
    /// Those of the writes that do not exist any more.
    #[prost(uint64, repeated, tag = "2")]
    pub gone: Vec<u64>,
}

/// Writes that were given up.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Abandoned {
    /// The writes as they were; those with an upload are still to be aborted in their store, then forgotten.
    #[prost(message, repeated, tag = "1")]
    pub writes: Vec<Write>,
}

/// A rename.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Renamed {
    /// The inode under its new name.
    #[prost(message, required, tag = "1")]
    pub inode: Inode,
    /// The file that was replaced; 0 when none was.
    #[prost(uint64, tag = "2")]
    pub replaced_inode: u64,
    /// A write of the replaced file that was given up; abort its upload.
    #[prost(message, optional, tag = "3")]
    pub abandoned: Option<Write>,
}

/// A deletion.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Deleted {
    /// The trash entry: the number of the deleted inode.
    #[prost(uint64, tag = "1")]
    pub trash: u64,
    /// Whether it is a directory.
    #[prost(bool, tag = "2")]
    pub directory: bool,
    /// A write of the deleted file that was given up; abort its upload.
    #[prost(message, optional, tag = "3")]
    pub abandoned: Option<Write>,
}

/// A batch of purged trash.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Purged {
    /// Inodes that are gone for good.
    #[prost(uint64, tag = "1")]
    pub removed: u64,
    /// The trash entry is gone.
    #[prost(bool, tag = "2")]
    pub done: bool,
}

/// What became of a comparison with a store.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Synced {
    /// Entries that are new, the directory itself and its parents counted.
    #[prost(uint64, tag = "1")]
    pub added: u64,
    /// Files with new content.
    #[prost(uint64, tag = "2")]
    pub changed: u64,
    /// Entries that are gone.
    #[prost(uint64, tag = "3")]
    pub removed: u64,
    /// Entries that were left alone, since they had changed here or are being written, deleted or renamed.
    #[prost(uint64, tag = "4")]
    pub skipped: u64,
    /// Entries that already were as the store says.
    #[prost(uint64, tag = "5")]
    pub unchanged: u64,
}

/// Why a command was refused, where the kind of the error does not say it and a caller acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// The kind says it all.
    Plain = 0,
    /// A mount point, or a directory above one, cannot be moved, deleted or replaced (POSIX `EBUSY`).
    MountPoint = 1,
    /// A rename cannot leave its mount: copy and delete instead (`EXDEV`).
    CrossMount = 2,
    /// Somebody is writing the file, or one below: wait for it (`EBUSY`).
    BeingWritten = 3,
    /// Objects at or above the path are still being deleted or renamed in the store: wait for it.
    Blocked = 4,
    /// The mount is read-only (`EROFS`).
    ReadOnly = 5,
    /// A listing may be older than a removal: compare again.
    Stale = 6,
    /// The request was answered before, and its reply is forgotten since the client had it or sent too many.
    Forgotten = 7,
    /// A rename of a directory into itself.
    IntoItself = 8,
}

/// Why a command was not done. Nothing was changed by it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refusal {
    /// `ErrorKind::code`; read it by [`Refusal::error_kind`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The cause, where the kind does not say it.
    #[prost(enumeration = "Reason", tag = "2")]
    pub reason: i32,
    /// What failed, with which value.
    #[prost(string, tag = "3")]
    pub message: String,
    /// What mends it; may be empty.
    #[prost(string, tag = "4")]
    pub hint: String,
}

/// The bytes of an outcome: a refusal, or a payload.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    refusal: Option<Refusal>,
    #[prost(oneof = "Payload", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    payload: Option<Payload>,
}

/// The bytes of an outcome.
pub fn encode(outcome: Outcome) -> Bytes {
    let envelope = match outcome {
        Ok(payload) => Envelope { refusal: None, payload: Some(payload) },
        Err(refusal) => Envelope { refusal: Some(refusal), payload: None },
    };
    envelope.encode_to_vec().into()
}

/// Whether the bytes of a reply say that there is none yet.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    // The tag and length of the payload: no other reply begins like this.
    bytes.first() == Some(&(14 << 3 | 2))
}

/// The outcome in the bytes of a reply. A reply that cannot be read (from a newer version) is an internal error.
pub fn decode(bytes: &[u8]) -> Outcome {
    match Envelope::decode(bytes) {
        Ok(Envelope { refusal: Some(refusal), .. }) => Err(refusal),
        Ok(Envelope { payload: Some(payload), .. }) => Ok(payload),
        Ok(_) => Err(Refusal::new(ErrorKind::Internal, "the reply says nothing that this version can read")),
        Err(error) => Err(Refusal::new(ErrorKind::Internal, format!("the reply cannot be read: {error}"))),
    }
}

impl Refusal {
    /// A refusal whose kind says it all.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Refusal {
        Refusal { kind: kind.code(), reason: Reason::Plain as i32, message: message.into(), hint: String::new() }
    }

    /// The same with a cause that callers act on.
    pub fn because(mut self, reason: Reason) -> Refusal {
        self.reason = reason as i32;
        self
    }

    /// The same with what mends it.
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = hint.into();
        self
    }

    /// What a caller can do about it.
    pub fn error_kind(&self) -> ErrorKind {
        ErrorKind::from_code(self.kind)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
