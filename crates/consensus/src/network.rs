//! openraft's requests to other members, put into messages and sent over the transport. The network as a hard problem is bounded here: each
//! call has a deadline, each stream a window of unconfirmed bytes, and silence ends it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream as RaftStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;

use crate::applier::SnapshotDir;
use crate::apply_thread::ClusterVersion;
use crate::log::Log;
use crate::messages::{Answer, Append, Appended, Ask, Candidacy, Outcome, Reply, Request, Transfer, open, seal};
use crate::raft_types::{Peer, RaftVote, Types, to_record};
use crate::runtime::timeout;
use crate::settings::{Member, MemberId, Settings};
use crate::transport::{Transport, TransportError};
use crate::window::Window;

/// The way to all other members. Without a transport nobody is reachable, so that a member that was told of others by its log
/// cannot be taken for a quorum.
#[derive(Clone)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Option<Arc<dyn Transport>>,
    log: Arc<Log>,
    settings: Settings,
    cluster_version: ClusterVersion,
    /// What went wrong last with each member, until it works again.
    trouble: Mutex<BTreeMap<u64, String>>,
    /// Where members are that have moved, by where those who began to call them before do so.
    moved: Mutex<BTreeMap<(u64, String), String>>,
    /// What each has got on with in snapshots, in steps that were confirmed or that only this member had to do.
    steps: Mutex<BTreeMap<u64, u64>>,
}

impl Peers {
    pub(crate) fn new(
        transport: Option<Arc<dyn Transport>>,
        log: Arc<Log>,
        settings: Settings,
        cluster_version: ClusterVersion,
    ) -> Peers {
        Peers {
            shared: Arc::new(Shared {
                transport,
                log,
                settings,
                cluster_version,
                trouble: Mutex::default(),
                moved: Mutex::default(),
                steps: Mutex::default(),
            }),
        }
    }

    /// What went wrong last with a member, if it does not work now.
    pub(crate) fn trouble(&self, member: MemberId) -> Option<String> {
        self.shared.trouble.lock().get(&member.0).cloned()
    }

    /// From now on a member that was at one address is called at the other one, also by those who have begun before.
    pub(crate) fn moved(&self, member: MemberId, from: &str, to: &str) {
        let mut moved = self.shared.moved.lock();
        moved.remove(&(member.0, to.to_owned()));
        moved.iter_mut().filter(|((id, _), _)| *id == member.0).for_each(|(_, at)| to.clone_into(at));
        moved.insert((member.0, from.to_owned()), to.to_owned());
    }

    /// A member is gone, or begins anew: nothing that was true of it before is true any more.
    pub(crate) fn forget(&self, member: MemberId) {
        self.shared.moved.lock().retain(|(id, _), _| *id != member.0);
        self.shared.trouble.lock().remove(&member.0);
        self.shared.steps.lock().remove(&member.0);
    }

    /// Grows whenever a member gets on with a snapshot.
    pub(crate) fn steps(&self, member: MemberId) -> u64 {
        self.shared.steps.lock().get(&member.0).copied().unwrap_or_default()
    }

    /// The way to whoever is at that address.
    pub(crate) fn to(&self, member: Member) -> Client {
        Client { shared: self.shared.clone(), member, incarnation: 0, follows: false, heartbeat: false }
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Client;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Client {
        let member = Member { id: MemberId(target), address: peer.address.clone() };
        Client { incarnation: peer.incarnation, follows: true, ..self.to(member) }
    }

    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> Client {
        Client { heartbeat: true, ..self.new_client(target, peer).await }
    }
}

/// The way to one member.
pub(crate) struct Client {
    shared: Arc<Shared>,
    member: Member,
    /// Which directory of it the group knows; zero for any, where the question is just that.
    incarnation: u64,
    /// It is called where it is now, though it has moved since.
    follows: bool,
    /// One short message at a time: no stream is worth it.
    heartbeat: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// See [`TransportError::Unreachable`]; also one that refuses.
    #[error("the master at {1}: {2}")]
    Unreachable(u64, String, String),
    /// It may work at once.
    #[error("the master at {1}: {2}")]
    Broken(u64, String, String),
    /// Nothing came in time.
    #[error("the master at {1}: no answer within {2:?}")]
    Silent(u64, String, Duration),
}

impl Client {
    /// The settings of this member.
    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The member has got on with a snapshot.
    pub(crate) fn got_on(&self) {
        *self.shared.steps.lock().entry(self.member.id.0).or_default() += 1;
    }

    /// Asks and waits for the answer. A refusal is an error.
    pub(crate) async fn ask(&self, ask: Ask, deadline: Duration) -> Result<Answer, CallError> {
        let answer = self.ask_once(ask, deadline).await;
        self.note(answer.as_ref().err());
        answer
    }

