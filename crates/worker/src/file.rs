//! One version of one file, as a ticket describes it, and the arithmetic of its pages and blocks.

use crate::error::RequestError;
use forebay_base::{BlockId, BlockIndex, FileId, MountId};
use forebay_cache::{FileMeta, PAGE_SIZE_MAX, PAGE_SIZE_MIN};
use forebay_proto::ticket::Ticket;
use forebay_ufs::Expected;
use std::ops::Range;

/// A file version that a ticket allows something with.
#[derive(Debug)]
pub(crate) struct TicketFile {
    /// The ticket, as signed.
    pub(crate) ticket: Ticket,
    /// The ticket as it came, to be shown to other workers.
    pub(crate) bytes: bytes::Bytes,
    /// Which version of which file.
    pub(crate) id: FileId,
    /// What the page store must know of it.
    pub(crate) meta: FileMeta,
    /// What the store must have for us to read it.
    pub(crate) expected: Expected,
}

impl TicketFile {
    pub(crate) fn new(ticket: Ticket, bytes: bytes::Bytes) -> Result<TicketFile, RequestError> {
        let page_size = ticket.page_size;
        if !page_size.is_power_of_two() || !(PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size) {
            return Err(RequestError::Invalid(format!(
                "page size {page_size} of the ticket is not a power of two from {PAGE_SIZE_MIN} to {PAGE_SIZE_MAX}"
            )));
        }
        if ticket.block_size == 0 || !ticket.block_size.is_multiple_of(u64::from(page_size)) {
            return Err(RequestError::Invalid(format!(
                "block size {} of the ticket is not a multiple of its page size {page_size}",
                ticket.block_size
            )));
        }
        if ticket.length.div_ceil(u64::from(page_size)) > u64::from(u32::MAX) {
            return Err(RequestError::Invalid(format!(
                "a file of {} bytes has too many pages of {page_size} bytes: raise the mount's page_size",
                ticket.length
            )));
        }
        Ok(TicketFile {
            id: ticket.file(),
            meta: FileMeta { page_size, length: (!ticket.write).then_some(ticket.length) },
            expected: Expected { tag: ticket.tag(), length: ticket.length },
            bytes,
            ticket,
        })
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.ticket.length
    }

    pub(crate) fn page_size(&self) -> u64 {
        u64::from(self.meta.page_size)
    }

    pub(crate) fn mount(&self) -> MountId {
        self.ticket.mount_id()
    }

    /// The part of `offset..offset + length` that lies in the file; empty past its end.
    pub(crate) fn clamp(&self, offset: u64, length: u64) -> Range<u64> {
        let end = offset.saturating_add(length).min(self.length());
        offset.min(end)..end
    }

    /// The page that holds a byte.
    pub(crate) fn page_of(&self, offset: u64) -> u32 {
        // A ticket whose file has more pages than a u32 counts is refused above.
        (offset / self.page_size()) as u32
    }

    /// The pages that a range touches; none for an empty one.
    pub(crate) fn pages_of(&self, range: &Range<u64>) -> Range<u32> {
        let first = self.page_of(range.start);
        if range.is_empty() {
            return first..first;
        }
        first..self.page_of(range.end - 1) + 1
    }

    /// The bytes of pages, cut at the end of the file.
    pub(crate) fn bytes_of(&self, pages: &Range<u32>) -> Range<u64> {
        let at = |page: u32| (u64::from(page) * self.page_size()).min(self.length());
        at(pages.start)..at(pages.end)
    }

    /// The block that holds a page.
    pub(crate) fn block_of(&self, page: u32) -> BlockId {
        let index = u64::from(page) * self.page_size() / self.ticket.block_size;
        BlockId {
            file: self.id,
            // A block is no smaller than a page, so there are no more blocks than pages.
            index: BlockIndex(index as u32),
        }
    }

    /// Refuses a ticket that is not for reading.
    pub(crate) fn check_read(&self) -> Result<(), RequestError> {
        match self.ticket.read && !self.ticket.write {
            true => Ok(()),
            false => Err(RequestError::NotAllowed("read")),
        }
    }

    /// Refuses a ticket that is not for writing.
    pub(crate) fn check_write(&self) -> Result<(), RequestError> {
        match self.ticket.write {
            true => Ok(()),
            false => Err(RequestError::NotAllowed("write")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64) -> TicketFile {
        let ticket = Ticket {
            inode: 9,
            version: 1,
            length,
            page_size: 1 << 20,
            block_size: 4 << 20,
            read: true,
            ..Ticket::default()
        };
        TicketFile::new(ticket, bytes::Bytes::new()).unwrap()
    }

    #[test]
    fn ranges_end_with_the_file() {
        let file = file(2_500_000);
        assert_eq!(file.clamp(0, u64::MAX), 0..2_500_000);
        assert_eq!(file.clamp(2_400_000, 1 << 20), 2_400_000..2_500_000);
        assert!(file.clamp(2_500_000, 1).is_empty());
        assert!(file.clamp(u64::MAX, u64::MAX).is_empty());
        assert_eq!(file.pages_of(&(0..1)), 0..1);
        assert_eq!(file.pages_of(&((1 << 20) - 1..(1 << 20) + 1)), 0..2);
        assert_eq!(file.bytes_of(&(2..3)), 2 << 20..2_500_000);
        assert!(file.pages_of(&file.clamp(9 << 20, 1)).is_empty());
    }

    #[test]
    fn blocks_are_runs_of_pages() {
        let file = file(64 << 20);
        assert_eq!(file.block_of(3).index, BlockIndex(0));
        assert_eq!(file.block_of(4).index, BlockIndex(1));
    }

    #[test]
    fn odd_sizes_are_refused() {
        for (page_size, block_size) in [(0, 0), (5, 10), (16 << 10, 0), (16 << 10, 17 << 10), (1 << 10, 1 << 20)] {
            let ticket = Ticket { page_size, block_size, ..Ticket::default() };
            assert!(TicketFile::new(ticket, bytes::Bytes::new()).is_err());
        }
        let ticket = Ticket { length: u64::MAX, page_size: 16 << 10, block_size: 1 << 20, ..Ticket::default() };
        assert!(TicketFile::new(ticket, bytes::Bytes::new()).is_err());
    }
}
