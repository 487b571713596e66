//! The state of the group as metrics, for those who watch it from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::metrics::{
    APPLIED_INDEX, ELECTIONS, HAS_LEADER, IS_LEADER, LAST_INDEX, LEADER_CHANGES, MEMBER_LAG, MEMBER_SILENT, MEMBERS,
    MEMBERS_SILENT, TERM,
};
use crate::settings::Member;
use crate::status::{PeerStatus, Status};

/// Who has not been heard of for so long is called silent. Heartbeats come several times a second.
const SILENT: Duration = Duration::from_secs(1);

/// Sets the metrics from what a member knows, whenever it is shown that; counts what has changed since the last time.
#[derive(Debug, Default)]
pub struct Observer {
    term: Option<u64>,
    leader: Option<Member>,
    /// Members that were shown: those that have gone are shown no more than once, at 0.
    shown: BTreeSet<String>,
}

impl Observer {
    /// Looks at a member.
    pub fn look(&mut self, status: &Status) {
        let leads = status.leader.as_ref().is_some_and(|leader| leader.id == status.member.id);
        let index = |index: Option<u64>| index.unwrap_or(0) as f64;
        ::metrics::gauge!(TERM).set(status.term as f64);
        ::metrics::gauge!(IS_LEADER).set(f64::from(u8::from(leads)));
        ::metrics::gauge!(HAS_LEADER).set(f64::from(u8::from(status.hears_leader)));
        ::metrics::gauge!(LAST_INDEX).set(index(status.last_index));
        ::metrics::gauge!(APPLIED_INDEX).set(index(status.applied_index));
        ::metrics::gauge!(MEMBERS).set(status.members.len() as f64);
        self.count(status);
        self.show_members(status, leads);
    }

    /// What began before this member did is none of its counts.
    fn count(&mut self, status: &Status) {
        if let Some(before) = self.term.replace(status.term) {
            ::metrics::counter!(ELECTIONS).increment(status.term.saturating_sub(before));
        }
        if let Some(leader) = &status.leader
            && let Some(before) = self.leader.replace(leader.clone())
            && before.id != leader.id
        {
            ::metrics::counter!(LEADER_CHANGES).increment(1);
        }
    }

    fn show_members(&mut self, status: &Status, leads: bool) {
        let own = &status.member;
        let silent = status.peers.iter().filter(|peer| leads && peer.is_silent(own));
        ::metrics::gauge!(MEMBERS_SILENT).set(silent.count() as f64);
        let mut gone = std::mem::take(&mut self.shown);
        for peer in &status.peers {
            let (lag, silent) = if leads { seen(peer, status) } else { (0, Duration::ZERO) };
            show(&peer.member.address, lag, silent);
            gone.remove(&peer.member.address);
            self.shown.insert(peer.member.address.clone());
        }
        gone.iter().for_each(|address| show(address, 0, Duration::ZERO));
    }
}

/// How many entries a member is behind, and how long it has said nothing.
fn seen(peer: &PeerStatus, status: &Status) -> (u64, Duration) {
    if peer.member.id == status.member.id {
        return (0, Duration::ZERO);
    }
    let after = |index: Option<u64>| index.map_or(0, |index| index + 1);
    let lag = after(status.last_index).saturating_sub(after(peer.matched_index));
    (lag, peer.silent.unwrap_or_default())
}

fn show(address: &str, lag: u64, silent: Duration) {
    ::metrics::gauge!(MEMBER_LAG, "member" => address.to_owned()).set(lag as f64);
    ::metrics::gauge!(MEMBER_SILENT, "member" => address.to_owned()).set(silent.as_secs_f64());
}

impl PeerStatus {
    /// Whether nothing is heard from this one, as `own` sees it. Who begins to lead has heard nobody yet: then calls that fail say it.
    pub fn is_silent(&self, own: &Member) -> bool {
        self.member.id != own.id && self.silent.map_or(self.trouble.is_some(), |silent| silent >= SILENT)
    }
}
