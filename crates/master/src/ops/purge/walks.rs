//! Where the walks over deleted directories stand between two slices, so that what survives a delete is walked past once.

use crate::ops::store_walk::StoreWalk;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Positions kept; each holds a page of names for each level of its directory. An entry beyond that goes on from the place that was noted in the log.
const WALKS_MAX: usize = 64;

/// The walks that wait for their next slice, by trash entry.
#[derive(Default)]
pub(super) struct Walks(Mutex<HashMap<u64, StoreWalk>>);

impl Walks {
    /// Takes the walk of an entry out, to go on with it. One that is not put back, after an error, begins from the start.
    pub(super) fn take(&self, trash: u64) -> Option<StoreWalk> {
        self.0.lock().remove(&trash)
    }

    /// Keeps it for the next slice, if there is room.
    pub(super) fn keep(&self, trash: u64, walk: StoreWalk) {
        let mut walks = self.0.lock();
        if walks.len() < WALKS_MAX {
            walks.insert(trash, walk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn is_bounded() {
        let walks = Walks::default();
        (0..1000).for_each(|trash| walks.keep(trash, StoreWalk::below(Bytes::new())));
        assert_eq!(walks.0.lock().len(), WALKS_MAX);
        assert!(walks.take(0).is_some() && walks.take(0).is_none());
    }
}
