//! Who belongs to the group, as it is stored: in log records, beside the state machine's data, in snapshots (JSON).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{Membership, StoredMembership};
use serde::{Deserialize, Serialize};

use crate::log::Position;
use crate::raft_types::{LeaderTerm, LogId, Peer, log_id, position};

/// The members from some entry of the log on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// Those who vote; two sets while one replaces the other, and then a majority of each is needed.
    voters: Vec<BTreeSet<u64>>,
    /// Everybody's address, also of those who only listen.
    addresses: BTreeMap<u64, String>,
    /// Which directory of each belongs to the group; none of a group of one that an older release made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    incarnations: BTreeMap<u64, u64>,
}

impl Members {
    /// As openraft has it.
    pub(crate) fn of(membership: &Membership<u64, Peer>) -> Members {
        let addresses = membership.nodes().map(|(id, peer)| (*id, peer.address.clone()));
        let known = membership.nodes().filter(|(_, peer)| peer.incarnation != 0);
        Members {
            voters: membership.get_joint_config().clone(),
            addresses: addresses.collect(),
            incarnations: known.map(|(id, peer)| (*id, peer.incarnation)).collect(),
        }
    }

    /// As openraft wants it. The error says what does not fit together.
    pub(crate) fn membership(&self) -> Result<Membership<u64, Peer>, String> {
        if self.voters.is_empty() && self.addresses.is_empty() {
            return Ok(Membership::default());
        }
        let peer = |(id, address): (&u64, &String)| {
            let incarnation = self.incarnations.get(id).copied().unwrap_or_default();
            (*id, Peer { address: address.clone(), incarnation })
        };
        let nodes = self.addresses.iter().map(peer);
        let nodes: BTreeMap<u64, Peer> = nodes.collect();
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
    pub(crate) fn of(last: LogId, members: &StoredMembership<LeaderTerm, u64, Peer>) -> Applied {
        let last = position(last);
        Applied {
            term: last.term,
            index: last.index,
            members: Members::of(members.membership()),
            members_at: members.log_id().map(|id| (position(id).term, id.index)),
        }
    }

    /// At `last`, with these members, who all vote: identifiers, addresses, incarnations.
    pub(crate) fn alone(last: Position, members: BTreeMap<u64, (String, u64)>) -> Applied {
        Applied {
            term: last.term,
            index: last.index,
            members: Members {
                voters: vec![members.keys().copied().collect()],
                addresses: members.iter().map(|(id, (address, _))| (*id, address.clone())).collect(),
                incarnations: members.iter().map(|(id, (_, incarnation))| (*id, *incarnation)).collect(),
            },
            members_at: Some((last.term, last.index)),
        }
    }

    /// The last applied entry.
    pub(crate) fn last(&self) -> LogId {
        log_id(Position { term: self.term, index: self.index })
    }

    /// The members at that entry.
    pub(crate) fn membership(&self) -> Result<StoredMembership<LeaderTerm, u64, Peer>, String> {
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

/// The index of the last applied entry, of which [`crate::Batch::applied`] tells; none in bytes that are something else.
pub fn applied_index(blob: &[u8]) -> Option<u64> {
    Applied::decode(blob).ok().map(|applied| applied.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_tells_its_index() {
        let blob = Applied::of(log_id(Position { term: 3, index: 77 }), &StoredMembership::default()).encode();
        assert_eq!((applied_index(&blob), applied_index(b"else")), (Some(77), None));
    }

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
