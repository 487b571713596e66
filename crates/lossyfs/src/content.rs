//! The bytes of a file, with holes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes kept together; a page that was never written takes no memory and reads as zeros.
pub(super) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// A length and pages. Pages are shared between copies until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    length: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Pages that take memory.
    pub(super) fn stored_pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// What lies in a range, as far as the file goes.
    pub(super) fn read(&self, range: Range<u64>) -> Vec<u8> {
        let end = range.end.min(self.length);
        let mut bytes = Vec::with_capacity(end.saturating_sub(range.start) as usize);
        let mut at = range.start;
        while at < end {
            let (page, within) = (at / PAGE, (at % PAGE) as usize);
            let count = (PAGE - at % PAGE).min(end - at) as usize;
            match self.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[within..within + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    /// Writes, making the file longer where that is needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - within));
            self.page(at / PAGE)[within..within + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
        self.length = self.length.max(at);
    }

    /// Cuts the file, or makes it longer by a hole.
    pub(super) fn set_len(&mut self, length: u64) {
        self.punch(length..length.next_multiple_of(PAGE));
        self.pages.split_off(&length.div_ceil(PAGE));
        self.length = length;
    }

    /// Makes a hole.
    pub(super) fn punch(&mut self, range: Range<u64>) {
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        if whole.start < whole.end {
            self.pages.extract_if(whole, |_, _| true).for_each(drop);
        }
        for edge in [range.start / PAGE, range.end / PAGE] {
            let span = range.start.max(edge * PAGE)..range.end.min((edge + 1) * PAGE);
            if span.start < span.end && self.pages.contains_key(&edge) {
                let within = (span.start - edge * PAGE) as usize..(span.end - edge * PAGE) as usize;
                self.page(edge)[within].fill(0);
            }
        }
    }

    /// Takes the pages that hold a range from another copy of the file.
    pub(super) fn take_pages(&mut self, range: Range<u64>, from: &Content) {
        for page in range.start / PAGE..range.end.div_ceil(PAGE) {
            match from.pages.get(&page) {
                Some(bytes) => self.pages.insert(page, bytes.clone()),
                None => self.pages.remove(&page),
            };
        }
    }

    /// The first byte at or after `offset` that is not in a hole.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        let (page, _) = self.pages.range(offset / PAGE..).next()?;
        Some((page * PAGE).max(offset)).filter(|at| *at < self.length)
    }

    /// The first byte at or after `offset` that is in a hole; the end of the file is one.
    pub(super) fn next_hole(&self, offset: u64) -> u64 {
        let mut page = offset / PAGE;
        while self.pages.contains_key(&page) {
            page += 1;
        }
        (page * PAGE).max(offset).min(self.length)
    }

    fn page(&mut self, page: u64) -> &mut Page {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// Against bytes in a row.
    #[test]
    fn does_what_a_row_of_bytes_does() {
        const END: u64 = 5 * PAGE;
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut content, mut row) = (Content::default(), Vec::<u8>::new());
            for step in 0..60 {
                let (start, length) = (random.random_range(0..END), random.random_range(0..2 * PAGE));
                let end = start + length;
                match random.random_range(0..4) {
                    0 => {
                        content.set_len(start);
                        row.resize(start as usize, 0);
                    }
                    1 => {
                        content.punch(start..end);
                        let end = row.len().min(end as usize);
                        row.get_mut(start as usize..end).into_iter().for_each(|range| range.fill(0));
                    }
                    _ => {
                        let bytes = vec![step + 1; length as usize];
                        content.write(start, &bytes);
                        if length > 0 {
                            row.resize(row.len().max(end as usize), 0);
                            row[start as usize..end as usize].copy_from_slice(&bytes);
                        }
                    }
                }
                assert_eq!(content.len(), row.len() as u64, "seed {seed}, step {step}");
                assert!(content.read(0..u64::MAX) == row, "seed {seed}, step {step}");
                let (from, to) = (start.min(row.len() as u64), end.min(row.len() as u64));
                assert!(content.read(start..end) == row[from as usize..to as usize], "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn holes_are_found_and_take_no_memory() {
        let mut content = Content::default();
        content.set_len(10 * PAGE);
        content.write(3 * PAGE + 5, &[1]);
        assert_eq!(content.stored_pages(), 1);
        assert_eq!((content.next_data(0), content.next_hole(0)), (Some(3 * PAGE), 0));
        assert_eq!((content.next_data(3 * PAGE + 7), content.next_hole(3 * PAGE)), (Some(3 * PAGE + 7), 4 * PAGE));
        assert_eq!((content.next_data(4 * PAGE), content.next_hole(10 * PAGE)), (None, 10 * PAGE));
        content.punch(3 * PAGE..4 * PAGE);
        assert_eq!(content.stored_pages(), 0);
    }
}
