//! A rename that the store cannot do in one step: begun, then committed or undone, then ended.

use crate::command::rename::Checked;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::record::{Blocker, IntentPhase, RenameIntent};
use crate::reply::{Done, Payload, Reason, Refusal};
use crate::tree;
use bytes::Bytes;
use forebay_base::ErrorKind;

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

/// Gives a rename up that was not committed: from now on it can only be undone, also after a crash. No error when it is being undone already.
/// Reply: [`crate::reply::Payload::Intent`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UndoRename {
    /// Which intent.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
}

/// Ends an intent: the source's objects are deleted, or, of an intent that was not committed, the copies.
/// No error when it has ended already. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct EndRename {
    /// Which intent.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
}

impl BeginRename {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let rename = Checked::new(tx, &self.from, &self.to, self.no_replace)?;
        let intent = self.intent(tx, &rename)?;
        for key in [&intent.from_key, &intent.to_key] {
            let blocker = Blocker::Rename(intent.id);
            tx.state.counters.blocked_keys += keys::blocker::add(&mut tx.pending, intent.mount, key, blocker)?;
        }
        tx.state.counters.intents += 1;
        keys::intent::put(&mut tx.pending, &intent);
        Ok(Payload::Intent(intent))
    }

    fn intent(&self, tx: &mut Tx, rename: &Checked) -> Result<RenameIntent, Stop> {
        let (from, to) = (&rename.from, &rename.to);
        if rename.is_same() || from.mount.is_none() {
            let message = format!("renaming {} to {} takes no steps in a store", from.path, to.path);
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
        }
        let inode = &from.existing()?.inode;
        tx.state.counters.intent_last += 1;
        Ok(RenameIntent {
            id: tx.state.counters.intent_last,
            from: from.path.to_bytes(),
            to: to.path.to_bytes(),
            no_replace: self.no_replace,
            mount: from.mount_number(),
            from_key: from.key.clone(),
            to_key: to.key.clone(),
            inode: inode.id,
            phase: IntentPhase::Copying as i32,
            started_ms: tx.now_ms(),
            client: self.client,
            sequence: self.sequence,
            directory: inode.is_directory(),
            source_tag: inode.tag.clone(),
            source_length: inode.length,
            replaces: to.found().is_some(),
            replaced_tag: to.found().map(|step| step.inode.tag.clone()).unwrap_or_default(),
        })
    }
}

impl CommitRename {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let mut intent = keys::intent::get(&tx.pending, self.intent)?
            .filter(|intent| intent.phase() == IntentPhase::Copying)
            .ok_or_else(|| not_copying(self.intent))?;
        // The intent's own blockers are taken off first; others stay in the way.
        tree::unblock(tx, &intent)?;
        let rename = Checked::new(tx, &intent.from, &intent.to, intent.no_replace)?;
        if rename.from.existing()?.inode.id != intent.inode {
            let message = format!("{} is another file or directory now", rename.from.path);
            return Err(Refusal::new(ErrorKind::Conflict, message).into());
        }
        let renamed = rename.carry_out(tx, &self.tag, self.modified_ms)?;
        intent.set_phase(IntentPhase::Cleaning);
        keys::intent::put(&mut tx.pending, &intent);
        let blocker = Blocker::Rename(intent.id);
        let blocked = keys::blocker::add(&mut tx.pending, intent.mount, &intent.from_key, blocker)?;
        tx.state.counters.blocked_keys += blocked;
        Ok(Payload::Renamed(renamed))
    }
}

fn not_copying(intent: u64) -> Refusal {
    let message = format!("rename {intent} has been committed, given up or ended already");
    Refusal::new(ErrorKind::Conflict, message).because(Reason::Plain)
}

impl UndoRename {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let mut intent = keys::intent::get(&tx.pending, self.intent)?
            .filter(|intent| intent.phase() != IntentPhase::Cleaning)
            .ok_or_else(|| not_copying(self.intent))?;
        if intent.phase() == IntentPhase::Copying {
            intent.set_phase(IntentPhase::Undoing);
            keys::intent::put(&mut tx.pending, &intent);
        }
        Ok(Payload::Intent(intent))
    }
}

impl EndRename {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        if let Some(intent) = keys::intent::get(&tx.pending, self.intent)? {
            tree::end_intent(tx, &intent)?;
        }
        Ok(Payload::Done(Done {}))
    }
}
