//! A batch in the making: pending writes over the store, and the working copy of the state.

use super::{ApplyError, MountTable};
use crate::keys::Pending;
use crate::record::{Mount, State};
use crate::reply::{Outcome, Payload, Refusal};
use forebay_metastore::StoreError;
use std::sync::Arc;

/// Why a command stops.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It is refused, and answered so.
    Refused(Refusal),
    /// The state machine cannot go on.
    Failed(ApplyError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<ApplyError> for Stop {
    fn from(error: ApplyError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Failed(error.into())
    }
}

/// A batch in the making.
pub(crate) struct Tx {
    pub(crate) pending: Pending,
    pub(crate) state: State,
    pub(crate) mounts: MountTable,
}

impl Tx {
    pub(super) fn new(pending: Pending, state: State, mounts: MountTable) -> Tx {
        Tx { pending, state, mounts }
    }

    /// Log time: what every time stamp of the command is.
    pub(crate) fn now_ms(&self) -> u64 {
        self.state.log_time_ms
    }

    /// Moves log time on, never back. That it keeps to the pace of real time is up to the proposer.
    pub(super) fn advance_time(&mut self, time_ms: u64) -> Result<(), ApplyError> {
        let before_ms = self.state.log_time_ms;
        self.state.log_time_ms = before_ms.max(time_ms);
        super::sessions::sweep(self, before_ms)
    }

    /// Runs a command; when it is refused, everything that it changed is taken back.
    pub(super) fn attempt(
        &mut self,
        command: impl FnOnce(&mut Tx) -> Result<Payload, Stop>,
    ) -> Result<Outcome, ApplyError> {
        self.pending.begin();
        let counters = self.state.counters;
        let cluster_version = self.state.cluster_version;
        let mounts = self.mounts.clone();
        match command(self) {
            Ok(payload) => Ok(Ok(payload)),
            Err(Stop::Refused(refusal)) => {
                self.pending.undo();
                self.state.counters = counters;
                self.state.cluster_version = cluster_version;
                self.mounts = mounts;
                Ok(Err(refusal))
            }
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// A number that no inode ever had.
    pub(crate) fn new_inode_number(&mut self) -> u64 {
        let counters = &mut self.state.counters;
        counters.inode_last += 1;
        counters.inodes += 1;
        counters.inode_last
    }

    /// Adds a mount or replaces the one of its number.
    pub(crate) fn put_mount(&mut self, mount: Mount) {
        crate::keys::mount::put(&mut self.pending, &mount);
        Arc::make_mut(&mut self.mounts).insert(mount.id, Arc::new(mount));
    }

    /// Takes a mount out of the table.
    pub(crate) fn delete_mount(&mut self, mount: u32) {
        crate::keys::mount::delete(&mut self.pending, mount);
        Arc::make_mut(&mut self.mounts).remove(&mount);
    }
}
