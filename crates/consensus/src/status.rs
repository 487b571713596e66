//! What a member knows, for those who look.

use std::time::Duration;

use crate::consensus::{Consensus, leader_in, member};
use crate::runtime::since;
use crate::settings::{Member, MemberId};
use crate::start::metrics_of;

/// What a member knows about itself and the group.
#[derive(Clone, Debug)]
pub struct Status {
    /// This member.
    pub member: Member,
    /// The current leader, when known.
    pub leader: Option<Member>,
    /// When this member last took something from a leader; `None` if it never has in this run. A leader takes nothing from itself.
    pub leader_heard: Option<Duration>,
    /// This member leads, or has taken something from a leader so lately that there is no reason to doubt it. One that was removed or replaced is told
    /// nothing any more, not even that.
    pub hears_leader: bool,
    /// All members, this one included.
    pub members: Vec<Member>,
    /// More about each of them.
    pub peers: Vec<PeerStatus>,
    /// What a new member waits for, when it belongs to no group yet.
    pub waiting: Option<String>,
    /// The current term.
    pub term: u64,
    /// Index of the last entry in this member's log.
    pub last_index: Option<u64>,
    /// Index of the last entry applied here.
    pub applied_index: Option<u64>,
    /// Index up to which the state machine is known to be durable, so that the log may forget; `None` before the first flush of this run.
    pub flushed_index: Option<u64>,
    /// Syncs of the log since the start; one makes many entries durable (group commit).
    pub log_syncs: u64,
}

/// What a member knows about one of the group.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who.
    pub member: Member,
    /// It has a vote; without, it only gets the log, as on its way in.
    pub votes: bool,
    /// The last entry that it is known to have on disk; the leader knows.
    pub matched_index: Option<u64>,
    /// Since when it has confirmed nothing; the leader knows of the others.
    pub silent: Option<Duration>,
    /// What went wrong with it last, unless it works now.
    pub trouble: Option<String>,
}

impl Consensus {
    /// What this member knows now.
    pub fn status(&self) -> Status {
        let metrics = metrics_of(&self.raft);
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let peers = metrics.membership_config.nodes().map(|(id, peer)| PeerStatus {
            member: member(*id, &peer.address),
            votes: voters.contains(id),
            matched_index: metrics.replication.as_ref().and_then(|all| all.get(id)?.map(|at| at.index)),
            silent: metrics.heartbeat.as_ref().and_then(|all| all.get(id).copied()?.map(|at| since(&*at))),
            trouble: self.peers.trouble(MemberId(*id)),
        });
        let peers: Vec<PeerStatus> = peers.collect();
        let leader_heard = self.listener.heard.lock().map(|at| at.elapsed());
        Status {
            member: self.settings.member.clone(),
            leader: leader_in(&metrics),
            leader_heard,
            hears_leader: metrics.state.is_leader() || leader_heard.is_some_and(|ago| ago < 2 * self.settings.lease()),
            members: peers.iter().map(|peer| peer.member.clone()).collect(),
            waiting: self.waiting.lock().clone().filter(|_| peers.is_empty()),
            peers,
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|id| id.index),
            flushed_index: self.flusher.flushed_index(),
            log_syncs: self.log.syncs(),
        }
    }
}
