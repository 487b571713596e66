//! The group of masters.

use crate::error::Result;
use forebay_proto::v1;

/// All masters, as the one that leads sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterGroup {
    /// Who belongs to the group.
    pub masters: Vec<MasterMember>,
    /// Grows with each leader.
    pub term: u64,
    /// The last entry of the leader's log.
    pub last_index: u64,
    /// Up to where the leader's state is known to be durable; 0 before its first flush.
    pub flushed_index: u64,
    /// The address of the master that says so.
    pub seen_by: String,
    /// Why it need not be so any more: who says so does not lead for certain. Empty when it does.
    pub doubt: String,
    /// The version of the cluster's behaviour, as the one that says so has applied it; 0 from a release that knows no such versions.
    pub cluster_version: u32,
}

/// One master of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterMember {
    /// Who.
    pub id: u64,
    /// `host:port`.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it has a vote; without, it is on its way in.
    pub votes: bool,
    /// The last entry that is known to be on its disk.
    pub matched_index: Option<u64>,
    /// Since when it has confirmed nothing.
    pub silent_ms: Option<u64>,
    /// What went wrong with it last, unless it works now.
    pub trouble: String,
    /// The release of its program; empty where it is not known.
    pub release: String,
    /// The oldest and the newest version of the cluster's behaviour that its program knows, where that is known.
    pub versions: Option<(u32, u32)>,
}

/// How one master fared that was asked to make its state durable.
#[derive(Clone, Debug)]
pub struct MasterSnapshot {
    /// `host:port`.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// The last entry of the log that its state has on disk now, or why it has not done it.
    pub flushed_index: Result<u64>,
}

impl From<v1::MasterMember> for MasterMember {
    fn from(member: v1::MasterMember) -> MasterMember {
        let v1::MasterMember {
            id,
            address,
            leader,
            votes,
            matched_index,
            silent_ms,
            trouble,
            release,
            version_oldest,
            version_newest,
        } = member;
        let versions = (version_newest > 0).then_some((version_oldest, version_newest));
        MasterMember { id, address, leader, votes, matched_index, silent_ms, trouble, release, versions }
    }
}

impl From<v1::ListMastersReply> for MasterGroup {
    fn from(reply: v1::ListMastersReply) -> MasterGroup {
        MasterGroup {
            masters: reply.masters.into_iter().map(MasterMember::from).collect(),
            term: reply.term,
            last_index: reply.last_index,
            flushed_index: reply.flushed_index,
            seen_by: reply.seen_by,
            doubt: reply.doubt,
            cluster_version: reply.cluster_version,
        }
    }
}
