//! Where the leader sits: requests find its core here, or hear who leads.
//!
//! A master that begins to lead starts over from the state, as after a restart, and everything that it keeps in memory goes when its
//! lead ends. So nothing that one leader remembers can be wrong because another one has led in between.

use crate::backups::{self, Turns};
use crate::core::Core;
use crate::data_dir::Keys;
use crate::error::{Result, log_error};
use crate::follower::Follower;
use crate::log_clock::{LOOK, Witness};
use crate::ops::{purge, rename, uploads};
use crate::settings::Settings;
use crate::state::State;
use crate::upgrade;
use forebay_base::ErrorKind;
use forebay_consensus::{Consensus, ConsensusError, Member, Observer, PeerStatus, Status};
use forebay_namespace::query;
use forebay_proto::error::WireError;
use forebay_proto::v1::ReadBound;
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Between two attempts to begin to lead from a state that cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

/// So many attempts in a row: then another master may do better.
const FAILURES_MAX: u32 = 5;

/// What the services of a master share, whether it leads or not.
#[derive(Default)]
pub(crate) struct Seat {
    core: RwLock<Option<Arc<Core>>>,
    consensus: OnceLock<Arc<Consensus>>,
    keys: OnceLock<Keys>,
    /// Whom a master that is starting waits for.
    waiting: RwLock<Option<String>>,
    follower: RwLock<Option<Arc<Follower>>>,
}

impl Seat {
    /// The core of this master, if it leads.
    pub(crate) fn core(&self) -> Result<Arc<Core>> {
        match self.core.read().as_ref() {
            Some(core) => Ok(Arc::clone(core)),
            None => Err(match self.consensus.get() {
                Some(consensus) => not_leading(&consensus.status()),
                None => self.starting(),
            }),
        }
    }

    /// For reads that another master leads the answers to, if they say how old an answer may be.
    pub(crate) fn follower(&self, bound: Option<ReadBound>) -> Option<(Arc<Follower>, ReadBound)> {
        self.follower.read().clone().zip(bound)
    }

    pub(crate) fn follower_is(&self, follower: Option<Arc<Follower>>) {
        *self.follower.write() = follower;
    }

    /// The log, once it is open.
    pub(crate) fn consensus(&self) -> Result<&Arc<Consensus>> {
        self.consensus.get().ok_or_else(|| self.starting())
    }

    /// What a master says that has no log yet.
    fn starting(&self) -> WireError {
        let waiting = self.waiting.read().clone();
        let message = waiting.map_or_else(
            || "this master is starting".to_owned(),
            |who| format!("this master is starting and waits for the others: {who}"),
        );
        WireError::new(ErrorKind::Unavailable, message).with_hint(
            "masters that are new form their group when all of the list run: start those that do not, or correct the setting masters of all",
        )
    }

    /// Says whom this master waits for before it has a log.
    pub(crate) fn waits_for(&self, who: String) {
        *self.waiting.write() = Some(who);
    }

    /// The cluster's keys, once they are known.
    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.keys.get()
    }

    pub(crate) fn keys_are(&self, keys: Keys) {
        // They never change.
        let _ = self.keys.set(keys);
    }

    pub(crate) fn consensus_is(&self, consensus: Arc<Consensus>) {
        // It is opened once.
        let _ = self.consensus.set(consensus);
    }

    /// Puts another core in place of the one that was there, which is retired.
    pub(crate) fn take(&self, core: Option<Arc<Core>>) {
        let before = std::mem::replace(&mut *self.core.write(), core);
        if let Some(core) = before {
            core.retire();
            if let Some(follower) = self.follower.read().as_ref() {
                follower.workers_are(core.registry.view().into());
            }
        }
    }
}

