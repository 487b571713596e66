//! What this member does with the messages of others: checks that they are meant for it, and hands them to the engine.
//!
//! Invariants:
//! - A message for another group, another member, or another directory of this member changes nothing. So a member that lost its log
//!   neither votes nor confirms entries under the name that it had.
//! - After a start nobody gets a vote before every lease has run out that was granted by what this member confirmed before the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest};
use openraft::type_config::alias::LogIdOf;
use parking_lot::Mutex;

use crate::forming::other_lease;
use crate::log::Log;
use crate::messages::{
    Answer, Append, Appended, Ask, Ballot, Candidacy, Identified, Identify, LogEntry, Outcome, Reply, Request,
    Transfer, Transferred, UpTo, open, seal,
};
use crate::raft_types::{Types, invalid, to_entry};
use crate::runtime::{Instant, spawn_blocking};
use crate::settings::{Formation, Settings};
use crate::snapshot_receive::Receiver;
use crate::start::{Engine, metrics_of};

/// The receiving end of one member.
pub(crate) struct Listener {
    pub(crate) raft: Engine,
    pub(crate) log: Arc<Log>,
    pub(crate) settings: Settings,
    /// Nobody gets this member's vote before.
    pub(crate) votes_from: Instant,
    pub(crate) receiver: Receiver,
    /// The log has said already that this program is too old for its group.
    pub(crate) told_too_old: AtomicBool,
    /// When this member last took something from a leader.
    pub(crate) heard: Mutex<Option<Instant>>,
}

impl Listener {
    /// Answers one message.
    pub(crate) async fn handle(&self, message: Bytes) -> Bytes {
        seal(&Reply { answer: Some(self.answer(message).await.unwrap_or_else(Answer::Refused)) })
    }

