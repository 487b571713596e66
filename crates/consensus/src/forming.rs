//! How members that were given the same list become a group, once.
//!
//! The one with the lowest identifier founds it: it draws the group's number and writes it down, asks every other member to promise itself to
//! that number (which that one writes down, too), and puts the directories that they have into the first entry of the log. A member gives
//! its promise only with an empty log and the same list, and never twice. So there is one founder for a list, one group for a directory, and
//! a founder that lost its directory finds that the others belong to a group already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::OpenError;
use crate::log::{Log, new_number};
use crate::messages::{Answer, Ask, Identified, Identify, Named};
use crate::network::{CallError, Peers};
use crate::raft_types::Peer;
use crate::runtime::{sleep, spawn_blocking};
use crate::settings::{Member, MemberId};
use crate::start::{Engine, refused};

/// How long one member has for its answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// What a new member waits for, for who asks.
pub(crate) type Waiting = Arc<Mutex<Option<String>>>;

/// The member of the list that founds the group.
pub(crate) fn founder(members: &[Member]) -> Option<MemberId> {
    members.iter().map(|member| member.id).min()
}

/// Makes sure that this member belongs to some group; one that is alone, or founds one, draws its number.
pub(crate) async fn group_of(log: &Arc<Log>) -> Result<u64, OpenError> {
    let log = log.clone();
    let stored = spawn_blocking(move || log.belong_to(new_number())).await;
    stored.map_err(refused)?.map_err(|e| refused(format!("cannot store the group: {e}")))
}

/// What a founder needs.
pub(crate) struct Founder {
    pub(crate) raft: Engine,
    pub(crate) log: Arc<Log>,
    pub(crate) peers: Peers,
    pub(crate) members: Vec<Member>,
    pub(crate) waiting: Waiting,
    pub(crate) lease_ms: u64,
}

impl Founder {
    /// Asks until all have promised, and makes the group. Ends by itself only then.
    pub(crate) async fn run(self) {
        loop {
            match self.attempt().await {
                Ok(()) => return *self.waiting.lock() = None,
                Err(reason) => {
                    let reason = format!("the group of masters is not formed yet: {reason}");
                    let before = self.waiting.lock().replace(reason.clone());
                    if before.as_ref() != Some(&reason) {
                        tracing::warn!("{reason}");
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self) -> Result<(), String> {
        if self.raft.is_initialized().await.map_err(|e| e.to_string())? {
            return Ok(());
        }
        self.nobody_has_begun().await?;
        group_of(&self.log).await.map_err(|e| e.to_string())?;
        let named = |member: &Member| Named { member: member.id.0, address: member.address.clone() };
        let list: Vec<Named> = self.members.iter().map(named).collect();
        let me = self.log.identity();
        let mut peers = BTreeMap::new();
        for member in &self.members {
            let incarnation = match member.id.0 == me.member {
                true => me.incarnation,
                false => identify(&self.peers, member, list.clone()).await.map_err(|e| e.to_string())?.incarnation,
            };
            peers.insert(member.id.0, Peer { address: member.address.clone(), incarnation });
        }
        self.raft.initialize(peers).await.map_err(|e| e.to_string())?;
        tracing::info!(members = self.members.len(), "the group of masters is formed");
        self.raft.trigger().elect(true).await.map_err(|e| e.to_string())
    }

    fn own_address(&self) -> &str {
        let me = self.log.identity().member;
        self.members.iter().find(|member| member.id.0 == me).map_or("ADDRESS", |member| &member.address)
    }

    /// Makes sure that there is no group yet, before this member promises itself to one: it may be one of that group that lost its directory.
    async fn nobody_has_begun(&self) -> Result<(), String> {
        let me = self.log.identity();
        for member in self.members.iter().filter(|member| member.id.0 != me.member) {
            let answer = identify(&self.peers, member, Vec::new()).await.map_err(|e| e.to_string())?;
            check_lease(&answer, member, self.lease_ms)?;
            if answer.begun || (answer.group != 0 && answer.group != me.group) {
                return Err(format!(
                    "the master at {} belongs to a group already, and the directory of this one is new; have that group take it in anew: \
                     forebay masters add {own} --replace {own}",
                    member.address,
                    own = self.own_address()
                ));
            }
        }
        Ok(())
    }
}

/// Refuses one whose leases are longer or shorter than here: what it confirms would not mean the same.
pub(crate) fn check_lease(answer: &Identified, member: &Member, lease_ms: u64) -> Result<(), String> {
    match answer.lease_ms == lease_ms {
        true => Ok(()),
        false => Err(format!("the master at {}: {}", member.address, other_lease(lease_ms, answer.lease_ms))),
    }
}

/// Why members take nothing from each other, and what mends it. A lease is one and a half of the election time-out.
pub(crate) fn other_lease(own_ms: u64, other_ms: u64) -> String {
    format!(
        "master.election_timeout is {} ms at the one and {} ms at the other; give all masters the same, and start them again",
        own_ms * 2 / 3,
        other_ms * 2 / 3
    )
}

/// Asks a member who it is; with a list, to make a group of those.
pub(crate) async fn identify(peers: &Peers, member: &Member, members: Vec<Named>) -> Result<Identified, CallError> {
    let client = peers.to(member.clone());
    match client.ask(Ask::Identify(Identify { members }), ANSWER).await? {
        Answer::Identity(identity) => Ok(identity),
        _ => Err(client.strange()),
    }
}