/// What a master says that does not serve now: who leads, or why nobody does as far as it knows.
pub(crate) fn not_leading(status: &Status) -> WireError {
    let Some(trouble) = trouble(status) else {
        return log_error(ConsensusError::NotLeader { leader: status.leader.clone() });
    };
    let leader = status.leader.as_ref().filter(|leader| leader.id != status.member.id);
    let hint = trouble.hint(&status.member.address);
    WireError::new(ErrorKind::Unavailable, trouble.message)
        .with_hint(hint)
        .with_leader(leader.map_or(String::new(), |leader| leader.address.clone()))
}

/// Why a master cannot serve, nor name who does.
#[derive(Debug)]
pub(crate) struct Trouble {
    cause: Cause,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Removed,
    Waits,
    Deaf,
    NoMajority,
    Begins,
}

impl Trouble {
    /// What mends it, for the master at that address.
    fn hint(&self, own: &str) -> String {
        match self.cause {
            Cause::Removed => {
                "name the masters that are in the group (forebay masters list shows them) in the setting masters".to_owned()
            }
            Cause::Waits => format!(
                "if it is new: forebay masters add {own}; if it has lost its data: forebay masters add {own} --replace {own}; if it takes the place of another \
                 one: forebay masters add {own} --replace OLD"
            ),
            Cause::Deaf => format!(
                "forebay masters list shows who is in the group; one that is in it no more is to be stopped, or taken in with an empty data directory: \
                 forebay masters add {own}"
            ),
            Cause::NoMajority => "start the masters that are away again, with their data; what can be done about those that are lost (rebuild, restore) is in \
                docs/operations/masters.md, \"When the majority is lost\""
                .to_owned(),
            Cause::Begins => "it serves as soon as it has read its state; its log says if it cannot".to_owned(),
        }
    }
}

/// Why this master cannot serve, nor name who does.
pub(crate) fn trouble(status: &Status) -> Option<Trouble> {
    let own = &status.member;
    if !status.members.is_empty() && !status.members.iter().any(|member| member.id == own.id) {
        let message = format!("this master ({}) was removed from the group of masters", own.address);
        return Some(Trouble { cause: Cause::Removed, message });
    }
    match &status.leader {
        Some(leader) if leader.id == own.id => {}
        Some(_) if status.hears_leader => return None,
        Some(leader) => return Some(without_majority(status).unwrap_or_else(|| deaf(status, leader))),
        None if status.members.is_empty() => return waits(status),
        None => {
            if let Some(trouble) = without_majority(status) {
                return Some(trouble);
            }
            let masters = addresses(status.members.iter().filter(|member| member.id != own.id));
            let message = format!(
                "no master is known to lead: this one ({}) waits for a majority; the others are {masters}",
                own.address
            );
            return Some(Trouble { cause: Cause::NoMajority, message });
        }
    }
    let voters = status.peers.iter().filter(|peer| peer.votes).count();
    let silent: Vec<&Member> =
        status.peers.iter().filter(|peer| peer.votes && peer.is_silent(own)).map(|peer| &peer.member).collect();
    // The others are a majority, this one among them.
    Some(if 2 * (voters - silent.len()) > voters {
        Trouble { cause: Cause::Begins, message: format!("this master ({}) begins to lead", own.address) }
    } else {
        let message = format!(
            "this master ({}) leads and cannot reach a majority of the masters: nothing is heard from {}",
            own.address,
            addresses(silent)
        );
        Trouble { cause: Cause::NoMajority, message }
    })
}

/// It belongs to no group, and says what it waits for.
fn waits(status: &Status) -> Option<Trouble> {
    let waiting = status.waiting.as_ref()?;
    let message = format!("this master ({}) belongs to no group of masters yet: {waiting}", status.member.address);
    Some(Trouble { cause: Cause::Waits, message })
}

