//! Who belongs to the group, as it is stored: in log records, beside the state machine's data, in snapshots (JSON).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{BasicNode, Membership, StoredMembership};
use serde::{Deserialize, Serialize};

use crate::log::Position;
use crate::raft_types::{LeaderTerm, LogId, log_id, position};

/// The members from some entry of the log on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// Those who vote; two sets while one replaces the other, and then a majority of each is needed.
    voters: Vec<BTreeSet<u64>>,
    /// Everybody's address, also of those who only listen.
    addresses: BTreeMap<u64, String>,
}

impl Members {
    /// As openraft has it.
    pub(crate) fn of(membership: &Membership<u64, BasicNode>) -> Members {
        let addresses = membership.nodes().map(|(id, node)| (*id, node.addr.clone()));
        Members { voters: membership.get_joint_config().clone(), addresses: addresses.collect() }
    }

    /// As openraft wants it. The error says what does not fit together.
    pub(crate) fn membership(&self) -> Result<Membership<u64, BasicNode>, String> {
        if self.voters.is_empty() && self.addresses.is_empty() {
            return Ok(Membership::default());
        }
        let nodes = self.addresses.iter().map(|(id, addr)| (*id, BasicNode::new(addr)));
        let nodes: BTreeMap<u64, BasicNode> = nodes.collect();
        Membership::new(self.voters.clone(), nodes).map_err(|e| e.to_string())
    }

    /// The bytes of the payload of a record.
    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers and strings always serialize").into()
    }

    /// Reads what [`Members::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Members, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("the members are not readable: {e}"))
    }
}

/// How far a state machine is: the blob of [`crate::Batch::applied`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// Of the last applied entry.
    term: u64,
    index: u64,
    /// The members at that entry, and where they were decided.
    members: Members,
    members_at: Option<(u64, u64)>,
}

impl Applied {
    /// From openraft's view.
    pub(crate) fn of(last: LogId, members: &StoredMembership<LeaderTerm, u64, BasicNode>) -> Applied {
        let last = position(last);
        Applied {
            term: last.term,
            index: last.index,
            members: Members::of(members.membership()),
            members_at: members.log_id().map(|id| (position(id).term, id.index)),
        }
    }

    /// The last applied entry.
    pub(crate) fn last(&self) -> LogId {
        log_id(Position { term: self.term, index: self.index })
    }

    /// The members at that entry.
    pub(crate) fn membership(&self) -> Result<StoredMembership<LeaderTerm, u64, BasicNode>, String> {
        let at = self.members_at.map(|(term, index)| log_id(Position { term, index }));
        Ok(StoredMembership::new(at, self.members.membership()?))
    }

    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers and strings always serialize").into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Applied, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("the applied position is not readable: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_return_as_they_were() {
        for membership in [
            Membership::default(),
            Membership::new_with_defaults(vec![BTreeSet::from([1])], []),
            Membership::new_with_defaults(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], [9]),
        ] {
            let bytes = Members::of(&membership).encode();
            assert_eq!(Members::decode(&bytes).unwrap().membership().unwrap(), membership);
        }
    }
}
