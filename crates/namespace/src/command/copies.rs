//! What a rename in an object store has copied, and what became of it.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query;
use crate::record::{Copied, IntentPhase};
use crate::reply::{Done, Payload, Refusal};
use crate::tree;
use bytes::Bytes;
use forebay_base::{ErrorKind, InodeId};

/// Records what a rename is about to copy, or has copied: the last word on a key counts. At most [`crate::BATCH_MAX`] at once. Refused once the rename
/// is committed or being undone. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RecordCopies {
    /// Which intent.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// The objects.
    #[prost(message, repeated, tag = "2")]
    pub copies: Vec<Copied>,
}

/// Forgets what was recorded of objects. At most [`crate::BATCH_MAX`] at once. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForgetCopies {
    /// Which intent; it may have ended.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// [`Copied::key`] of each.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub keys: Vec<Bytes>,
}

/// A file whose object was copied: the same content under another mark.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Retagged {
    /// Its directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Its name there.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// The mark that it must still have.
    #[prost(string, tag = "3")]
    pub before: String,
    /// Its mark from now on.
    #[prost(string, tag = "4")]
    pub tag: String,
}

/// Gives files the marks that their objects have since a rename copied them; versions stay, since the content does. A file that is another one now
/// is left alone. At most [`crate::BATCH_MAX`] at once. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RetagFiles {
    /// The files.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<Retagged>,
}

impl RecordCopies {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.copies.len())?;
        let intent = keys::intent::get(&tx.pending, self.intent)?;
        if intent.is_none_or(|intent| intent.phase() != IntentPhase::Copying) {
            let message = format!("rename {} does not copy any more", self.intent);
            return Err(Refusal::new(ErrorKind::Conflict, message).into());
        }
        for copied in &self.copies {
            keys::copied::put(&mut tx.pending, self.intent, copied);
        }
        Ok(Payload::Done(Done {}))
    }
}

impl ForgetCopies {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.keys.len())?;
        for key in &self.keys {
            keys::copied::delete(&mut tx.pending, self.intent, key);
        }
        Ok(Payload::Done(Done {}))
    }
}

impl RetagFiles {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.files.len())?;
        for file in &self.files {
            let inode = query::lookup(&tx.pending, InodeId(file.parent), &file.name)?;
            if let Some(mut inode) = inode.filter(|inode| !inode.is_directory() && inode.tag == file.before) {
                inode.tag.clone_from(&file.tag);
                keys::inode::put(&mut tx.pending, file.parent, &file.name, &inode);
            }
        }
        Ok(Payload::Done(Done {}))
    }
}