    /// As [`Client::ask`], but what goes wrong is the caller's matter alone.
    pub(crate) async fn ask_once(&self, ask: Ask, deadline: Duration) -> Result<Answer, CallError> {
        let transport = self.transport()?;
        let call = transport.call(&self.there(), self.seal(ask), deadline);
        match timeout(deadline, call).await {
            Ok(Ok(reply)) => self.open(reply),
            Ok(Err(error)) => Err(self.lost(error)),
            Err(_) => Err(CallError::Silent(self.member.id.0, self.member.address.clone(), deadline)),
        }
    }

    /// The member, where it is now.
    pub(crate) fn there(&self) -> Member {
        let Member { id, address } = self.member.clone();
        if !self.follows {
            return self.member.clone();
        }
        let moved = self.shared.moved.lock().get(&(id.0, address.clone())).cloned();
        Member { id, address: moved.unwrap_or(address) }
    }

    fn transport(&self) -> Result<&Arc<dyn Transport>, CallError> {
        let none = || self.unreachable("this member was started without a way to others".to_owned());
        self.shared.transport.as_ref().ok_or_else(none)
    }

    fn seal(&self, ask: Ask) -> Bytes {
        let identity = self.shared.log.identity();
        seal(&Request {
            group: identity.group,
            from: identity.member,
            to: self.member.id.0,
            incarnation: self.incarnation,
            ask: Some(ask),
            lease_ms: self.shared.settings.lease_ms(),
            cluster_version: self.shared.cluster_version.get(),
        })
    }

    fn open(&self, reply: Bytes) -> Result<Answer, CallError> {
        match open::<Reply>(reply).map(|reply| reply.answer) {
            Ok(Some(Answer::Refused(reason))) => Err(self.unreachable(reason)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.strange()),
            Err(reason) => Err(self.broken(reason)),
        }
    }

    /// The error of an answer to another question.
    pub(crate) fn strange(&self) -> CallError {
        self.broken("it answered something else than was asked".to_owned())
    }

    fn unreachable(&self, reason: String) -> CallError {
        CallError::Unreachable(self.member.id.0, self.member.address.clone(), reason)
    }

    fn broken(&self, reason: String) -> CallError {
        CallError::Broken(self.member.id.0, self.member.address.clone(), reason)
    }

    fn lost(&self, error: TransportError) -> CallError {
        match error {
            TransportError::Unreachable(_) => self.unreachable(error.to_string()),
            TransportError::Broken(_) => self.broken(error.to_string()),
        }
    }

    /// Keeps the trouble with this member for who asks, and tells the log when it changes.
    fn note(&self, error: Option<&CallError>) {
        let mut trouble = self.shared.trouble.lock();
        let Some(error) = error else {
            if trouble.remove(&self.member.id.0).is_some() {
                tracing::info!(master = self.member.address, "another master answers again");
            }
            return;
        };
        let text = error.to_string();
        if trouble.get(&self.member.id.0) != Some(&text) {
            tracing::warn!("{text}");
            trouble.insert(self.member.id.0, text);
        }
    }

    /// A stream gets no answer for this long: it is dead. The follower answers when it has synced.
    fn silence(&self, option: &RPCOption) -> Duration {
        option.soft_ttl().max(self.shared.settings.election_timeout)
    }

    async fn appends(
        &self,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        silence: Duration,
    ) -> Result<Appends<'_>, CallError> {
        let window = Window::new(self.shared.settings.peer_window_bytes.bytes() as usize);
        let requests = window.clone().admit(requests).boxed();
        let opening = self.transport()?.stream(&self.there(), requests);
        let replies = timeout(silence, opening).await;
        let silent = || CallError::Silent(self.member.id.0, self.member.address.clone(), silence);
        let replies = replies.map_err(|_| silent())?.map_err(|error| self.lost(error))?;
        Ok(Appends { client: self, replies, window, silence })
    }
}

/// One stream of entries to a follower.
struct Appends<'a> {
    client: &'a Client,
    replies: BoxStream<'static, Result<Bytes, TransportError>>,
    window: Arc<Window>,
    silence: Duration,
}

