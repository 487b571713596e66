//! Making room: which extent goes, and where to.

use super::Inner;
use crate::{
    dir::Dir,
    index::{ExtentKey, Handle},
    policy::{self, Queue, Verdict},
};
use forebay_base::FileId;
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// Extents that are in use and passed over, before the search gives up.
const BUSY_MAX: usize = 256;
/// Extents given another round, before the search takes whatever comes next.
const KEPT_MAX: usize = 100_000;
/// Handles of extents that are gone, beyond those of as many that are there, before a queue is cleared of them.
const STALE_MAX: usize = 4096;

/// What becomes of an evicted extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It moves to a slower tier if one has room.
    Demote,
    /// It goes.
    Drop,
}

/// What a look at the next extent says.
enum Look {
    Gone,
    Busy,
    Keep,
    Victim(ExtentKey, u64),
}

impl Inner {
    /// Evicts one extent from a directory; false when none can go. Must not be called with a gate held.
    pub(crate) fn evict_one(self: &Arc<Self>, dir: &Arc<Dir>, how: How) -> bool {
        if !dir.is_readable() {
            return false;
        }
        self.compact_if_stale(dir);
        let (mut busy, mut kept) = (0, 0);
        while busy < BUSY_MAX {
            let small = dir.small_bytes.load(Relaxed).max(0) as u64;
            let used = dir.used_and_limit().0;
            let Some((queue, word)) = dir.policy.lock().pop(small, used) else {
                return false;
            };
            let handle = Handle::from_u64(word);
            match self.judge(dir, handle, queue, kept < KEPT_MAX) {
                Look::Gone => {}
                Look::Keep => {
                    kept += 1;
                    dir.policy.lock().push(Queue::Main, word);
                }
                Look::Busy => {
                    busy += 1;
                    dir.policy.lock().push(queue, word);
                }
                Look::Victim(key, bytes) => {
                    if how == How::Demote && self.demote(dir, key, handle, bytes) {
                        dir.policy.lock().evicted(queue, key.fingerprint());
                        return true;
                    }
                    if self.drop_extent(dir, key, handle) {
                        self.counters.evicted_bytes.add(bytes);
                        dir.policy.lock().evicted(queue, key.fingerprint());
                        return true;
                    }
                    busy += 1;
                    let queue = self.queue_of_refused(dir, key, handle, queue);
                    dir.policy.lock().push(queue, word);
                }
            }
        }
        false
    }

    /// Where an extent belongs that could not go. What a lease holds does not stay in the small queue: as long as that is too long nothing else is looked at.
    fn queue_of_refused(&self, dir: &Dir, key: ExtentKey, handle: Handle, queue: Queue) -> Queue {
        if queue == Queue::Main || !self.is_leased(dir, key.file) {
            return queue;
        }
        let mut shard = self.index.lock_handle(handle);
        if let Some(entry) = shard.get(handle).filter(|entry| entry.queue() == Queue::Small) {
            dir.small_bytes.fetch_sub(entry.bytes as i64, Relaxed);
            let frequency = entry.frequency();
            entry.requeue(Queue::Main, frequency);
        }
        Queue::Main
    }

    fn is_leased(&self, dir: &Dir, file: FileId) -> bool {
        self.open.get(file, dir.number).is_some_and(|file| file.is_leased())
    }

    fn judge(&self, dir: &Dir, handle: Handle, queue: Queue, may_keep: bool) -> Look {
        let mut shard = self.index.lock_handle(handle);
        let Some(entry) = shard.get(handle) else {
            return Look::Gone;
        };
        if !entry.is_idle() {
            return Look::Busy;
        }
        match policy::judge(queue, entry.frequency()) {
            Verdict::Keep(frequency) if may_keep => {
                if queue == Queue::Small {
                    dir.small_bytes.fetch_sub(entry.bytes as i64, Relaxed);
                }
                entry.requeue(Queue::Main, frequency);
                Look::Keep
            }
            _ => Look::Victim(entry.key(), entry.bytes as u64),
        }
    }

    /// Removes an idle extent and gives its space back. False when it is in use.
    fn drop_extent(&self, dir: &Arc<Dir>, key: ExtentKey, handle: Handle) -> bool {
        let Some(pass) = &self.gates.try_enter(key.file, dir) else {
            return false;
        };
        let file = match self.try_file_in(pass, dir) {
            Ok(Some(file)) => file,
            Ok(None) if dir.is_readable() => {
                self.forget_vanished(handle);
                return true;
            }
            _ => return false,
        };
        if file.is_leased() {
            return false;
        }
        let is_all = file.extents().is_ok_and(|extents| extents <= 1);
        let entry = {
            let mut shard = self.index.lock_handle(handle);
            match shard.get(handle) {
                Some(entry) if entry.is_idle() => shard.remove(handle),
                Some(_) => return false,
                None => return true,
            }
        };
        let space = self.uncount(&entry);
        if is_all {
            file.orphaned.fetch_add(space, Relaxed);
            self.unlink(&file);
            return true;
        }
        self.give_back_extent(pass, &file, key.extent, space);
        self.tidy(pass, &file);
        true
    }

    /// Moves an extent to the fastest of the slower tiers that has room. Not below a lease: its bytes stay until that ends, so nothing would be won, and its
    /// client has it brought back.
    fn demote(self: &Arc<Self>, dir: &Arc<Dir>, key: ExtentKey, handle: Handle, bytes: u64) -> bool {
        if self.is_leased(dir, key.file) {
            return false;
        }
        let space = bytes + crate::geometry::EXTENT_OVERHEAD;
        let mut below = (dir.tier + 1..self.tier_count).flat_map(|tier| self.writable_dirs(tier, key.file));
        let Some(to) = below.find(|to| to.reserve(space)) else {
            return false;
        };
        self.ring_if_high(to);
        let moved = self.move_beside(key, handle, dir, to, space, Queue::Small);
        if moved {
            self.counters.demoted_bytes.add(bytes);
        }
        moved
    }

    /// Wakes the keeper of a directory that is nearly full.
    pub(crate) fn ring_if_high(&self, dir: &Dir) {
        if self.is_above(dir, self.settings.high_watermark) {
            dir.ring();
        }
    }

    /// Whether more than this share of a directory is taken.
    pub(crate) fn is_above(&self, dir: &Dir, watermark: f64) -> bool {
        let (used, limit) = dir.used_and_limit();
        used as f64 > limit as f64 * watermark
    }

    /// Clears the queues of handles whose extents are gone, when these are the greater part.
    pub(crate) fn compact_if_stale(&self, dir: &Dir) {
        let live = dir.extents.load(Relaxed).max(0) as usize;
        let mut policy = dir.policy.lock();
        if policy.len() > 2 * live + STALE_MAX {
            policy.compact(|word| self.index.is_live(Handle::from_u64(word)));
        }
    }
}
