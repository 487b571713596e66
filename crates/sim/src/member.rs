//! One member of the group in one life, with what a master has around it: requests of clients find it through its seat.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use forebay_consensus::{Consensus, ConsensusError, Lead};
use forebay_namespace::command::Action;
use forebay_namespace::{Command, Request};
use forebay_vtime::Host;
use parking_lot::Mutex;

use crate::checks::Checks;
use crate::net::at_address;
use crate::state::{State, index_of};
use crate::trace::Trace;
use crate::work::{Out, look};

/// 2026-11-23, in milliseconds: when all wall clocks began.
const EPOCH_MS: i64 = 1_795_392_000_000;

/// What runs on a member's host.
pub(crate) struct Serving {
    pub(crate) id: u64,
    pub(crate) host: Host,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) state: State,
    /// While it leads, as far as it knows.
    pub(crate) seat: Mutex<Option<Lead>>,
    /// How wrong its wall clock is.
    pub(crate) wall_offset_ms: AtomicI64,
    /// What the last read of each directory saw, told by the next one: a fault that is planted.
    pub(crate) seen_before: Option<Mutex<BTreeMap<usize, Out>>>,
}

/// What a client hears.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// What the state machine said.
    Reply(Bytes),
    /// What a read has seen, after which index.
    Seen(Out, u64),
    /// Another one leads.
    Elsewhere(Option<u64>),
    /// Nobody knows.
    Unknown,
}

impl Serving {
    /// Sits down whenever it leads, for ever.
    pub(crate) async fn sit(self: Arc<Self>, trace: Trace, checks: Checks) {
        while let Ok(lead) = self.consensus.lead().await {
            trace.note(format_args!("{} leads in term {}", self.id, lead.term));
            checks.leads(lead.term, self.id);
            *self.seat.lock() = Some(lead);
            self.consensus.lead_ends(lead).await;
            *self.seat.lock() = None;
            trace.note(format_args!("{} leads no more in term {}", self.id, lead.term));
        }
    }

    /// Carries a client's request out.
    pub(crate) async fn write(&self, request: Request, action: Action) -> Answer {
        let Some(lead) = *self.seat.lock() else {
            return self.elsewhere();
        };
        let command = Command::requested(request, self.wall_ms(), action);
        match self.consensus.propose_in(lead, command.to_bytes()).await {
            Ok(reply) => Answer::Reply(reply),
            Err(error) => self.failed(&error),
        }
    }

    /// Reads a directory.
    pub(crate) async fn read(&self, directory: usize) -> Answer {
        if self.seat.lock().is_none() {
            return self.elsewhere();
        }
        match self.consensus.read_barrier().await {
            Ok(()) => {
                let snapshot = self.state.snapshot();
                let seen = look(&snapshot, directory);
                let before = self.seen_before.as_ref().and_then(|all| all.lock().insert(directory, seen.clone()));
                Answer::Seen(before.unwrap_or(seen), index_of(&snapshot))
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &ConsensusError) -> Answer {
        match error {
            ConsensusError::NotLeader { leader } => Answer::Elsewhere(leader.as_ref().map(at_address)),
            _ => Answer::Unknown,
        }
    }

    fn elsewhere(&self) -> Answer {
        Answer::Elsewhere(self.consensus.leader().as_ref().map(at_address))
    }

    fn wall_ms(&self) -> u64 {
        let wall = EPOCH_MS + self.host.now().as_millis() as i64 + self.wall_offset_ms.load(Ordering::Relaxed);
        wall.max(0) as u64
    }
}
