//! openraft's types with ours put in, and the way between its entries and the log's records.

use std::fmt;
use std::io;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership, OptionalSend, RaftTypeConfig};

use crate::log::{Position, Record, RecordKind, StoredVote};
use crate::members::Members;

/// One leader a term at most; commands and replies are opaque bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = Reply;
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, Peer>;
    type Entry = openraft::impls::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = crate::runtime::Runtime;
    type Responder<T>
        = Proposer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Who waits for the reply to a command, and the room that the command takes until it has one, also when nobody waits any more.
pub(crate) struct Proposer<T> {
    pub(crate) reply: tokio::sync::oneshot::Sender<T>,
    pub(crate) room: tokio::sync::OwnedSemaphorePermit,
}

impl<T: OptionalSend + 'static> openraft::raft::responder::Responder<Types, T> for Proposer<T> {
    fn on_complete(self, result: T) {
        drop(self.room);
        // Who is gone needs no reply.
        let _ = self.reply.send(result);
    }
}

pub(crate) type LeaderTerm = openraft::alias::CommittedLeaderIdOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<Types>;
pub(crate) type RaftVote = openraft::alias::VoteOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

pub(crate) type StoredMembers = openraft::alias::StoredMembershipOf<Types>;

/// What the group knows of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// `host:port`.
    pub(crate) address: String,
    /// Which of its directories belongs to the group: a member that lost its log is another one. Zero in a group of one that an older
    /// release made.
    pub(crate) incarnation: u64,
}

/// What the state machine gets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

/// What the state machine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<StoredVote> for RaftVote {
    fn from(vote: StoredVote) -> RaftVote {
        match vote.committed {
            true => RaftVote::new_committed(vote.term, vote.member),
            false => RaftVote::new(vote.term, vote.member),
        }
    }
}

/// The place as openraft names it.
pub(crate) fn log_id(position: Position) -> LogId {
    LogId::new(LeaderTerm::new(position.term), position.index)
}

/// The place as the log names it.
pub(crate) fn position(id: LogId) -> Position {
    Position { term: id.leader_id.term, index: id.index }
}

/// An entry as the log stores it.
pub(crate) fn to_record(entry: RaftEntry) -> Record {
    let Position { term, index } = position(entry.log_id);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (RecordKind::Blank, Bytes::new()),
        EntryPayload::Normal(command) => (RecordKind::Command, command.0),
        EntryPayload::Membership(members) => (RecordKind::Members, Members::of(&members).encode()),
    };
    Record { index, term, kind, payload }
}

/// A record as openraft has it.
pub(crate) fn to_entry(record: Record) -> io::Result<RaftEntry> {
    let Record { index, term, .. } = record;
    let payload = match record.kind {
        RecordKind::Blank => EntryPayload::Blank,
        RecordKind::Command => EntryPayload::Normal(Command(record.payload)),
        RecordKind::Members => EntryPayload::Membership(membership(&record.payload)?),
    };
    Ok(RaftEntry { log_id: log_id(Position { term, index }), payload })
}

fn membership(payload: &[u8]) -> io::Result<Membership<u64, Peer>> {
    Members::decode(payload).and_then(|members| members.membership()).map_err(invalid)
}

/// The error of stored bytes that make no sense.
pub(crate) fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
