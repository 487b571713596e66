//! For the simulation of a group: members on simulated disks, what their messages say, and faults that are planted to see whether they are found.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use crate::log::SimulatedDisk;

use crate::consensus::{Consensus, Where};
use crate::error::OpenError;
use crate::messages::{Ask, Request, open};
use crate::settings::Settings;
use crate::state_machine::StateMachine;
use crate::transport::Transport;

/// A mistake that this crate does not make, unless it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Entries are confirmed when they are written; every other sync is left to the next one.
    AckBeforeSync,
    /// A leader serves reads by its lease as if all clocks ran alike.
    LeaseWithoutDrift,
    /// A change of the group whose leader dies half-way stays as it is.
    ChangeLeftUnfinished,
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Plants a fault into all members of this thread, or none from now on.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether it is there.
pub(crate) fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// What a message to another member is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The kind of message.
    pub what: &'static str,
    /// Entries that it carries.
    pub entries: usize,
    /// The sender says that this member leads in this term.
    pub leads: Option<(u64, u64)>,
}

/// Reads a message of [`Transport::call`] or [`Transport::stream`].
pub fn said(message: &Bytes) -> Option<Said> {
    let ask = open::<Request>(message.clone()).ok()?.ask?;
    let (what, entries, vote) = match ask {
        Ask::Identify(_) => ("identify", 0, None),
        Ask::Vote(_) => ("vote", 0, None),
        Ask::PreVote(_) => ("pre-vote", 0, None),
        Ask::Append(append) => ("append", append.entries.len(), Some(append.vote)),
        Ask::Transfer(_) => ("transfer", 0, None),
        Ask::Offer(offer) => ("offer", 0, Some(offer.vote)),
        Ask::Part(_) => ("part", 0, None),
        Ask::Finish(finish) => ("finish", 0, Some(finish.vote)),
    };
    let leads = vote.filter(|vote| vote.committed).map(|vote| (vote.term, vote.member));
    Some(Said { what, entries, leads })
}

impl Consensus {
    /// As [`Consensus::open_in_group`], with the log on a simulated disk. Checkpoints lie in `dir` on the machine's.
    pub async fn open_simulated(
        settings: Settings,
        dir: &Path,
        machine: Box<dyn StateMachine>,
        transport: Arc<dyn Transport>,
        disk: &SimulatedDisk,
    ) -> Result<Consensus, OpenError> {
        Consensus::start(settings, dir, machine, Some(transport), Where::Disk(Arc::new(disk.clone()))).await
    }
}
