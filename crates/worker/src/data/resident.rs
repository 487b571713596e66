//! Whether a range of a file is in the page cache, so that reading it does not wait for a disk.
//!
//! Only a hint: the kernel may drop pages between the question and the read. A wrong "yes" costs one thread of the
//! reactor the time of a disk read, a wrong "no" a detour over another thread.

use forebay_cache::PinnedRange;
use std::ops::Range;

/// Distance of the probes. The kernel reads ahead and drops in units of this order (readahead is 128 KiB by default).
const PROBE_STEP: u64 = 128 << 10;

/// Whether `range` of a cached file can be read without waiting, as far as probes can tell.
pub(crate) fn is_resident(pinned: &PinnedRange, range: &Range<u64>) -> bool {
    pinned.is_on_memory() || probes(range).all(|at| pinned.is_in_memory(at))
}

/// One place in each step, and the last byte.
fn probes(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    let last = range.end.saturating_sub(1);
    (range.start..range.end).step_by(PROBE_STEP as usize).chain((!range.is_empty()).then_some(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_lie_in_the_range() {
        let all = |range: Range<u64>| probes(&range).collect::<Vec<_>>();
        assert!(all(5..5).is_empty());
        assert_eq!(all(5..6), [5, 5]);
        assert_eq!(all(0..(256 << 10) + 1), [0, 128 << 10, 256 << 10, 256 << 10]);
    }
}
