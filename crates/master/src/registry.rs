//! The live workers, in memory: who called within the time-out, by the monotonic clock.
//!
//! Each change of the set, of an address or of the mounts gives the view a new epoch, by which clients and workers notice that theirs is
//! old. Epochs start above those of the last run: their upper bits are the applied position of the log at the change.
//!
//! A master that begins to lead knows nobody. Until every worker that lives has had the time to call, the view says that it is not settled, and
//! who has it keeps the workers that he knew before: blocks stay where they are.

use forebay_base::WorkerId;
use forebay_proto::v1;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Freed inodes that wait to be told to workers. At the bound the oldest are forgotten: their pages then leave the caches by age.
const FREED_MAX: usize = 100_000;
/// Freed inodes told in one heartbeat: 8 KiB to 80 KiB of message.
const FREED_PER_HEARTBEAT: usize = 8192;
/// Workers remembered; the longest silent one is forgotten beyond it.
const WORKERS_MAX: usize = 10_000;

struct Member {
    address: v1::WorkerAddress,
    status: v1::WorkerStatus,
    called: Instant,
    called_ms: u64,
    live: bool,
    /// The position in the sequence of freed inodes up to which it was told.
    told: u64,
}

struct Table {
    epoch: u64,
    /// Who has not called by then is not live.
    settles: Option<Instant>,
    workers: BTreeMap<WorkerId, Member>,
    freed: VecDeque<u64>,
    /// Sequence number of the first of `freed`.
    freed_from: u64,
}

/// The registry of one master.
pub(crate) struct Registry {
    table: Mutex<Table>,
    timeout: Duration,
}

/// The live workers and the epoch of that set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Grows with each change.
    pub(crate) epoch: u64,
    /// By id.
    pub(crate) workers: Vec<v1::WorkerAddress>,
    /// Others may live that have not called yet.
    pub(crate) settling: bool,
}

impl From<View> for v1::WorkersReply {
    fn from(View { epoch, workers, settling }: View) -> v1::WorkersReply {
        v1::WorkersReply { epoch, workers, settling }
    }
}

/// What a heartbeat is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Beat {
    /// The worker must register again.
    Unknown,
    /// Heard.
    Heard {
        /// The epoch now; the view must be sent when it is not the worker's.
        epoch: u64,
        /// Inodes whose pages may be dropped.
        freed: Vec<u64>,
    },
}

impl Registry {
    /// Workers silent for `timeout` are not live. `position` is the applied position of the log. From `now` on it hears them.
    pub(crate) fn new(timeout: Duration, position: u64, now: Instant) -> Registry {
        Registry {
            table: Mutex::new(Table {
                epoch: first_epoch(position),
                settles: Some(now + timeout),
                workers: BTreeMap::new(),
                freed: VecDeque::new(),
                freed_from: 0,
            }),
            timeout,
        }
    }

    /// Takes a worker in, or in again with what it says now.
    pub(crate) fn register(&self, request: v1::RegisterRequest, now: Instant, now_ms: u64, position: u64) {
        let address = request.address.unwrap_or_default();
        let mut table = self.table.lock();
        let id = WorkerId(address.worker);
        let known = table.workers.get(&id);
        let changed = known.is_none_or(|member| !member.live || member.address != address);
        let told = table.freed_from + table.freed.len() as u64;
        let status = v1::WorkerStatus {
            tiers: request.tiers,
            version: request.version,
            started_ms: request.started_ms,
            ..v1::WorkerStatus::default()
        };
        let member = Member { address, status, called: now, called_ms: now_ms, live: true, told };
        table.workers.insert(id, member);
        table.forget_the_silent();
        if changed {
            table.next_epoch(position);
        }
    }

    /// Hears a heartbeat.
    pub(crate) fn beat(&self, id: WorkerId, status: Option<v1::WorkerStatus>, now: Instant, now_ms: u64) -> Beat {
        let mut table = self.table.lock();
        let table = &mut *table;
        let Some(member) = table.workers.get_mut(&id).filter(|member| member.live) else {
            return Beat::Unknown;
        };
        member.called = now;
        member.called_ms = now_ms;
        if let Some(status) = status {
            member.status = status;
        }
        let start = member.told.max(table.freed_from);
        let skip = (start - table.freed_from) as usize;
        let freed: Vec<u64> = table.freed.iter().skip(skip).take(FREED_PER_HEARTBEAT).copied().collect();
        member.told = start + freed.len() as u64;
        Beat::Heard { epoch: table.epoch, freed }
    }

    /// Takes out who has been silent too long; whether the view is another one now.
    pub(crate) fn expire(&self, now: Instant, position: u64) -> bool {
        let mut table = self.table.lock();
        let mut changed = table.settles.take_if(|at| now >= *at).is_some();
        for (id, member) in &mut table.workers {
            let silent = now.saturating_duration_since(member.called);
            if member.live && silent >= self.timeout {
                tracing::warn!(
                    worker = format!("{:x}", id.0),
                    address = member.address.data,
                    silent_s = silent.as_secs(),
                    "worker is silent and gets no more work"
                );
                member.live = false;
                changed = true;
            }
        }
        if changed {
            table.next_epoch(position);
        }
        table.drop_told();
        changed
    }

    /// The mounts changed: workers need the new view.
    pub(crate) fn mounts_changed(&self, position: u64) {
        self.table.lock().next_epoch(position);
    }

    /// Inodes that no path leads to any more: every worker is told once.
    pub(crate) fn freed(&self, inodes: impl IntoIterator<Item = u64>) {
        let mut table = self.table.lock();
        table.freed.extend(inodes);
        let over = table.freed.len().saturating_sub(FREED_MAX);
        table.freed.drain(..over);
        table.freed_from += over as u64;
    }

