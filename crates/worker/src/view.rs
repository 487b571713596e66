//! What the worker knows of the cluster: the other workers, the keys of tickets, and who owned blocks before the last changes.

use forebay_base::{BlockId, WorkerId};
use forebay_placement::{Candidate, owners};
use forebay_proto::v1::{ClusterView, WorkerAddress};
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many earlier lists of workers are remembered; the oldest go first.
const PAST_LISTS_MAX: usize = 4;

/// The cluster as the masters last described it.
pub(crate) struct View {
    me: WorkerId,
    previous_owner_period: Duration,
    now: RwLock<Arc<Snapshot>>,
}

/// One description; never changes.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// Of the description; 0 before the first.
    pub(crate) epoch: u64,
    /// HMAC keys of tickets, the signing one first.
    pub(crate) ticket_keys: Vec<Vec<u8>>,
    candidates: Vec<Candidate>,
    addresses: HashMap<WorkerId, WorkerAddress>,
    past: VecDeque<Past>,
}

/// A list of workers that does not hold any more.
#[derive(Clone)]
struct Past {
    candidates: Vec<Candidate>,
    until: Instant,
}

impl View {
    pub(crate) fn new(me: WorkerId, previous_owner_period: Duration) -> View {
        View { me, previous_owner_period, now: RwLock::default() }
    }

    pub(crate) fn now(&self) -> Arc<Snapshot> {
        self.now.read().clone()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.now.read().epoch
    }

    /// Takes a new description.
    pub(crate) fn set(&self, view: &ClusterView, at: Instant) {
        let mut now = self.now.write();
        let mut addresses: HashMap<WorkerId, WorkerAddress> = match view.settling {
            // A master that leads since a moment: who has not called it yet may live as well.
            true => now.addresses.clone(),
            false => HashMap::new(),
        };
        addresses.extend(view.workers.iter().map(|worker| (WorkerId(worker.worker), worker.clone())));
        let mut candidates: Vec<Candidate> = addresses.values().map(candidate).collect();
        candidates.sort_unstable_by_key(|candidate| candidate.worker);
        let mut past: VecDeque<Past> = now.past.iter().filter(|p| p.until > at).cloned().collect();
        if let Some(candidates) = self.list_before(&now, &candidates) {
            let until = at + self.previous_owner_period;
            past.push_front(Past { candidates, until });
            past.truncate(PAST_LISTS_MAX);
        }
        *now = Arc::new(Snapshot {
            epoch: view.epoch,
            ticket_keys: view.ticket_keys.iter().map(|key| key.to_vec()).collect(),
            candidates,
            addresses,
            past,
        });
    }

    /// The list that `new` takes the place of. A worker that has just come up was not in it: others had its blocks.
    fn list_before(&self, now: &Snapshot, new: &[Candidate]) -> Option<Vec<Candidate>> {
        let before = if now.epoch == 0 {
            new.iter().copied().filter(|c| c.worker != self.me).collect()
        } else {
            now.candidates.clone()
        };
        (before != new && !before.is_empty()).then_some(before)
    }
}

fn candidate(worker: &WorkerAddress) -> Candidate {
    Candidate { worker: WorkerId(worker.worker), weight: worker.weight }
}

impl Snapshot {
    /// The owner of a block; none before the first description.
    pub(crate) fn owner(&self, block: BlockId) -> Option<WorkerId> {
        owners(block, &self.candidates, 1).first().copied()
    }

    /// Who had the block before the last changes of membership, the latest first, as far as they are still there; not the owner.
    pub(crate) fn previous_owners(&self, block: BlockId, at: Instant) -> Vec<WorkerId> {
        let owner = self.owner(block);
        let mut found = Vec::new();
        for past in self.past.iter().filter(|past| past.until > at) {
            let Some(before) = owners(block, &past.candidates, 1).first().copied() else {
                continue;
            };
            let known = self.addresses.contains_key(&before);
            if known && Some(before) != owner && !found.contains(&before) {
                found.push(before);
            }
        }
        found
    }

    /// Where a worker is.
    pub(crate) fn address(&self, worker: WorkerId) -> Option<&WorkerAddress> {
        self.addresses.get(&worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::{BlockIndex, FileId, InodeId};

    const PERIOD: Duration = Duration::from_secs(300);

    fn described(epoch: u64, workers: &[u64]) -> ClusterView {
        ClusterView {
            epoch,
            workers: workers
                .iter()
                .map(|id| WorkerAddress { worker: *id, weight: 1, ..WorkerAddress::default() })
                .collect(),
            ..ClusterView::default()
        }
    }

    fn block(inode: u64) -> BlockId {
        BlockId { file: FileId { inode: InodeId(inode), version: 1 }, index: BlockIndex(0) }
    }

    #[test]
    fn a_new_owner_knows_the_previous_one_for_a_while() {
        let (view, start) = (View::new(WorkerId(1), PERIOD), Instant::now());
        view.set(&described(1, &[1, 2]), start);
        view.set(&described(2, &[1, 2, 3]), start + PERIOD);
        let moved = (0..100).map(block).find(|b| view.now().owner(*b) == Some(WorkerId(3))).unwrap();
        let before = owners(moved, &[1, 2].map(|id| Candidate { worker: WorkerId(id), weight: 1 }), 1);
        let asked = |at| view.now().previous_owners(moved, at);
        assert_eq!(asked(start + PERIOD), before);
        assert!(asked(start + PERIOD * 2).is_empty());
    }

    #[test]
    fn a_worker_that_comes_up_asks_those_that_were_there() {
        let (view, start) = (View::new(WorkerId(3), PERIOD), Instant::now());
        view.set(&described(7, &[1, 2, 3]), start);
        let mine = (0..100).map(block).find(|b| view.now().owner(*b) == Some(WorkerId(3))).unwrap();
        assert_eq!(view.now().previous_owners(mine, start).len(), 1);
    }

    #[test]
    fn a_new_leader_that_knows_nobody_yet_moves_nothing() {
        let (view, start) = (View::new(WorkerId(1), PERIOD), Instant::now());
        view.set(&described(1, &[1, 2, 3]), start);
        let owners = |view: &View| (0..100).map(|n| view.now().owner(block(n))).collect::<Vec<_>>();
        let before = owners(&view);
        view.set(&ClusterView { settling: true, ..described(7, &[1]) }, start);
        assert!(owners(&view) == before && view.epoch() == 7);
        view.set(&ClusterView { settling: true, ..described(8, &[1, 4]) }, start);
        assert!(view.now().address(WorkerId(3)).is_some() && owners(&view).contains(&Some(WorkerId(4))));
        view.set(&described(9, &[1, 4]), start);
        assert!(view.now().address(WorkerId(3)).is_none());
    }

    #[test]
    fn one_that_has_left_is_not_asked_and_memory_is_bounded() {
        let (view, start) = (View::new(WorkerId(1), PERIOD), Instant::now());
        view.set(&described(1, &[1, 2]), start);
        for epoch in 2..50 {
            let list: &[u64] = if epoch % 2 == 0 { &[1] } else { &[1, 2] };
            view.set(&described(epoch, list), start);
            assert!(view.now().past.len() <= PAST_LISTS_MAX);
        }
        view.set(&described(50, &[1]), start);
        assert!((0..100).all(|n| view.now().previous_owners(block(n), start).is_empty()));
    }
}
