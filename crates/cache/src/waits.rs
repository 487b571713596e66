//! Who is waiting for a directory's disk, and since when: what tells a disk that hangs from one that works.
//!
//! A dead disk, or a network behind one, may give no error for ever: the thread that asked it just does not come back. So each call that may wait for the disk is
//! counted while it lasts, in the bucket of the tick in which it began. A bucket that the clock comes back to and that is not empty holds a call that
//! has lasted a whole round. That costs a call two additions, and no look at a clock.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

/// Ticks of a round.
pub(crate) const TICKS: usize = 10;

/// The calls that wait for one directory's disk.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    begun_in: [AtomicU32; TICKS],
    now: AtomicUsize,
}

/// A call that may wait for the disk, while it lasts. Who asks the disk shows it (see [`crate::disk`]), so that no call goes uncounted.
pub(crate) struct Wait<'a> {
    bucket: &'a AtomicU32,
    dir: &'a Path,
}

impl Waits {
    /// A call to the disk that `dir` is on begins.
    pub(crate) fn enter<'a>(&'a self, dir: &'a Path) -> Wait<'a> {
        let bucket = &self.begun_in[self.now.load(Relaxed) % TICKS];
        bucket.fetch_add(1, Relaxed);
        Wait { bucket, dir }
    }

    /// A tick has passed; whether a call has lasted for a round or longer. The clock stands still as long as one has.
    pub(crate) fn tick(&self) -> bool {
        let next = (self.now.load(Relaxed) + 1) % TICKS;
        if self.begun_in[next].load(Relaxed) != 0 {
            return true;
        }
        self.now.store(next, Relaxed);
        false
    }
}

impl Wait<'_> {
    /// The directory whose disk is asked.
    pub(crate) fn dir(&self) -> &Path {
        self.dir
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.bucket.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_lasts_a_round_is_told() {
        let (waits, dir) = (Waits::default(), Path::new("/disk"));
        for _ in 0..3 * TICKS {
            let short = waits.enter(dir);
            assert!(!waits.tick());
            drop(short);
        }
        let long = waits.enter(dir);
        assert_eq!((0..TICKS - 1).filter(|_| waits.tick()).count(), 0);
        let (short, told) = (waits.enter(dir), waits.tick());
        assert!(told && waits.tick(), "for as long as it lasts");
        drop(long);
        assert!(!waits.tick(), "the other has just begun");
        drop(short);
    }
}
