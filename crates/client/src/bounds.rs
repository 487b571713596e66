//! Ranges as callers write them.

use std::ops::{Bound, Range, RangeBounds};

/// The bytes that a caller's range means; its end may lie past the end of the file.
pub(crate) fn bytes_of(range: impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        assert_eq!(bytes_of(..), 0..u64::MAX);
        assert_eq!(bytes_of(3..), 3..u64::MAX);
        assert_eq!(bytes_of(3..5), 3..5);
        assert_eq!(bytes_of(3..=5), 3..6);
        assert_eq!(bytes_of(..=u64::MAX), 0..u64::MAX);
        #[expect(clippy::reversed_empty_ranges, reason = "callers may write it")]
        let reversed = 5..3;
        assert_eq!(bytes_of(reversed), 5..5);
    }
}
