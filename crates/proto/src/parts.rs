//! Where the parts of an upload lie: one rule for masters, workers and clients.
//!
//! Stores take a bounded number of parts (S3: 10,000), and the length of a file is not known when its writing begins. So parts grow: every
//! [`PARTS_OF_A_SIZE`] parts their size doubles, as far as one fits into a frame. Small files keep small parts, and few of them in memory.

use crate::frame::BODY_LEN_MAX;

/// The largest part: it is sent as one body.
pub const PART_SIZE_MAX: u64 = BODY_LEN_MAX;
/// Parts of one size before the next one. 500: with first parts of 16 MiB and 10,000 parts a file of 585 GiB, of 625 GiB at most.
pub const PARTS_OF_A_SIZE: u32 = 500;

/// The sizes of the parts of one upload, by the size of its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSizes {
    first: u64,
}

impl PartSizes {
    /// The sizes that follow from the first, which is 1 to [`PART_SIZE_MAX`] bytes; others are taken for the nearest of those.
    pub fn new(first: u64) -> PartSizes {
        PartSizes { first: first.clamp(1, PART_SIZE_MAX) }
    }

    /// How often the size doubles.
    fn doublings_max(self) -> u32 {
        (PART_SIZE_MAX / self.first).ilog2()
    }

    /// Bytes of the part of that number, counted from 1, unless it is the last.
    pub fn len_of(self, number: u32) -> u64 {
        let doublings = number.saturating_sub(1) / PARTS_OF_A_SIZE;
        self.first << doublings.min(self.doublings_max())
    }

    /// Where the part of that number begins.
    pub fn offset_of(self, number: u32) -> u64 {
        let (mut left, mut offset) = (number.saturating_sub(1), 0);
        for doublings in 0..self.doublings_max() {
            let count = left.min(PARTS_OF_A_SIZE);
            offset += u64::from(count) * (self.first << doublings);
            left -= count;
        }
        offset + u64::from(left) * (self.first << self.doublings_max())
    }

    /// Bytes of a file of so many parts.
    pub fn length_max(self, parts_max: u32) -> u64 {
        self.offset_of(parts_max) + self.len_of(parts_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn parts_lie_one_behind_the_other() {
        for first in [1, 5 * MIB, 15 * MIB, 16 * MIB, 40 * MIB, 64 * MIB] {
            let (sizes, mut offset) = (PartSizes::new(first), 0);
            assert_eq!(sizes.len_of(1), first);
            for number in 1..=10_000 {
                assert_eq!(sizes.offset_of(number), offset, "part {number} after a first of {first}");
                assert!(sizes.len_of(number) <= PART_SIZE_MAX);
                assert_eq!(sizes.len_of(number) % first, 0, "a multiple, so of pages too");
                offset += sizes.len_of(number);
                if number % 5000 == 0 {
                    assert_eq!(sizes.length_max(number), offset);
                }
            }
        }
    }

    #[test]
    fn ten_thousand_parts_are_enough() {
        let gib = |first: u64| PartSizes::new(first).length_max(10_000) >> 30;
        assert_eq!((gib(5 * MIB), gib(16 * MIB), gib(64 * MIB)), (349, 585, 625));
    }
}
