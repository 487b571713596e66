//! What members say to each other, as bytes (docs/formats/raft-messages.md): a checksum, then a protobuf message.

use bytes::{BufMut, Bytes, BytesMut};
use forebay_base::checksum::crc32c;
use prost::{Message, Oneof};

use crate::log::{Position, Record, RecordKind, StoredVote};
use crate::raft_types::{LogId, RaftVote, log_id, position};

/// Bytes of the checksum in front.
const CHECKSUM: usize = 4;

/// A message of one member to another one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    /// The group; zero only where it is not known yet, in `identify`.
    #[prost(fixed64, tag = "1")]
    pub(crate) group: u64,
    /// Who sends.
    #[prost(uint64, tag = "2")]
    pub(crate) from: u64,
    /// Who shall get it.
    #[prost(uint64, tag = "3")]
    pub(crate) to: u64,
    /// Which directory of that member the group knows; zero in `identify`.
    #[prost(fixed64, tag = "4")]
    pub(crate) incarnation: u64,
    #[prost(oneof = "Ask", tags = "5, 6, 7, 8, 9, 10, 11, 12")]
    pub(crate) ask: Option<Ask>,
    /// How long a lease is for the sender, which must be the same for all.
    #[prost(uint64, tag = "13")]
    pub(crate) lease_ms: u64,
    /// The version of the cluster's behaviour that what the sender has applied calls for. Who does not know it takes nothing.
    #[prost(uint32, tag = "14")]
    pub(crate) cluster_version: u32,
}

/// What is asked.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Ask {
    #[prost(message, tag = "5")]
    Identify(Identify),
    #[prost(message, tag = "6")]
    Vote(Candidacy),
    #[prost(message, tag = "7")]
    PreVote(Candidacy),
    #[prost(message, tag = "8")]
    Append(Append),
    #[prost(message, tag = "9")]
    Transfer(Transfer),
    #[prost(message, tag = "10")]
    Offer(Offer),
    #[prost(message, tag = "11")]
    Part(Part),
    #[prost(message, tag = "12")]
    Finish(Finish),
}

/// An answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reply {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) answer: Option<Answer>,
}

/// What is answered.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Answer {
    /// It is not done, and this is why; the same request will not be taken later either, unless somebody does something.
    #[prost(string, tag = "1")]
    Refused(String),
    #[prost(message, tag = "2")]
    Identity(Identified),
    #[prost(message, tag = "3")]
    Ballot(Ballot),
    #[prost(message, tag = "4")]
    Appended(Appended),
    #[prost(message, tag = "5")]
    Transferred(Transferred),
    /// To `offer`, `part` and `finish`.
    #[prost(message, tag = "6")]
    Received(Received),
}

/// A place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct At {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

/// For whom a member voted; `committed` once a quorum did.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) member: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

/// Who are you? With `members`: shall we be a group of these?
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Identify {
    #[prost(message, repeated, tag = "1")]
    pub(crate) members: Vec<Named>,
}

/// A member and its address.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Named {
    #[prost(uint64, tag = "1")]
    pub(crate) member: u64,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Identified {
    #[prost(uint64, tag = "1")]
    pub(crate) member: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) incarnation: u64,
    /// Zero: none yet.
    #[prost(fixed64, tag = "3")]
    pub(crate) group: u64,
    /// It has a log or a vote already.
    #[prost(bool, tag = "4")]
    pub(crate) begun: bool,
    /// How long a lease is for it.
    #[prost(uint64, tag = "5")]
    pub(crate) lease_ms: u64,
    /// What its program is, and which versions of the cluster's behaviour that knows; see [`crate::Build`].
    #[prost(string, tag = "6")]
    pub(crate) release: String,
    #[prost(uint32, tag = "7")]
    pub(crate) version_oldest: u32,
    #[prost(uint32, tag = "8")]
    pub(crate) version_newest: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Candidacy {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: Vote,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<At>,
    /// The leader wants this candidate: leases do not count.
    #[prost(bool, tag = "3")]
    pub(crate) transfer: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ballot {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: Vote,
    #[prost(bool, tag = "2")]
    pub(crate) granted: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<At>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Append {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: Vote,
    /// The entry before the first one.
    #[prost(message, optional, tag = "2")]
    pub(crate) previous: Option<At>,
    #[prost(message, optional, tag = "3")]
    pub(crate) committed: Option<At>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) entries: Vec<LogEntry>,
}

/// A record of the log (raft-log.md).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogEntry {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Appended {
    #[prost(oneof = "Outcome", tags = "1, 2, 3")]
    pub(crate) outcome: Option<Outcome>,
}

