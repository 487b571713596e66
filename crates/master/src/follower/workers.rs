//! The workers as the leader told them last: a new client needs them before it reads anything.

use super::Follower;
use crate::error::Result;
use forebay_proto::v1::{ReadBound, WorkersReply};
use parking_lot::Mutex;
use std::time::Duration;

/// None: nobody has told them yet.
#[derive(Default)]
pub(super) struct KnownWorkers(Mutex<Option<WorkersReply>>);

impl KnownWorkers {
    pub(super) fn epoch(&self) -> u64 {
        self.0.lock().as_ref().map_or(0, |known| known.epoch)
    }

    fn get(&self) -> Option<WorkersReply> {
        self.0.lock().clone()
    }

    /// Of a master that leads since a moment, and does not know all who live, those that were known before are kept.
    pub(super) fn set(&self, told: WorkersReply) {
        let mut known = self.0.lock();
        let WorkersReply { epoch, mut workers, settling } = told;
        if settling {
            let before = known.take().map_or(Vec::new(), |known| known.workers);
            let is_new =
                |other: &_| workers.iter().all(|worker: &forebay_proto::v1::WorkerAddress| worker.worker != *other);
            let kept: Vec<_> = before.into_iter().filter(|worker| is_new(&worker.worker)).collect();
            workers.extend(kept);
        }
        *known = Some(WorkersReply { epoch, workers, settling });
    }
}

impl Follower {
    /// The live workers. Nothing depends on how old the list is: who turns to one that is gone asks the others, and for a new list.
    pub(crate) async fn workers(&self, bound: ReadBound) -> Result<WorkersReply> {
        let work = async {
            self.fresh(Duration::from_micros(bound.max_staleness_us), bound.seen_index).await?;
            self.workers.get().ok_or_else(|| self.ask_leader("it has not been told yet which workers there are"))
        };
        self.serve(work).await
    }

    /// Those that this master knew while it led.
    pub(crate) fn workers_are(&self, told: WorkersReply) {
        self.workers.set(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_proto::v1::WorkerAddress;

    fn reply(epoch: u64, workers: &[u64], settling: bool) -> WorkersReply {
        let worker =
            |worker: &u64| WorkerAddress { worker: *worker, data: format!("e{epoch}"), ..WorkerAddress::default() };
        WorkersReply { epoch, workers: workers.iter().map(worker).collect(), settling }
    }

    fn check(told: &[WorkersReply], expected: &[(u64, &str)]) {
        let known = KnownWorkers::default();
        told.iter().cloned().for_each(|told| known.set(told));
        let workers = known.get().unwrap().workers;
        let found: Vec<_> = workers.iter().map(|worker| (worker.worker, worker.data.as_str())).collect();
        assert_eq!((known.epoch(), found.as_slice()), (told.last().unwrap().epoch, expected));
    }

    #[test]
    fn workers_are_kept_until_a_new_leader_knows_all() {
        assert_eq!((KnownWorkers::default().epoch(), KnownWorkers::default().get()), (0, None));
        check(&[reply(1, &[1, 2], false)], &[(1, "e1"), (2, "e1")]);
        check(&[reply(1, &[1, 2], false), reply(2, &[2], false)], &[(2, "e2")]);
        check(&[reply(1, &[1, 2], false), reply(2, &[2, 3], true)], &[(2, "e2"), (3, "e2"), (1, "e1")]);
        check(&[reply(1, &[1, 2], false), reply(2, &[], true), reply(3, &[2], false)], &[(2, "e3")]);
    }
}
