//! What the state machine holds about itself.

use super::Result;
use crate::record::{RenameIntent, State};
use crate::{ApplyError, Request, keys};
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
    /// See [`crate::command::SetClusterVersion`].
    pub cluster_version: u32,
}

/// What the state machine holds about itself.
pub fn summary(read: &dyn Read) -> Result<Summary> {
    let state = state(read)?;
    Ok(Summary {
        inodes: state.counters.inodes,
        trash_entries: state.counters.trash_entries,
        writes: state.counters.writes,
        rename_intents: state.counters.intents,
        log_time_ms: state.log_time_ms,
        cluster_version: state.cluster_version,
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
    // Almost every request is new, which the session tells: it is read with each of them, the replies hardly ever.
    match keys::session::get(read, request.client)? {
        Some(session) if request.sequence <= session.sequence_max => {
            keys::reply::get(read, request.client, request.sequence)
        }
        _ => Ok(None),
    }
}