    /// Answers the messages of a stream of entries, in order, until one is not taken.
    pub(crate) fn handle_stream(self: Arc<Self>, messages: BoxStream<'static, Bytes>) -> BoxStream<'static, Bytes> {
        let refusal = Arc::new(Mutex::new(None));
        let (raft, refused, listener) = (self.raft.clone(), refusal.clone(), self.clone());
        let requests = messages.then(move |message| {
            let listener = self.clone();
            async move { listener.entries(message).await }
        });
        let taken = requests.scan((), move |(), request| {
            let request = request.map_err(|reason| *refused.lock() = Some(reason)).ok();
            std::future::ready(request)
        });
        let answers = raft.stream_append(taken).map(move |result| match result {
            Ok(result) => listener.appended(result),
            Err(fatal) => Answer::Refused(fatal.to_string()),
        });
        let last = futures::stream::once(async move { refusal.lock().take() });
        let last = last.filter_map(|refusal| std::future::ready(refusal.map(Answer::Refused)));
        answers.chain(last).map(|answer| seal(&Reply { answer: Some(answer) })).boxed()
    }

    async fn entries(&self, message: Bytes) -> Result<AppendEntriesRequest<Types>, String> {
        match self.admit(message).await?.1 {
            Ask::Append(append) => request_of(append),
            _ => Err("a stream takes entries only".to_owned()),
        }
    }

    async fn answer(&self, message: Bytes) -> Result<Answer, String> {
        let (group, ask) = self.admit(message).await?;
        match ask {
            Ask::Identify(identify) => self.identify(group, &identify).await,
            Ask::Vote(candidacy) => self.vote(candidacy, false).await,
            Ask::PreVote(candidacy) => self.vote(candidacy, true).await,
            Ask::Append(append) => self.append(append).await,
            Ask::Transfer(transfer) => self.transfer(transfer).await,
            Ask::Offer(offer) => self.receiver.offer(&self.raft, offer).await.map(Answer::Received),
            Ask::Part(part) => self.receiver.part(&self.raft, part).await.map(Answer::Received),
            Ask::Finish(finish) => self.receiver.finish(&self.raft, finish).await.map(Answer::Received),
        }
    }

    /// Reads a message and checks whom it is for.
    async fn admit(&self, message: Bytes) -> Result<(u64, Ask), String> {
        let request: Request = open(message)?;
        let identity = self.log.identity();
        let ask = request.ask.ok_or("a message asks something that this release does not know")?;
        if request.to != identity.member {
            return Err(format!(
                "this is the master at {} (member {}), not member {}; check the list of masters, or, where its group is to take another master in, run: forebay masters add ADDRESS",
                self.settings.member.address, identity.member, request.to
            ));
        }
        if matches!(ask, Ask::Identify(_)) {
            return Ok((request.group, ask));
        }
        if request.incarnation != identity.incarnation {
            return Err(format!(
                "the directory of the master at {} is not the one that the group knows: it was lost and made anew, or is a copy; replace that master",
                self.settings.member.address
            ));
        }
        let lease_ms = self.settings.lease_ms();
        if request.lease_ms != lease_ms {
            // What this member confirms is worth a lease to the leader, and what it grants to a candidate ends one.
            return Err(other_lease(lease_ms, request.lease_ms));
        }
        self.knows(request.cluster_version)?;
        self.belong(request.group).await?;
        Ok((request.group, ask))
    }

    /// Refuses what comes of a version of behaviour that this program does not know: it could neither apply it nor understand a state of it. A version that
    /// is too old for it is no matter here: who sends may lag behind.
    fn knows(&self, version: u32) -> Result<(), String> {
        let build = &self.settings.build;
        if version <= build.versions.newest {
            return Ok(());
        }
        let why = build.lacks(version).unwrap_or_default();
        if !self.told_too_old.swap(true, Ordering::Relaxed) {
            tracing::error!("this member takes nothing from the others: {why}");
        }
        Err(why)
    }

    /// Makes sure that this member belongs to `group`: a new one does from its first message on.
    async fn belong(&self, group: u64) -> Result<(), String> {
        let mut mine = self.log.identity().group;
        if mine == 0 && group != 0 {
            let log = self.log.clone();
            let stored = spawn_blocking(move || log.belong_to(group)).await;
            mine = stored.map_err(|e| e.to_string())?.map_err(|e| format!("cannot store the group: {e}"))?;
        }
        match mine == group && group != 0 {
            true => Ok(()),
            false => Err("this member belongs to another group of masters".to_owned()),
        }
    }

    async fn identify(&self, group: u64, identify: &Identify) -> Result<Answer, String> {
        if !identify.members.is_empty() {
            self.promise(group, identify).await?;
        }
        let identity = self.log.identity();
        Ok(Answer::Identity(Identified {
            member: identity.member,
            incarnation: identity.incarnation,
            group: identity.group,
            begun: self.begun(),
            lease_ms: self.settings.lease_ms(),
            release: self.settings.build.release.clone(),
            version_oldest: self.settings.build.versions.oldest,
            version_newest: self.settings.build.versions.newest,
        }))
    }

    /// Agrees to make a group with those members, and with no others from here on.
    async fn promise(&self, group: u64, identify: &Identify) -> Result<(), String> {
        let Formation::Group(members) = &self.settings.formation else {
            return Err(
                "this member was not started to make a group: give all of them the same list of masters".to_owned()
            );
        };
        let mut mine: Vec<_> = members.iter().map(|m| (m.id.0, m.address.as_str())).collect();
        let mut theirs: Vec<_> = identify.members.iter().map(|m| (m.member, m.address.as_str())).collect();
        mine.sort_unstable();
        theirs.sort_unstable();
        if mine != theirs {
            let mine: Vec<&str> = mine.into_iter().map(|(_, address)| address).collect();
            return Err(format!("this master has another list of masters, {mine:?}; give all of them the same"));
        }
        if self.begun() {
            return Err(
                "this member belongs to a group already; a directory that is new joins it by being added or replaced"
                    .to_owned(),
            );
        }
        self.belong(group).await
    }

    fn begun(&self) -> bool {
        self.log.bounds().1.is_some() || self.log.vote().is_some()
    }

    async fn vote(&self, candidacy: Candidacy, before: bool) -> Result<Answer, String> {
        let (vote, last) = (candidacy.vote.into(), candidacy.last.map(LogIdOf::<Types>::from));
        if !candidacy.transfer && Instant::now() < self.votes_from {
            let vote = metrics_of(&self.raft).vote.into();
            return Ok(Answer::Ballot(Ballot { vote, granted: false, last: None }));
        }
        let request = VoteRequest { leadership_transfer: candidacy.transfer, ..VoteRequest::new(vote, last) };
        let answer = match before {
            true => self.raft.pre_vote(request).await,
            false => self.raft.vote(request).await,
        };
        let answer = answer.map_err(|e| e.to_string())?;
        let last = answer.last_log_id.map(Into::into);
        Ok(Answer::Ballot(Ballot { vote: answer.vote.into(), granted: answer.vote_granted, last }))
    }

    async fn append(&self, append: Append) -> Result<Answer, String> {
        let request = request_of(append)?;
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let answer = self.raft.append_entries(request).await.map_err(|e| e.to_string())?;
        Ok(self.appended(answer.into_stream_result(previous, last)))
    }

    /// Says what has come of entries, and notes that there is a leader, unless it was one of an earlier term.
    fn appended(&self, result: StreamAppendResult<Types>) -> Answer {
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            *self.heard.lock() = Some(Instant::now());
        }
        Answer::Appended(appended(result))
    }

