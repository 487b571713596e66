//! Calls to file systems that block a thread at the same time. A network file system that hangs must not take every thread of the process, and
//! several that hang must not either.

use std::sync::{Arc, LazyLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of one store; more wait.
const CALLS_MAX: usize = 64;
/// Of all stores of the process; more wait. With the threads that workers have waiting for cache disks (256) less than tokio has for all blocking work (512).
const CALLS_OF_ALL_MAX: usize = 192;

static OF_ALL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(CALLS_OF_ALL_MAX)));

/// The calls of one store.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    of_store: Arc<Semaphore>,
    of_all: Arc<Semaphore>,
}

/// The right to one call, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _places: [Option<OwnedSemaphorePermit>; 2],
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns { of_store: Arc::new(Semaphore::new(CALLS_MAX)), of_all: OF_ALL.clone() }
    }

    /// Waits for a turn: first for one of the store's, so that one that hangs has no more than its own.
    pub(super) async fn take(&self) -> Turn {
        let of_store = self.of_store.clone().acquire_owned().await.ok();
        let of_all = self.of_all.clone().acquire_owned().await.ok();
        Turn { _places: [of_store, of_all] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// A turn, if one is free.
    fn now(turns: &Turns) -> Option<Turn> {
        tokio::task::unconstrained(turns.take()).now_or_never()
    }

    #[tokio::test]
    async fn stores_that_hang_leave_threads_to_other_work() {
        let of_all = Arc::new(Semaphore::new(CALLS_OF_ALL_MAX));
        let store = || Turns { of_all: of_all.clone(), ..Turns::new() };
        let (mut held, hanging) = (Vec::new(), [store(), store(), store(), store()]);
        for turns in &hanging {
            while let Some(turn) = now(turns) {
                held.push(turn);
            }
        }
        assert_eq!(held.len(), CALLS_OF_ALL_MAX);
        assert!(now(&store()).is_none());
        held.truncate(CALLS_MAX);
        assert!(now(&store()).is_some());
        assert!(now(&hanging[0]).is_none(), "the first has its own, and no more");
        assert!(now(&hanging[1]).is_some());
    }
}
