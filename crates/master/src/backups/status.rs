//! What is told of backups in the status of the cluster.

use forebay_backup::{Manifest, Rank};
use forebay_proto::v1;
use forebay_ufs::userinfo;

/// What is told of backups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) running: bool,
    /// The newest backup that is known.
    last: Option<Rank>,
    next_ms: u64,
    failures: u32,
    failure: String,
}

impl Told {
    /// One is there.
    pub(super) fn found(&mut self, manifest: &Manifest) {
        // The clock that made one may have been wrong; the log, which comes first in the rank, is not.
        self.last = self.last.take().max(Some(manifest.rank()));
    }

    /// One was made.
    pub(super) fn made(&mut self, manifest: &Manifest) {
        self.found(manifest);
        self.failures = 0;
        self.failure.clear();
    }

    pub(super) fn next_at(&mut self, next_ms: u64) {
        self.next_ms = next_ms;
    }

    /// How many have failed now, one after the other.
    pub(super) fn failed(&mut self, why: String) -> u32 {
        self.failures += 1;
        self.failure = why;
        self.failures
    }

    /// As it goes over the wire; nothing if there is nothing to tell.
    pub(crate) fn to_wire(&self, schedule: Option<&crate::settings::BackupSchedule>) -> Option<v1::BackupStatus> {
        if schedule.is_none() && self.last.is_none() && !self.running {
            return None;
        }
        let (last, last_ms) = self.last.as_ref().map(|last| (last.id.to_string(), last.created_ms)).unwrap_or_default();
        Some(v1::BackupStatus {
            to: schedule.map(|schedule| userinfo::hidden(&schedule.to).into_owned()).unwrap_or_default(),
            every_ms: schedule.map_or(0, |schedule| schedule.every.as_millis() as u64),
            keep: schedule.map_or(0, |schedule| schedule.keep),
            running: self.running,
            last,
            last_ms,
            next_ms: self.next_ms,
            failures: self.failures,
            failure: self.failure.clone(),
        })
    }
}
