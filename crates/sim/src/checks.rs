//! What must hold, looked at whenever something happens. What does not ends the run.
//!
//! - **One log.** Whoever applies an index applies the same command there as everybody else, with the same reply, also after restarts.
//! - **One state.** After equal indexes all members have equal states.
//! - **One leader a term.**
//! - **Nothing acknowledged is lost**: it is in that log, and at the end in every member's state.
//! - **Once.** A request that is applied again gets its first reply.
//! - **Reads see what was there**: everything that was acknowledged, or read by anybody, before the read began.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_namespace::Command;
use forebay_namespace::reply::{self, Reason};
use parking_lot::Mutex;
use prost::Message as _;

/// What all members and clients have in common; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Checks(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The hash of the command and its reply at each index, and who applied it first.
    log: BTreeMap<u64, (u64, u64)>,
    /// The digest of the state after an index.
    states: BTreeMap<u64, (u64, u64)>,
    leaders: BTreeMap<u64, u64>,
    /// Where a request was applied first, and what it was answered.
    requests: BTreeMap<(u64, u64), (u64, Bytes)>,
    /// Reads that begin now see at least up to here.
    floor: u64,
    /// The last index whose command was acknowledged.
    acknowledged: u64,
    counts: Counts,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Commands in the log.
    pub commands: u64,
    /// Requests answered.
    pub acknowledged: u64,
    /// Reads answered.
    pub reads: u64,
    /// Terms with a leader.
    pub terms: u64,
    /// Comparisons of states.
    pub states_compared: u64,
    /// Commands that were applied again after a restart or on another member.
    pub applied_again: u64,
    /// Requests that came again and were answered from memory.
    pub repeated: u64,
}

impl Checks {
    /// A member has applied a command.
    pub(crate) fn applied(&self, member: u64, index: u64, command: &Bytes, reply: &Bytes) {
        let mut known = self.0.lock();
        let hash = hash_of(&(command, reply));
        match known.log.get(&index).copied() {
            Some((before, first)) => {
                assert!(
                    before == hash,
                    "member {member} applied at index {index} another command than member {first}, or answered it otherwise"
                );
                known.counts.applied_again += 1;
            }
            None => {
                known.log.insert(index, (hash, member));
                known.counts.commands += 1;
                known.once(index, command, reply);
            }
        }
    }

    /// A member's state has this digest after an index.
    pub(crate) fn state(&self, member: u64, index: u64, digest: u64) {
        let mut known = self.0.lock();
        let (before, first) = *known.states.entry(index).or_insert((digest, member));
        assert!(before == digest, "after index {index} member {member} has another state than member {first}");
        known.counts.states_compared += u64::from(first != member);
    }

    /// A member says that one leads.
    pub(crate) fn leads(&self, term: u64, member: u64) {
        let mut known = self.0.lock();
        let first = *known.leaders.entry(term).or_insert(member);
        assert!(first == member, "member {member} leads in term {term}, in which member {first} leads");
        known.counts.terms = known.leaders.len() as u64;
    }

    /// A client has the answer to its request.
    pub(crate) fn acknowledged(&self, client: u64, sequence: u64) {
        let mut known = self.0.lock();
        let applied = known.requests.get(&(client, sequence)).map(|(index, _)| *index);
        let index =
            applied.unwrap_or_else(|| panic!("request {sequence} of client {client} was answered and never applied"));
        known.floor = known.floor.max(index);
        known.acknowledged = known.acknowledged.max(index);
        known.counts.acknowledged += 1;
    }

    /// What a read that begins now has to see.
    pub(crate) fn floor(&self) -> u64 {
        self.0.lock().floor
    }

    /// A read that began at `floor` was answered from the state after `index`.
    pub(crate) fn read(&self, member: u64, floor: u64, index: u64) {
        let mut known = self.0.lock();
        assert!(index >= floor, "member {member} answered a read from index {index}, and {floor} was known before it");
        known.floor = known.floor.max(index);
        known.counts.reads += 1;
    }

    /// The last index whose command was acknowledged.
    pub(crate) fn last_acknowledged(&self) -> u64 {
        self.0.lock().acknowledged
    }

    /// What was seen so far.
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().counts
    }
}

impl Known {
    /// A request is carried out once; later it gets the same answer, unless that is forgotten.
    fn once(&mut self, index: u64, command: &Bytes, reply: &Bytes) {
        let command = Command::decode(command.clone()).expect("commands of clients are whole");
        let Some(request) = command.request else {
            return;
        };
        let id = (request.client, request.sequence);
        let Some((first, answer)) = self.requests.get(&id) else {
            self.requests.insert(id, (index, reply.clone()));
            return;
        };
        let is_forgotten = reply::decode(reply).is_err_and(|refusal| refusal.reason() == Reason::Forgotten);
        let may_again = reply::decode(answer).is_err_and(|refusal| refusal.error_kind() == ErrorKind::Unavailable);
        assert!(
            answer == reply || is_forgotten || may_again,
            "request {} of client {} was answered at index {first}, and at index {index} it was carried out again",
            request.sequence,
            request.client
        );
        self.counts.repeated += u64::from(answer == reply);
        if may_again {
            self.requests.insert(id, (index, reply.clone()));
        }
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
