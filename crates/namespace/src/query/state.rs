//! What the state machine holds about itself.

use super::Result;
use crate::record::{Counters, RenameIntent, State};
use crate::{ApplyError, Request, keys, reply};
use bytes::Bytes;
use forebay_metastore::Read;

/// What the state machine holds about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files and directories that are stored, the root and what lies in the trash included.
    pub inodes: u64,
    /// Trash entries: deleted files and whole subtrees that are not purged yet.
    pub trash_entries: u64,
    /// Writes, abandoned ones included.
    pub writes: u64,
    /// Renames in progress that take several steps.
    pub rename_intents: u64,
    /// The greatest time that a command carried.
    pub log_time_ms: u64,
    /// The version of behaviour in force: see [`crate::versions`].
    pub cluster_version: u32,
    /// Nothing was ever made here.
    pub is_new: bool,
}

/// What the state machine holds about itself.
pub fn summary(read: &dyn Read) -> Result<Summary> {
    let state = state(read)?;
    Ok(Summary {
        is_new: state.counters == Counters::of_an_empty_tree(),
        inodes: state.counters.inodes,
        trash_entries: state.counters.trash_entries,
        writes: state.counters.writes,
        rename_intents: state.counters.intents,
        log_time_ms: state.log_time_ms,
        cluster_version: crate::versions::in_force(state.cluster_version),
    })
}

/// The position of the last entry applied in this snapshot; empty before the first.
pub fn applied_position(read: &dyn Read) -> Result<Bytes> {
    Ok(state(read)?.position)
}

fn state(read: &dyn Read) -> Result<State> {
    keys::state::get(read)?.ok_or_else(|| ApplyError::Corrupt("the state record is missing".to_owned()))
}

/// Every rename in progress that takes several steps.
pub fn rename_intents(read: &dyn Read) -> Result<Vec<RenameIntent>> {
    keys::intent::scan(read, 0).collect()
}

/// The reply that a request got, if it was answered and the reply is not forgotten.
pub fn reply_of(read: &dyn Read, request: &Request) -> Result<Option<Bytes>> {
    Ok(kept_of(read, request)?.filter(|reply| !reply::is_begun(reply)))
}

/// Whether a request has begun to change a store and was not answered: see [`crate::command::BeginRequest`].
pub fn has_begun(read: &dyn Read, request: &Request) -> Result<bool> {
    Ok(kept_of(read, request)?.is_some_and(|reply| reply::is_begun(&reply)))
}

fn kept_of(read: &dyn Read, request: &Request) -> Result<Option<Bytes>> {
    // Almost every request is new, which the session tells: it is read with each of them, the replies hardly ever.
    match keys::session::get(read, request.client)? {
        Some(session) if request.sequence <= session.sequence_max => {
            keys::reply::get(read, request.client, request.sequence)
        }
        _ => Ok(None),
    }
}
