//! The begin of a log over a state machine that has a state already: one that was restored from a copy.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::consensus::Consensus;
use crate::error::OpenError;
use crate::log::{OsDisk, Position, identify, no_log_in};
use crate::members::Applied;
use crate::settings::Member;

/// Where a state machine is, as [`crate::Batch::applied`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedAt {
    /// The term of the last applied entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

impl AppliedAt {
    /// Reads the blob of a state machine. The error says what is wrong with it.
    pub fn read(applied: &[u8]) -> Result<AppliedAt, String> {
        let last = Applied::decode(applied)?.last();
        Ok(AppliedAt { term: last.leader_id.term, index: last.index })
    }
}

impl Consensus {
    /// Makes `dir`, in which there is no log yet, that of a new group of one, whose log begins after the entry `index`. Returns the blob that the
    /// state machine must have then ([`crate::Batch::applied`]). The group has a number of its own, so that members of the one that the state is
    /// from do not take this for theirs, and whoever joins it gets the state first: the log has nothing of it.
    pub fn begin_after(dir: &Path, member: &Member, index: u64) -> Result<Bytes, OpenError> {
        no_log_in(dir)?;
        let identity = identify(&OsDisk, dir, member.id)?;
        // Of term 0, as the first entry of any group: its first leader has term 1.
        let last = Position { term: 0, index };
        let peers = BTreeMap::from([(member.id.0, (member.address.clone(), identity.incarnation))]);
        Ok(Applied::alone(last, peers).encode())
    }
}