    /// The live workers.
    pub(crate) fn view(&self) -> View {
        let table = self.table.lock();
        View {
            epoch: table.epoch,
            settling: table.settles.is_some(),
            workers: table.workers.values().filter(|member| member.live).map(|member| member.address.clone()).collect(),
        }
    }

    /// The epoch now.
    pub(crate) fn epoch(&self) -> u64 {
        self.table.lock().epoch
    }

    /// Every worker known, with what it last said of itself.
    pub(crate) fn statuses(&self) -> Vec<v1::WorkerStatus> {
        let table = self.table.lock();
        let members = table.workers.values();
        members
            .map(|member| v1::WorkerStatus {
                address: Some(member.address.clone()),
                live: member.live,
                last_heartbeat_ms: member.called_ms,
                ..member.status.clone()
            })
            .collect()
    }
}

/// 2^20 changes fit between two positions of the log.
fn first_epoch(position: u64) -> u64 {
    (position << 20) + 1
}

impl Table {
    fn next_epoch(&mut self, position: u64) {
        self.epoch = (self.epoch + 1).max(first_epoch(position));
    }

    fn forget_the_silent(&mut self) {
        while self.workers.len() > WORKERS_MAX {
            let longest = self.workers.iter().min_by_key(|(_, member)| member.called).map(|(id, _)| *id);
            let Some(id) = longest else { return };
            self.workers.remove(&id);
        }
    }

    /// Forgets freed inodes that every live worker was told.
    fn drop_told(&mut self) {
        let end = self.freed_from + self.freed.len() as u64;
        let live = self.workers.values().filter(|member| member.live);
        let told = live.map(|member| member.told).min().unwrap_or(end);
        let count = told.saturating_sub(self.freed_from) as usize;
        self.freed.drain(..count.min(self.freed.len()));
        self.freed_from += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn registration(worker: u64, data: &str) -> v1::RegisterRequest {
        v1::RegisterRequest {
            address: Some(v1::WorkerAddress {
                worker,
                data: data.to_owned(),
                weight: 1,
                ..v1::WorkerAddress::default()
            }),
            ..v1::RegisterRequest::default()
        }
    }

    fn ids(registry: &Registry) -> Vec<u64> {
        let view = registry.view();
        view.workers.iter().map(|address| address.worker).collect()
    }

    #[test]
    fn silent_workers_leave_and_come_back() {
        let start = Instant::now();
        let registry = Registry::new(TIMEOUT, 5, start - TIMEOUT);
        assert!(registry.expire(start, 5));
        registry.register(registration(1, "a:1"), start, 0, 5);
        registry.register(registration(2, "b:1"), start, 0, 5);
        let epoch = registry.epoch();
        let later = start + Duration::from_secs(9);
        assert!(matches!(registry.beat(WorkerId(2), None, later, 0), Beat::Heard { .. }));
        assert!(!registry.expire(later, 5));
        assert_eq!(registry.epoch(), epoch);
        assert!(registry.expire(start + TIMEOUT, 5));
        assert_eq!(ids(&registry), [2]);
        assert!(registry.epoch() > epoch);
        assert_eq!(registry.beat(WorkerId(1), None, later, 0), Beat::Unknown);
        assert_eq!(registry.statuses().len(), 2);
        registry.register(registration(1, "a:1"), later, 0, 5);
        assert_eq!(ids(&registry), [1, 2]);
    }

    #[test]
    fn the_same_registration_again_changes_nothing() {
        let now = Instant::now();
        let registry = Registry::new(TIMEOUT, 5, now);
        registry.register(registration(1, "a:1"), now, 0, 5);
        let epoch = registry.epoch();
        registry.register(registration(1, "a:1"), now, 0, 9);
        assert_eq!(registry.epoch(), epoch);
        registry.register(registration(1, "a:2"), now, 0, 9);
        assert!(registry.epoch() > epoch);
    }

    #[test]
    fn a_view_is_settled_when_all_who_live_have_called() {
        let start = Instant::now();
        let registry = Registry::new(TIMEOUT, 5, start);
        registry.register(registration(1, "a:1"), start + TIMEOUT / 2, 0, 5);
        let epoch = registry.epoch();
        assert!(!registry.expire(start + TIMEOUT / 2, 5) && registry.view().settling);
        // Told to all, by a new epoch.
        assert!(registry.expire(start + TIMEOUT, 5) && registry.epoch() > epoch);
        assert!(!registry.view().settling && ids(&registry) == [1]);
        assert!(!registry.expire(start + TIMEOUT, 5));
    }

    #[test]
    fn epochs_grow_over_restarts() {
        let first = Registry::new(TIMEOUT, 5, Instant::now());
        (0..1000).for_each(|_| first.mounts_changed(7));
        assert!(Registry::new(TIMEOUT, 8, Instant::now()).epoch() > first.epoch());
    }

    #[test]
    fn freed_inodes_are_told_once_to_each() {
        let now = Instant::now();
        let registry = Registry::new(TIMEOUT, 5, now);
        registry.register(registration(1, "a:1"), now, 0, 5);
        registry.register(registration(2, "b:1"), now, 0, 5);
        registry.freed(10..20);
        let freed = |id| match registry.beat(WorkerId(id), None, now, 0) {
            Beat::Heard { freed, .. } => freed,
            Beat::Unknown => panic!("worker {id} is known"),
        };
        assert_eq!(freed(1), (10..20).collect::<Vec<_>>());
        assert_eq!(freed(1), [0u64; 0]);
        registry.expire(now, 5);
        registry.freed([30]);
        assert_eq!(freed(2), (10..20).chain([30]).collect::<Vec<_>>());
        registry.freed(0..FREED_MAX as u64 * 2);
        assert!(registry.table.lock().freed.len() <= FREED_MAX);
    }
}
