//! Changes of the group while it serves: one at a time, by the leader, and none that would leave it without a majority that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};

use crate::build::Build;
use crate::consensus::{Consensus, leader_in};
use crate::error::ChangeError;
use crate::forming::{check_lease, identify};
use crate::raft_types::Peer;
use crate::runtime::{Instant, since, sleep, timeout};
use crate::settings::{MEMBERS_MAX, Member, MemberId};
use crate::start::metrics_of;

type Changes = ChangeMembers<u64, Peer>;

/// The members that answer, this one included.
struct Heard(BTreeSet<u64>);

impl Heard {
    /// And one of which that is known otherwise.
    fn with(mut self, id: u64) -> Heard {
        self.0.insert(id);
        self
    }
}

/// A new member may be this many entries behind when it gets its vote.
const LAG_MAX: u64 = 1000;

impl Consensus {
    /// Takes a member in: gives it everything first, then a vote. It must run, with an empty directory, and wait to be taken in.
    ///
    /// A failure on the way leaves the group as it was. One that is in already, with that directory and address, is no failure.
    pub async fn add(&self, member: Member) -> Result<(), ChangeError> {
        let _turn = self.turn().await?;
        self.leads()?;
        if self.is_in(&member).await {
            return Ok(());
        }
        let heard = self.hear().await;
        let voters = self.voters();
        if voters.contains(&member.id.0) {
            let metrics = metrics_of(&self.raft);
            let known = metrics.membership_config.membership().get_node(&member.id.0);
            let known = known.map_or(&member.address, |known| &known.address);
            return refuse(format!(
                "the master at {new} is in the group already, with another directory or at another address; if it lost its directory or has moved: \
                 forebay masters add {new} --replace {known}",
                new = member.address
            ));
        }
        if voters.len() >= MEMBERS_MAX {
            return refuse(format!("the group has {} members, and no group has more; remove one first", voters.len()));
        }
        let mut after = voters.clone();
        after.insert(member.id.0);
        self.keeps_quorum(&after, &heard.with(member.id.0))?;
        self.take_in(&member, BTreeSet::new()).await
    }

    /// Lets a member go, if there is one of that name. Its process may be stopped afterwards.
    pub async fn remove(&self, id: MemberId) -> Result<(), ChangeError> {
        let _turn = self.turn().await?;
        self.leads()?;
        let heard = self.hear().await;
        self.let_go(id, &heard).await
    }

    /// Takes `new` in for `old`, which may be dead. With the same identifier: one that lost its directory comes back. If `old` itself answers
    /// there, with its directory, it has moved, and the group calls it there from now on.
    pub async fn replace(&self, old: MemberId, new: Member) -> Result<(), ChangeError> {
        let _turn = self.turn().await?;
        self.leads()?;
        if old == self.settings.member.id {
            return refuse(self.leads_still());
        }
        // Asked again after it was done, or at an address that `old` has moved to: the directory tells which.
        if let Some(peer) = self.itself_at(old, &new.address).await {
            return self.call_at(old, peer).await;
        }
        let heard = self.hear().await;
        let voters = self.voters();
        if new.id == old {
            return self.renew(&new, &voters, &heard).await;
        }
        if !voters.contains(&old.0) {
            return match self.is_in(&new).await {
                true => Ok(()),
                false => refuse(format!("{} is not in the group, and cannot be replaced", self.named(old))),
            };
        }
        if voters.contains(&new.id.0) {
            return refuse(format!("the master at {} is in the group already", new.address));
        }
        let mut after = voters;
        after.remove(&old.0);
        after.insert(new.id.0);
        self.keeps_quorum(&after, &heard.with(new.id.0))?;
        self.take_in(&new, BTreeSet::from([old.0])).await
    }

    /// Takes a member in that lost its directory, in its own place, which it has to leave first.
    async fn renew(&self, member: &Member, voters: &BTreeSet<u64>, heard: &Heard) -> Result<(), ChangeError> {
        // What can be known before the group is smaller: that it is there, is new, and fits.
        self.ask_identity(member).await?;
        let id = member.id;
        // Where that happened before and was cut off, it has no place any more.
        if voters.contains(&id.0) {
            self.let_go(id, heard).await?;
        }
        self.take_in(member, BTreeSet::new()).await.map_err(|error| match error {
            ChangeError::Refused { reason } | ChangeError::Unreachable { reason } => refuse_error(format!(
                "{reason}; the master at {at} has lost its old place by now, and the group is smaller by one: mend that, and then again: \
                 forebay masters add {at} --replace {at}",
                at = member.address
            )),
            other => other,
        })
    }