    async fn transfer(&self, transfer: Transfer) -> Result<Answer, String> {
        let request = TransferLeaderRequest::new(transfer.from.into(), transfer.to, transfer.last.map(Into::into));
        let done = self.raft.handle_transfer_leader(request).await.map_err(|e| e.to_string())?;
        let refused = done.err().map(|e| e.to_string()).unwrap_or_default();
        Ok(Answer::Transferred(Transferred { refused }))
    }
}

fn request_of(append: Append) -> Result<AppendEntriesRequest<Types>, String> {
    let entry = |entry: LogEntry| entry.record().and_then(|record| to_entry(record).map_err(|e| e.to_string()));
    let entries: Result<Vec<_>, String> = append.entries.into_iter().map(entry).collect();
    let request = AppendEntriesRequest {
        vote: append.vote.into(),
        prev_log_id: append.previous.map(Into::into),
        leader_commit: append.committed.map(Into::into),
        entries: entries?,
    };
    check_order(&request).map_err(|e| e.to_string())?;
    Ok(request)
}

/// The engine takes it for granted: entries without gaps, of terms that do not fall, none after that of the leader who sends them.
fn check_order(request: &AppendEntriesRequest<Types>) -> std::io::Result<()> {
    let first = request.prev_log_id.map_or(0, |previous| previous.index + 1);
    let terms = request.prev_log_id.iter().chain(request.entries.iter().map(|entry| &entry.log_id));
    let terms = terms.map(|id| id.leader_id.term).chain([request.vote.leader_id.term]);
    if !request.vote.committed || !terms.is_sorted() {
        return Err(invalid("entries came in the name of one who cannot have led when they were made".to_owned()));
    }
    for (expected, entry) in (first..).zip(&request.entries) {
        if entry.log_id.index != expected {
            return Err(invalid(format!("entry {} came where {expected} was to come", entry.log_id.index)));
        }
    }
    Ok(())
}

fn appended(result: StreamAppendResult<Types>) -> Appended {
    let outcome = match result {
        Ok(at) => Outcome::Durable(UpTo { at: at.map(Into::into) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(at.into()),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::Higher(vote.into()),
    };
    Appended { outcome: Some(outcome) }
}