/// It leads nobody, and as many of the others do not answer what it asks of them before an election that nobody can win one.
fn without_majority(status: &Status) -> Option<Trouble> {
    let own = &status.member;
    let voters = status.peers.iter().filter(|peer| peer.votes);
    let (silent, answer): (Vec<_>, Vec<_>) =
        voters.partition(|peer| peer.member.id != own.id && peer.trouble.is_some());
    if silent.is_empty() || answer.len() > silent.len() {
        return None;
    }
    let why = |peer: &&PeerStatus| peer.trouble.clone().unwrap_or_default();
    let message = format!(
        "no majority of the masters answers this one ({}): {}",
        own.address,
        silent.iter().map(why).collect::<Vec<_>>().join("; ")
    );
    Some(Trouble { cause: Cause::NoMajority, message })
}

/// It knows of a leader that tells it nothing.
fn deaf(status: &Status, leader: &Member) -> Trouble {
    let (own, leader) = (&status.member.address, &leader.address);
    let since = match status.leader_heard {
        Some(ago) => format!("nothing is heard from it for {} s", ago.as_secs()),
        None => "nothing is heard from it yet".to_owned(),
    };
    let message = format!(
        "this master ({own}) hears of no leader: it knew {leader} as the one, and {since}, while a majority of the masters answers: this one was removed or replaced, or the leader cannot reach it"
    );
    Trouble { cause: Cause::Deaf, message }
}

fn addresses<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    members.into_iter().map(|member| member.address.as_str()).collect::<Vec<_>>().join(", ")
}

/// What a process keeps from lead to lead.
pub(crate) struct Lasting {
    pub(crate) witness: Arc<Witness>,
    pub(crate) backup_turns: Turns,
}

/// Takes the seat whenever this master leads, and leaves it when it does not.
pub(crate) struct Leading {
    pub(crate) seat: Arc<Seat>,
    pub(crate) settings: Settings,
    pub(crate) address: String,
    pub(crate) state: State,
    pub(crate) keys: Keys,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) lasting: Lasting,
    pub(crate) stop: CancellationToken,
}

impl Leading {
    /// Makes the core of a lead that has begun; `before` is the last one of this master, if there was one.
    pub(crate) async fn begin(&self, before: Option<forebay_consensus::Lead>) -> Result<Lead> {
        let lead = self.consensus.lead().await.map_err(log_error)?;
        let (settings, keys, address) = (self.settings.clone(), self.keys.clone(), self.address.clone());
        let (state, consensus) = (self.state.clone(), Arc::clone(&self.consensus));
        crate::fault::point(&format!("lead: {address}"))?;
        let core = Arc::new(Core::new(settings, keys, address, state, consensus, lead, &self.lasting)?);
        if before == Some(lead) {
            core.settle().await?;
            core.mounts_changed()?;
        }
        // Before anything is made. Where somebody is away, it is tried again as long as nothing is.
        if let Err(error) = upgrade::begin_new(&core, &self.consensus).await {
            tracing::info!(%error, "the cluster begins with an older version than this master knows");
        }
        self.seat.take(Some(Arc::clone(&core)));
        let stop = self.stop.child_token();
        let mut background = JoinSet::new();
        background.spawn(watch_workers(Arc::clone(&core), stop.clone()));
        background.spawn(keep_time(Arc::clone(&core), stop.clone()));
        background.spawn(purge::run(Arc::clone(&core), stop.clone()));
        background.spawn(uploads::run(Arc::clone(&core), stop.clone()));
        background.spawn(backups::run_schedule(Arc::clone(&core), stop.clone()));
        background.spawn(upgrade::run(Arc::clone(&core), Arc::clone(&self.consensus), stop.clone()));
        background.spawn(rename::run(core, stop));
        Ok(Lead { lead, background })
    }