    /// Whether a member has its vote already, as it is now.
    async fn is_in(&self, member: &Member) -> bool {
        let votes = self.voters().contains(&member.id.0);
        let own = member.id == self.settings.member.id;
        let known = metrics_of(&self.raft).membership_config.membership().get_node(&member.id.0).cloned();
        let there = known.is_some_and(|known| known.address == member.address);
        votes && there && (own || self.itself_at(member.id, &member.address).await.is_some())
    }

    /// The member, if it has a vote and answers at that address with the directory that the group knows.
    async fn itself_at(&self, id: MemberId, address: &str) -> Option<Peer> {
        let known = metrics_of(&self.raft).membership_config.membership().get_node(&id.0).cloned()?;
        if !self.voters().contains(&id.0) {
            return None;
        }
        let there = Member { id, address: address.to_owned() };
        let identity = identify(&self.peers, &there, Vec::new()).await.ok()?;
        let same = identity.incarnation == known.incarnation && identity.group == self.log.identity().group;
        same.then_some(Peer { address: there.address, ..known })
    }

    /// Writes another address of a member down. The directory stays the same, so no vote is in doubt.
    async fn call_at(&self, id: MemberId, peer: Peer) -> Result<(), ChangeError> {
        let before = metrics_of(&self.raft).membership_config.membership().get_node(&id.0).cloned();
        if before.as_ref() == Some(&peer) {
            return Ok(());
        }
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id.0, peer.clone())]))).await?;
        if let Some(before) = before {
            self.peers.moved(id, &before.address, &peer.address);
        }
        Ok(())
    }

    /// Gives the lead to another member, and returns when that one leads.
    pub async fn transfer(&self, to: MemberId) -> Result<(), ChangeError> {
        let _turn = self.turn().await?;
        self.leads()?;
        let heard = self.hear().await;
        if to == self.settings.member.id {
            return Ok(());
        }
        if !self.voters().contains(&to.0) {
            return refuse(format!("{} has no vote", self.named(to)));
        }
        if !heard.0.contains(&to.0) {
            return refuse(format!("{} does not answer", self.named(to)));
        }
        if let Some(lag) = self.lag(to).filter(|lag| *lag > LAG_MAX) {
            return refuse(format!("{} lacks {lag} entries; try again when it has them", self.named(to)));
        }
        self.give_away(to).await
    }

    /// Gives the lead to whoever is best at hand, if this member leads others. Says to whom.
    pub async fn hand_over(&self) -> Option<MemberId> {
        let _turn = self.turn().await.ok()?;
        self.leads().ok()?;
        let own = self.settings.member.id.0;
        let others = || self.voters().into_iter().filter(|id| *id != own);
        // Whoever answers at all does so soon.
        others().next()?;
        let heard = self.hear().await;
        let mut answer: Vec<MemberId> = others().filter(|id| heard.0.contains(id)).map(MemberId).collect();
        answer.sort_by_key(|id| self.lag(*id).unwrap_or(u64::MAX));
        let best = *answer.first().filter(|id| self.lag(**id).is_some_and(|lag| lag <= LAG_MAX))?;
        // The first that is asked is the only one: this member proposes nothing more in its term.
        self.give_away(best).await.inspect_err(|error| tracing::warn!(%error, "the lead was not handed over")).ok()?;
        Some(best)
    }

    /// The entries that a member is not known to have.
    fn lag(&self, id: MemberId) -> Option<u64> {
        let metrics = metrics_of(&self.raft);
        let matched = metrics.replication.as_ref()?.get(&id.0).copied().flatten()?.index;
        Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
    }

    async fn give_away(&self, to: MemberId) -> Result<(), ChangeError> {
        // From here on this member is certain of nothing: the other one may lead before this one hears of it.
        self.given_away.send_replace(metrics_of(&self.raft).current_term);
        self.raft.trigger().transfer_leader(to.0).await.map_err(failed)?;
        let patience = self.settings.lease() * 3;
        let done = self.raft.wait(Some(patience)).metrics(|m| m.current_leader == Some(to.0), "the new leader").await;
        let still =
            |_| refuse_error(format!("{} did not take the lead within {patience:?}; try again", self.named(to)));
        done.map(drop).map_err(still)
    }

    /// One change at a time.
    pub(crate) async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, ChangeError> {
        // An earlier leader's change takes a moment to finish, and is nobody's whom one could ask to wait for it.
        let turn = timeout(self.settings.lease(), self.changes.lock()).await;
        turn.map_err(|_| refuse_error("another change of the group is under way; wait for its end".to_owned()))
    }

    pub(crate) fn leads(&self) -> Result<(), ChangeError> {
        let metrics = metrics_of(&self.raft);
        if !metrics.state.is_leader() {
            return Err(ChangeError::NotLeader { leader: leader_in(&metrics) });
        }
        if metrics.membership_config.membership().get_joint_config().len() > 1 {
            return refuse(
                "an earlier change of the group is not finished; it is being finished, try again".to_owned(),
            );
        }
        Ok(())
    }

    /// Refuses a group in which no majority answers.
    fn keeps_quorum(&self, voters: &BTreeSet<u64>, heard: &Heard) -> Result<(), ChangeError> {
        let silent: Vec<u64> = voters.difference(&heard.0).copied().collect();
        if (voters.len() - silent.len()) * 2 > voters.len() {
            return Ok(());
        }
        let first = silent.first().and_then(|id| self.address_of(MemberId(*id)));
        let replace = first.map_or(String::new(), |lost| {
            format!(", or one of them replaced: forebay masters add NEW --replace {lost}")
        });
        let silent: Vec<String> = silent.into_iter().map(|id| self.named(MemberId(id))).collect();
        refuse(format!(
            "of the {} masters that there would be, no majority answers: nothing is heard from {}; they are to be started again first{replace}",
            voters.len(),
            silent.join(", ")
        ))
    }

    /// Why this member, which leads, cannot go, and what to do instead.
    fn leads_still(&self) -> String {
        let own = &self.settings.member.address;
        let other = self.voters().into_iter().find(|id| *id != self.settings.member.id.0);
        match other.and_then(|id| self.address_of(MemberId(id))) {
            Some(other) => format!(
                "the master at {own} leads; transfer the lead to another one first, such as: forebay masters transfer {other}"
            ),
            None => format!(
                "the master at {own} is the only one, and a group has one at least; to put another one in its place, start that one with an empty \
                 data directory and both in its list, then: forebay masters add NEW, forebay masters transfer NEW, forebay masters remove {own}; \
                 to end the cluster, stop the server"
            ),
        }
    }

    fn address_of(&self, id: MemberId) -> Option<String> {
        let metrics = metrics_of(&self.raft);
        metrics.membership_config.membership().get_node(&id.0).map(|peer| peer.address.clone())
    }

    /// A member by its address, for people.
    fn named(&self, id: MemberId) -> String {
        self.address_of(id).map_or_else(|| format!("member {id}"), |address| format!("the master at {address}"))
    }

    fn voters(&self) -> BTreeSet<u64> {
        metrics_of(&self.raft).membership_config.voter_ids().collect()
    }

    /// Who answers a message that is sent now. Who answered a moment ago may be dead.
    async fn hear(&self) -> Heard {
        let (begun, end) = (Instant::now(), Instant::now() + self.settings.lease());
        loop {
            // Without it the next regular one will do.
            let _ = self.raft.trigger().heartbeat().await;
            let heard = self.heard_since(begun);
            if self.voters().is_subset(&heard.0) || Instant::now() >= end {
                return heard;
            }
            sleep(self.settings.heartbeat_interval / 10).await;
        }
    }

    fn heard_since(&self, begun: Instant) -> Heard {
        let within = begun.elapsed();
        let confirmed = metrics_of(&self.raft).heartbeat.unwrap_or_default().into_iter();
        let heard = confirmed.filter(|(_, at)| at.is_some_and(|at| since(&*at) < within)).map(|(id, _)| id);
        Heard(heard.chain([self.settings.member.id.0]).collect())
    }

    async fn let_go(&self, id: MemberId, heard: &Heard) -> Result<(), ChangeError> {
        let mut after = self.voters();
        if id == self.settings.member.id {
            return refuse(self.leads_still());
        }
        if !after.remove(&id.0) {
            let known = metrics_of(&self.raft).membership_config.membership().get_node(&id.0).is_some();
            if known {
                self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id.0]))).await?;
            }
            self.peers.forget(id);
            return Ok(());
        }
        self.keeps_quorum(&after, heard)?;
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id.0]))).await?;
        self.peers.forget(id);
        Ok(())
    }

    /// Gives a new member everything, then a vote, and lets those in `instead` go in the same change.
    async fn take_in(&self, member: &Member, instead: BTreeSet<u64>) -> Result<(), ChangeError> {
        let peer = self.ask_identity(member).await?;
        // From here on another one may lead some day: reads must ask.
        self.sole.store(false, Ordering::Release);
        self.name_own_directory().await?;
        let id = member.id.0;
        let forget = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
        if metrics_of(&self.raft).membership_config.membership().get_node(&id).is_some_and(|known| *known != peer) {
            self.change(forget.clone()).await?;
        }
        self.peers.forget(member.id);
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]))).await?;
        if let Err(e) = self.catch_up(member).await {
            if let Err(left) = self.change(forget).await {
                tracing::warn!(member = id, "a member that was not taken in stays as a listener: {left}");
            }
            return Err(e);
        }
        let vote = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        if instead.is_empty() {
            return self.change(vote).await;
        }
        self.change(ChangeMembers::Batch(vec![vote, ChangeMembers::RemoveVoters(instead.clone())])).await?;
        instead.into_iter().for_each(|gone| self.peers.forget(MemberId(gone)));
        Ok(())
    }

    /// Who answers at that address, if it can be taken in.
    async fn ask_identity(&self, member: &Member) -> Result<Peer, ChangeError> {
        let identity = identify(&self.peers, member, Vec::new()).await;
        let identity = identity.map_err(|e| ChangeError::Unreachable { reason: e.to_string() })?;
        if identity.member != member.id.0 {
            return refuse(format!(
                "member {} answers at {}, not member {}",
                identity.member, member.address, member.id
            ));
        }
        check_lease(&identity, member, self.settings.lease_ms()).map_err(refuse_error)?;
        if let Some(why) = Build::of(&identity).lacks(self.cluster_version()) {
            return refuse(format!("the master at {} cannot be taken in: {why}", member.address));
        }
        let group = self.log.identity().group;
        if identity.group != 0 && identity.group != group {
            return refuse(format!("the master at {} belongs to another group of masters", member.address));
        }
        if identity.group == 0 && identity.begun {
            return refuse(format!(
                "the master at {} has a log of its own; start it with an empty directory",
                member.address
            ));
        }
        Ok(Peer { address: member.address.clone(), incarnation: identity.incarnation })
    }

    /// A group of one knows this member by what it was when it was made: perhaps by an address that only this machine can reach, and
    /// without its directory if an older release made it.
    async fn name_own_directory(&self) -> Result<(), ChangeError> {
        let identity = self.log.identity();
        let own = Peer { address: self.settings.member.address.clone(), incarnation: identity.incarnation };
        let metrics = metrics_of(&self.raft);
        let known = metrics.membership_config.membership().get_node(&identity.member);
        match known.is_some_and(|known| *known != own) {
            true => self.change(ChangeMembers::SetNodes(BTreeMap::from([(identity.member, own)]))).await,
            false => Ok(()),
        }
    }

    /// Waits until a new member has nearly all, as long as it gets on.
    async fn catch_up(&self, member: &Member) -> Result<(), ChangeError> {
        let mut metrics = self.raft.data_metrics();
        let (mut best, mut steps, mut moved) = (None, self.peers.steps(member.id), Instant::now());
        loop {
            let (matched, last) = {
                let now = metrics.borrow_watched();
                let matched = now.replication.as_ref().and_then(|all| all.get(&member.id.0).copied().flatten());
                (matched.map(|at| at.index), now.last_log.map(|at| at.index))
            };
            if matched.is_some() && matched.map(|at| at + LAG_MAX) >= last {
                return Ok(());
            }
            if matched > best {
                (best, moved) = (matched, Instant::now());
            }
            // A snapshot is nothing but steps until it is installed.
            if std::mem::replace(&mut steps, self.peers.steps(member.id)) != steps {
                moved = Instant::now();
            }
            self.leads()?;
            let patience = self.settings.catch_up_timeout;
            if moved.elapsed() >= patience {
                let why = self.peers.trouble(member.id).unwrap_or_else(|| "no trouble is known".to_owned());
                return refuse(format!(
                    "the master at {} got nothing new for {patience:?} and was not taken in: {why}",
                    member.address
                ));
            }
            // Also looks when nothing is told: a snapshot under way moves no metrics.
            let _ = timeout(Duration::from_millis(100), metrics.changed()).await;
        }
    }

    async fn change(&self, changes: Changes) -> Result<(), ChangeError> {
        let changed = self.raft.change_membership(changes, false);
        // What is half made then is finished by whoever leads. One that is cut off, or not a member any more, hears of nothing.
        let Ok(changed) = timeout(self.settings.propose_timeout, changed).await else {
            return Err(failed(self.unconfirmed()));
        };
        match changed {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(ChangeError::NotLeader { leader: leader_in(&metrics_of(&self.raft)) })
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e))) => refuse(e.to_string()),
            Err(e) => Err(failed(e)),
        }
    }
}

fn refuse<T>(reason: String) -> Result<T, ChangeError> {
    Err(refuse_error(reason))
}

fn refuse_error(reason: String) -> ChangeError {
    ChangeError::Refused { reason }
}

fn failed(error: impl ToString) -> ChangeError {
    ChangeError::Unknown { reason: error.to_string() }
}
