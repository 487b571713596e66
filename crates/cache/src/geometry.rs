//! Where pages, extents and page records lie.

use crate::{PAGE_SIZE_MAX, PAGE_SIZE_MIN, sidecar::HEADER_LEN};
use forebay_base::checksum::CHECKSUM_CHUNK;
use std::ops::Range;

/// An extent is a run of pages of one file, and the unit of eviction: at most so many bytes (at least one page) …
const EXTENT_BYTES_MAX: u32 = 16 << 20;
/// … and so many pages: one bit of a word for each.
const EXTENT_PAGES_MAX: u32 = 64;
/// What file systems allot at least.
pub(crate) const BLOCK: u64 = 4096;
/// What the checksum file takes for an extent. Records of a full extent of 1 MiB pages are 4,224 bytes; those of smaller ones
/// share their block with the header.
pub(crate) const EXTENT_OVERHEAD: u64 = BLOCK;

/// The layout of a file by its page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    page_log2: u8,
}

impl Geometry {
    /// The layout for a page size; none when it is not a power of two between [`PAGE_SIZE_MIN`] and [`PAGE_SIZE_MAX`].
    pub fn new(page_size: u32) -> Option<Geometry> {
        let fits = page_size.is_power_of_two() && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size);
        fits.then(|| Geometry { page_log2: page_size.trailing_zeros() as u8 })
    }

    pub(crate) fn log2(self) -> u8 {
        self.page_log2
    }

    /// Bytes of a page.
    pub fn page_size(self) -> u32 {
        1 << self.page_log2
    }

    /// Checksum chunks of a full page.
    pub fn chunks_per_page(self) -> usize {
        self.page_size() as usize / CHECKSUM_CHUNK
    }

    /// Pages of an extent.
    pub(crate) fn extent_pages(self) -> u32 {
        (EXTENT_BYTES_MAX >> self.page_log2).clamp(1, EXTENT_PAGES_MAX)
    }

    /// Bytes of a page record in the checksum file: length, checksums, mark.
    pub fn record_len(self) -> usize {
        4 * (self.chunks_per_page() + 2)
    }

    /// Where the record of a page begins in the checksum file.
    pub fn record_offset(self, page: u32) -> u64 {
        HEADER_LEN as u64 + page as u64 * self.record_len() as u64
    }

    /// Where a page begins in the file.
    pub fn page_offset(self, page: u32) -> u64 {
        (page as u64) << self.page_log2
    }

    /// The page that holds a byte; none past the last page that can be named.
    pub fn page_of(self, offset: u64) -> Option<u32> {
        u32::try_from(offset >> self.page_log2).ok()
    }

    /// Bytes of a page of a file of `length` bytes; 0 past its end.
    pub fn page_len(self, page: u32, length: u64) -> u32 {
        length.saturating_sub(self.page_offset(page)).min(self.page_size() as u64) as u32
    }

    pub(crate) fn extent_of(self, page: u32) -> u32 {
        page / self.extent_pages()
    }

    pub(crate) fn slot_of(self, page: u32) -> u32 {
        page % self.extent_pages()
    }

    pub(crate) fn page_at(self, extent: u32, slot: u32) -> u32 {
        extent * self.extent_pages() + slot
    }

    /// The bytes of the file that an extent covers.
    pub(crate) fn extent_range(self, extent: u32) -> Range<u64> {
        let bytes = (self.extent_pages() as u64) << self.page_log2;
        let start = extent as u64 * bytes;
        start..start + bytes
    }

    /// The bytes of the checksum file that hold the records of an extent.
    pub(crate) fn records_range(self, extent: u32) -> Range<u64> {
        let start = self.record_offset(self.page_at(extent, 0));
        start..start + self.extent_pages() as u64 * self.record_len() as u64
    }
}

/// What a file system allots for so many bytes of a page.
pub(crate) fn space_of(len: u32) -> u64 {
    (len as u64).next_multiple_of(BLOCK)
}

/// A word with the bits `slots` set.
pub(crate) fn bits(slots: Range<u32>) -> u64 {
    if slots.is_empty() {
        return 0;
    }
    (u64::MAX >> (64 - (slots.end - slots.start))) << slots.start
}

/// The set bits of a word, ascending.
pub(crate) fn set_bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let slot = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(slot)
    })
}

/// The runs of set bits of a word, ascending.
pub(crate) fn runs(mut word: u64) -> impl Iterator<Item = Range<u32>> {
    std::iter::from_fn(move || {
        let start = (word != 0).then(|| word.trailing_zeros())?;
        let end = start + (word >> start).trailing_ones();
        word &= !bits(start..end);
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_hold_16_mib_or_64_pages_or_one_page() {
        let pages = |page_size| Geometry::new(page_size).unwrap().extent_pages();
        assert_eq!(pages(16 << 10), 64);
        assert_eq!(pages(256 << 10), 64);
        assert_eq!(pages(1 << 20), 16);
        assert_eq!(pages(16 << 20), 1);
        assert_eq!(pages(64 << 20), 1);
        for bad in [0, 4096, 3 << 20, 128 << 20] {
            assert_eq!(Geometry::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn places() {
        let geometry = Geometry::new(1 << 20).unwrap();
        assert_eq!(geometry.record_len(), 264);
        assert_eq!(geometry.record_offset(2), 64 + 528);
        assert_eq!(geometry.extent_range(1), 16 << 20..32 << 20);
        assert_eq!((geometry.extent_of(17), geometry.slot_of(17)), (1, 1));
        assert_eq!(geometry.page_len(1, (1 << 20) + 5), 5);
        assert_eq!(geometry.page_len(2, (1 << 20) + 5), 0);
        assert_eq!(geometry.page_of(u64::MAX), None);
    }

    #[test]
    fn words() {
        assert_eq!(bits(0..64), u64::MAX);
        assert_eq!(bits(3..5), 0b11000);
        assert_eq!(bits(5..5), 0);
        assert_eq!(set_bits(0b1010).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(runs(0b1_0110).collect::<Vec<_>>(), [1..3, 4..5]);
        assert_eq!((runs(u64::MAX).next(), runs(u64::MAX).count()), (Some(0..64), 1));
        assert_eq!(runs(0).count(), 0);
    }
}