    /// Goes on with `first`, if the lead has begun, until the master stops; returns what still runs in the background then.
    pub(crate) async fn run(self, first: Option<Lead>) -> JoinSet<()> {
        let (mut current, mut before, mut failures) = (first, None, 0);
        loop {
            let mut lead = match current.take() {
                Some(lead) => lead,
                None => match self.stop.run_until_cancelled(self.begin(before)).await {
                    Some(Ok(lead)) => {
                        tracing::info!(term = lead.lead.term, "this master leads");
                        failures = 0;
                        lead
                    }
                    Some(Err(error)) => {
                        tracing::error!(%error, "this master cannot lead");
                        failures += 1;
                        if is_hopeless(&error, failures) && self.consensus.is_leader() {
                            self.give_up(&error).await;
                            failures = 0;
                        }
                        if self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                            return JoinSet::new();
                        }
                        continue;
                    }
                    None => return JoinSet::new(),
                },
            };
            if self.stop.run_until_cancelled(self.consensus.lead_ends(lead.lead)).await.is_none() {
                return lead.background;
            }
            tracing::warn!(term = lead.lead.term, "this master leads no more");
            before = Some(lead.lead);
            self.seat.take(None);
            // At once: what touches stores must not go on beside that of another leader.
            lead.background.abort_all();
        }
    }
}

impl Leading {
    /// Who leads and serves nothing keeps everybody waiting: another one takes the lead, or this one ends.
    async fn give_up(&self, error: &WireError) {
        match self.consensus.hand_over().await {
            Some(next) => tracing::error!(member = next.0, "another master leads now, since this one cannot"),
            None => self.consensus.give_up(&format!("this master leads and cannot serve: {error}")),
        }
    }
}

/// Whether another attempt is of no use.
fn is_hopeless(error: &WireError, failures: u32) -> bool {
    error.kind == ErrorKind::Corrupt || failures >= FAILURES_MAX
}

/// A lead and what runs in the background as long as it lasts.
pub(crate) struct Lead {
    lead: forebay_consensus::Lead,
    background: JoinSet<()>,
}

async fn watch_workers(core: Arc<Core>, stop: CancellationToken) {
    use crate::metrics::names;
    let mut tick = tokio::time::interval(core.settings.tick);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        core.registry.expire(Instant::now(), core.position());
        let live = core.registry.view().workers.len();
        metrics::gauge!(names::WORKERS_LIVE).set(live as f64);
    }
}

async fn keep_time(core: Arc<Core>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = core.stamp().await {
            tracing::debug!(%error, "the log's time cannot go on for now");
        }
        if let Err(error) = core.be_sure_of_mounts().await {
            tracing::debug!(%error, "what became of a change of the mounts is not known yet");
        }
    }
}

