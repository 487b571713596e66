//! Which extent goes first: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).
//!
//! New extents enter a small queue, a tenth of the bytes. Those read again before they reach its end move to the main queue, the others go, and are
//! remembered for a while in the ghost table: one that comes back soon enters the main queue at once. The main queue gives each extent that was read
//! again another round. So a scan passes through a tenth of the cache and leaves the rest alone. A hit only raises a counter in the extent's entry,
//! and takes no lock of this.
//!
//! The queues hold handles. One whose extent is gone stays until it is met: [`S3Fifo::pop`]'s caller throws it away. The owner calls
//! [`S3Fifo::compact`] when those grow too many.

mod fifo;
mod ghost;

use fifo::Fifo;
use ghost::Ghost;

/// Hits beyond this are not counted.
pub(crate) const FREQUENCY_MAX: u8 = 3;
/// The small queue's share of the bytes is one in so many.
const SMALL_SHARE: u64 = 10;

/// Which queue an extent is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// New ones.
    Small,
    /// Those read again.
    Main,
}

/// What to do with an extent at the end of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes.
    Evict,
    /// It goes on in the main queue, with this count.
    Keep(u8),
}

/// The order of eviction of one directory.
#[derive(Default)]
pub(crate) struct S3Fifo {
    small: Fifo,
    main: Fifo,
    ghost: Ghost,
}

/// Judges an extent at the end of `queue` that was read again `frequency` times.
pub(crate) fn judge(queue: Queue, frequency: u8) -> Verdict {
    match (queue, frequency) {
        (_, 0) => Verdict::Evict,
        (Queue::Small, _) => Verdict::Keep(0),
        (Queue::Main, count) => Verdict::Keep(count - 1),
    }
}

impl S3Fifo {
    /// The queue for a new extent.
    pub(crate) fn queue_for(&mut self, fingerprint: u32) -> Queue {
        if self.ghost.take(fingerprint) { Queue::Main } else { Queue::Small }
    }

    /// Puts a handle at the new end of a queue.
    pub(crate) fn push(&mut self, queue: Queue, handle: u64) {
        match queue {
            Queue::Small => self.small.push(handle),
            Queue::Main => self.main.push(handle),
        }
    }

    /// Takes the handle to judge next, when `small_bytes` of `all_bytes` are in the small queue.
    pub(crate) fn pop(&mut self, small_bytes: u64, all_bytes: u64) -> Option<(Queue, u64)> {
        let small_first = small_bytes >= all_bytes / SMALL_SHARE || self.main.len() == 0;
        let from_small = |s: &mut Self| s.small.pop().map(|handle| (Queue::Small, handle));
        let from_main = |s: &mut Self| s.main.pop().map(|handle| (Queue::Main, handle));
        if small_first {
            from_small(self).or_else(|| from_main(self))
        } else {
            from_main(self).or_else(|| from_small(self))
        }
    }

    /// Remembers an extent that was evicted from `queue`.
    pub(crate) fn evicted(&mut self, queue: Queue, fingerprint: u32) {
        if queue == Queue::Small {
            self.ghost.grow_for(self.small.len() + self.main.len());
            self.ghost.insert(fingerprint);
        }
    }

    /// How many handles the queues hold.
    pub(crate) fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// Throws away the handles that are not `live`.
    pub(crate) fn compact(&mut self, mut live: impl FnMut(u64) -> bool) {
        for queue in [&mut self.small, &mut self.main] {
            for _ in 0..queue.len() {
                if let Some(handle) = queue.pop().filter(|handle| live(*handle)) {
                    queue.push(handle);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