/// What became of appended entries.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Outcome {
    /// On disk up to here.
    #[prost(message, tag = "1")]
    Durable(UpTo),
    /// The entry there is another one, or missing.
    #[prost(message, tag = "2")]
    Conflict(At),
    /// There is a newer leader or candidate.
    #[prost(message, tag = "3")]
    Higher(Vote),
}

/// A place, or the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct UpTo {
    #[prost(message, optional, tag = "1")]
    pub(crate) at: Option<At>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Transfer {
    #[prost(message, required, tag = "1")]
    pub(crate) from: Vote,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<At>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Transferred {
    /// Why not; empty when it is done.
    #[prost(string, tag = "1")]
    pub(crate) refused: String,
}

/// A snapshot is to come.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Offer {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: Vote,
    /// Tells this sending from all others.
    #[prost(fixed64, tag = "2")]
    pub(crate) transfer: u64,
    /// The state machine's position, as stored beside its data (JSON).
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) applied: Bytes,
    #[prost(message, repeated, tag = "4")]
    pub(crate) files: Vec<SnapshotFile>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotFile {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) length: u64,
    #[prost(fixed32, tag = "3")]
    pub(crate) checksum: u32,
}

/// Bytes of a file of a snapshot.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Part {
    #[prost(fixed64, tag = "1")]
    pub(crate) transfer: u64,
    /// Its place in the offer.
    #[prost(uint32, tag = "2")]
    pub(crate) file: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) bytes: Bytes,
}

/// All parts are there: install it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Finish {
    #[prost(message, required, tag = "1")]
    pub(crate) vote: Vote,
    #[prost(fixed64, tag = "2")]
    pub(crate) transfer: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Received {
    /// The receiver's vote: a higher one ends the sending.
    #[prost(message, required, tag = "1")]
    pub(crate) vote: Vote,
    /// Bytes of each file of the offer that are there; nothing when the sending is not known (any more), or done.
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) lengths: Vec<u64>,
    /// The state machine is there, or further.
    #[prost(bool, tag = "3")]
    pub(crate) installed: bool,
    /// Not zero: a snapshot is being checked and installed, perhaps another one; grows as that gets on.
    #[prost(uint64, tag = "4")]
    pub(crate) working: u64,
}

/// A message as it goes over the transport.
pub(crate) fn seal(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(CHECKSUM + message.encoded_len());
    bytes.put_u32_le(0);
    message.encode(&mut bytes).expect("the buffer grows");
    let checksum = crc32c(&bytes[CHECKSUM..]);
    bytes[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes.freeze()
}

/// Reads what [`seal`] made. The error says what is wrong.
pub(crate) fn open<M: Message + Default>(mut bytes: Bytes) -> Result<M, String> {
    if bytes.len() < CHECKSUM {
        return Err(format!("a message of {} bytes is too short", bytes.len()));
    }
    let checksum = bytes.split_to(CHECKSUM);
    if checksum[..] != crc32c(&bytes).to_le_bytes() {
        return Err("a message was damaged on the way".to_owned());
    }
    M::decode(bytes).map_err(|e| format!("a message is not readable: {e}"))
}

impl From<RaftVote> for Vote {
    fn from(vote: RaftVote) -> Vote {
        Vote { term: vote.leader_id.term, member: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<Vote> for RaftVote {
    fn from(vote: Vote) -> RaftVote {
        StoredVote { term: vote.term, member: vote.member, committed: vote.committed }.into()
    }
}

impl From<LogId> for At {
    fn from(id: LogId) -> At {
        let Position { term, index } = position(id);
        At { term, index }
    }
}

impl From<At> for LogId {
    fn from(at: At) -> LogId {
        log_id(Position { term: at.term, index: at.index })
    }
}

impl From<Record> for LogEntry {
    fn from(record: Record) -> LogEntry {
        let Record { index, term, kind, payload } = record;
        LogEntry { index, term, kind: u32::from(kind.code()), payload }
    }
}

impl LogEntry {
    /// As a record; the error says what it is not.
    pub(crate) fn record(self) -> Result<Record, String> {
        let LogEntry { index, term, kind, payload } = self;
        let kind = u8::try_from(kind).ok().and_then(RecordKind::from_code);
        let kind = kind.ok_or_else(|| format!("entry {index} is of a kind that this release does not know"))?;
        Ok(Record { index, term, kind, payload })
    }
}