/// Looks at log time, the cluster's version and the group, on a master that leads or not, until told to stop.
pub(crate) async fn watch_time(
    state: State,
    witness: Arc<Witness>,
    consensus: Arc<Consensus>,
    mut observer: Observer,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(LOOK);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        observer.look(&consensus.status());
        // A master that has got nothing yet has no time either.
        if let Ok(summary) = query::summary(&*state.snapshot()) {
            witness.saw(summary.log_time_ms);
            metrics::gauge!(crate::metrics::names::CLUSTER_VERSION).set(f64::from(summary.cluster_version));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_consensus::MemberId;

    fn member(id: u64) -> Member {
        Member { id: MemberId(id), address: format!("m{id}:7400") }
    }

    /// Of member 1, in a group of `members`, of whom those of `silent` have not been heard for a while.
    fn status(members: &[u64], leader: Option<u64>, silent: &[u64]) -> Status {
        let peer = |id: &u64| PeerStatus {
            member: member(*id),
            votes: true,
            matched_index: None,
            silent: Some(Duration::from_millis(if silent.contains(id) { 5000 } else { 20 })),
            trouble: None,
        };
        Status {
            member: member(1),
            leader: leader.map(member),
            members: members.iter().copied().map(member).collect(),
            peers: members.iter().map(peer).collect(),
            waiting: members.is_empty().then(|| "nobody has taken it in".to_owned()),
            leader_heard: None,
            hears_leader: true,
            term: 3,
            last_index: None,
            applied_index: None,
            flushed_index: None,
            log_syncs: 0,
        }
    }

    #[test]
    fn who_cannot_serve_says_why_and_names_nobody_in_a_circle() {
        let check = |members: &[u64], leader, silent: &[u64], said: &str| {
            let error = not_leading(&status(members, leader, silent));
            assert!(error.message.contains(said), "{}", error.message);
            assert_eq!(error.kind, ErrorKind::Unavailable);
            error.leader
        };
        let circle = "leads and cannot reach a majority of the masters: nothing is heard from m2:7400, m3:7400";
        assert_eq!(check(&[1, 2, 3], Some(1), &[2, 3], circle), "");
        assert_eq!(check(&[1, 2, 3], Some(1), &[], "begins to lead"), "");
        assert_eq!(check(&[1, 2, 3], Some(1), &[3], "begins to lead"), "");
        assert_eq!(check(&[1, 2], Some(1), &[2], "cannot reach a majority"), "");
        assert_eq!(check(&[1], Some(1), &[], "begins to lead"), "");
        assert_eq!(check(&[1, 2, 3], None, &[], "no master is known to lead"), "");
        assert_eq!(check(&[2, 3], Some(2), &[], "was removed from the group"), "m2:7400");
        assert_eq!(check(&[1, 2, 3], Some(2), &[], "the leader is m2:7400"), "m2:7400");
        assert_eq!(check(&[], None, &[], "belongs to no group of masters yet: nobody has taken it in"), "");
    }

    /// It followed, and nobody answers it any more.
    fn alone(status: &mut Status) {
        status.leader = Some(member(2));
        (status.hears_leader, status.leader_heard) = (false, Some(Duration::from_secs(7)));
        for at in [1, 2] {
            status.peers[at].trouble = Some(format!("the master at m{}:7400: connection refused", at + 1));
        }
    }

    #[test]
    fn voters_alone_are_counted_and_who_was_never_heard_only_when_calls_fail() {
        let check = |adjust: fn(&mut Status), said: &str, hint: &str| {
            let mut status = status(&[1, 2, 3, 4], Some(1), &[3]);
            // A learner.
            status.peers[3].votes = false;
            adjust(&mut status);
            let error = not_leading(&status);
            assert!(error.message.contains(said), "{}", error.message);
            assert!(error.hint.contains(hint), "{}", error.hint);
        };
        let away = "start the masters that are away";
        check(|status| status.peers[3].silent = None, "begins to lead", "as soon as it has read its state");
        check(|status| status.peers[1].silent = None, "begins to lead", "as soon as it has read its state");
        let refused = |status: &mut Status| {
            status.peers[1].silent = None;
            status.peers[1].trouble = Some("connection refused".to_owned());
        };
        check(refused, "nothing is heard from m2:7400, m3:7400", away);
        check(|status| status.leader = None, "no master is known to lead", away);
        let fact = "no majority of the masters answers this one (m1:7400): the master at m2:7400: connection refused; the master at m3:7400: ";
        check(alone, fact, "\"When the majority is lost\"");
        let searching = |status: &mut Status| {
            alone(status);
            status.leader = None;
        };
        check(searching, fact, "\"When the majority is lost\"");
        let removed = |status: &mut Status| drop(status.members.remove(0));
        check(removed, "was removed from the group", "in the setting masters");
        let replaced = |status: &mut Status| {
            status.leader = Some(member(2));
            status.hears_leader = false;
            status.leader_heard = Some(Duration::from_secs(7));
        };
        check(replaced, "nothing is heard from it for 7 s", "forebay masters list");
        check(replaced, "while a majority of the masters answers", "forebay masters add m1:7400");
        let waits = |status: &mut Status| {
            status.leader = None;
            status.members.clear();
            status.waiting = Some("nobody has taken it in".to_owned());
        };
        check(waits, "belongs to no group", "forebay masters add m1:7400 --replace m1:7400");
    }
}