impl Appends<'_> {
    /// The next reply; none when the stream has ended with everything confirmed.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, CallError>> {
        let outcome = self.reply().await?.and_then(|reply| {
            self.window.confirm();
            match self.client.open(reply)? {
                Answer::Appended(Appended { outcome: Some(outcome) }) => Ok(result_of(outcome)),
                _ => Err(self.client.strange()),
            }
        });
        self.client.note(outcome.as_ref().err());
        Some(outcome)
    }

    async fn reply(&mut self) -> Option<Result<Bytes, CallError>> {
        loop {
            match timeout(self.silence / 2, self.replies.next()).await {
                Ok(Some(reply)) => return Some(reply.map_err(|error| self.client.lost(error))),
                Ok(None) if self.window.waiting().is_none() => return None,
                Ok(None) => return Some(Err(self.client.broken("it ended the stream".to_owned()))),
                Err(_) if self.window.waiting().is_some_and(|waiting| waiting >= self.silence) => {
                    let Member { id, address } = &self.client.member;
                    return Some(Err(CallError::Silent(id.0, address.clone(), self.silence)));
                }
                Err(_) => {}
            }
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotDir;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.ask(append(request), option.soft_ttl()).await;
        match answer.map_err(|e| rpc(e, RPCTypes::AppendEntries))? {
            Answer::Appended(Appended { outcome: Some(outcome) }) => Ok(match outcome {
                Outcome::Durable(upto) => AppendEntriesResponse::PartialSuccess(upto.at.map(Into::into)),
                Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
                Outcome::Higher(vote) => AppendEntriesResponse::HigherVote(vote.into()),
            }),
            _ => Err(rpc(self.strange(), RPCTypes::AppendEntries)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<RaftStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeat {
            return stream_append_sequential(self, input, option);
        }
        let silence = self.silence(&option);
        let to = self.shared.clone();
        let target = Client { shared: to, member: self.member.clone(), ..*self };
        let requests = input.map(move |request| target.seal(append(request)));
        Box::pin(async move {
            let appends = self.appends(requests, silence).await;
            self.note(appends.as_ref().err());
            let appends = appends.map_err(|e| rpc(e, RPCTypes::AppendEntries))?;
            let results = futures::stream::unfold(Some(appends), |appends| async move {
                let mut appends = appends?;
                let result = appends.next().await?.map_err(|e| rpc(e, RPCTypes::AppendEntries));
                // What openraft expects: after anything but a success there is no more.
                let goes_on = matches!(result, Ok(Ok(_)));
                Some((result, goes_on.then_some(appends)))
            });
            Ok(Box::pin(results) as RaftStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.candidate(Ask::Vote(candidacy(&request)), option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.candidate(Ask::PreVote(candidacy(&request)), option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: openraft::alias::SnapshotOf<Types, SnapshotDir>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = crate::snapshot_send::send(self, vote, &snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(e) => Err(StreamingError::Unreachable(Unreachable::from_string(e))),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let from = *request.from_leader();
        let last = request.last_log_id().copied();
        let ask = Transfer { from: from.into(), to: *request.to_node_id(), last: last.map(Into::into) };
        let answer = self.ask(Ask::Transfer(ask), option.soft_ttl()).await;
        match answer.map_err(|e| rpc(e, RPCTypes::TransferLeader))? {
            Answer::Transferred(done) if done.refused.is_empty() => Ok(Ok(())),
            Answer::Transferred(_) => Ok(Err(TransferLeaderError::LogNotFlushed { expected: last, actual: None })),
            _ => Err(rpc(self.strange(), RPCTypes::TransferLeader)),
        }
    }
}

impl Client {
    async fn candidate(&self, ask: Ask, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.ask(ask, option.soft_ttl()).await.map_err(|e| rpc(e, RPCTypes::Vote))?;
        let Answer::Ballot(ballot) = answer else {
            return Err(rpc(self.strange(), RPCTypes::Vote));
        };
        let vote = RaftVote::from(ballot.vote);
        Ok(VoteResponse::new(vote, ballot.last.map(Into::into), ballot.granted))
    }
}

fn append(request: AppendEntriesRequest<Types>) -> Ask {
    Ask::Append(Append {
        vote: request.vote.into(),
        previous: request.prev_log_id.map(Into::into),
        committed: request.leader_commit.map(Into::into),
        entries: request.entries.into_iter().map(|entry| to_record(entry).into()).collect(),
    })
}

fn candidacy(request: &VoteRequest<Types>) -> Candidacy {
    Candidacy {
        vote: request.vote.into(),
        last: request.last_log_id.map(Into::into),
        transfer: request.leadership_transfer,
    }
}

fn result_of(outcome: Outcome) -> StreamAppendResult<Types> {
    match outcome {
        Outcome::Durable(upto) => Ok(upto.at.map(Into::into)),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(at.into())),
        Outcome::Higher(vote) => Err(StreamAppendError::HigherVote(vote.into())),
    }
}

fn rpc(error: CallError, action: RPCTypes) -> RPCError<Types> {
    match error {
        CallError::Unreachable(..) => RPCError::Unreachable(Unreachable::from_string(error)),
        CallError::Broken(..) => RPCError::Network(NetworkError::from_string(error)),
        // openraft takes the identifiers of both only for its messages.
        CallError::Silent(target, _, timeout) => RPCError::Timeout(Timeout { action, id: target, target, timeout }),
    }
}
