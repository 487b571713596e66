//! Space and pages claimed before they are written.

use crate::{
    FileMeta,
    geometry::{Geometry, set_bits},
    store::{Inner, Part, Written},
};
use forebay_base::{FileId, PageIndex};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::AcqRel, atomic::Ordering::Acquire},
};

/// Pages of one file version that only the holder may fill, and the space for them.
/// Can be shared by the threads that fetch the pages. Dropping it gives back what was not written, without waiting for a disk.
pub struct Reservation {
    pub(crate) inner: Arc<Inner>,
    pub(crate) file: FileId,
    pub(crate) meta: FileMeta,
    pub(crate) geometry: Geometry,
    /// Ascending by extent.
    pub(crate) parts: Vec<Part>,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is cached: the next lookup finds it.
    Yes,
    /// It is not: the page was not claimed here, the file was dropped meanwhile, or the disk would not take it.
    No,
}

impl Reservation {
    /// The pages claimed and not yet written, ascending. May be none: all are cached, or others are at them.
    pub fn pages(&self) -> Vec<PageIndex> {
        let pages = self.parts.iter().flat_map(|part| {
            let slots = set_bits(part.remaining.load(Acquire));
            slots.map(|slot| PageIndex(self.geometry.page_at(part.key.extent, slot)))
        });
        pages.collect()
    }

    /// Stores a page (*blocking*): `bytes` is the whole page, or what the file has of its last one. `checksums` are the CRC32C of its chunks as made when the
    /// bytes entered this process; without them they are made here.
    pub fn write(&self, page: PageIndex, bytes: &[u8], checksums: Option<&[u32]>) -> Stored {
        let Some(part) = self.take(page.0) else {
            return Stored::No;
        };
        let wanted_len = self.meta.length.map(|length| self.geometry.page_len(page.0, length) as usize);
        let fits = !bytes.is_empty()
            && bytes.len() <= self.geometry.page_size() as usize
            && wanted_len.is_none_or(|wanted| wanted == bytes.len());
        debug_assert!(fits, "page {page} of {} with {} bytes", self.file, bytes.len());
        let slot = self.geometry.slot_of(page.0);
        if !fits {
            self.inner.give_back(part, 1 << slot, self);
            return Stored::No;
        }
        match self.inner.write_page(self, part, page.0, bytes, checksums) {
            Written::Yes => Stored::Yes,
            Written::No => Stored::No,
        }
    }

    /// Takes the right to write a page; it can be taken once.
    fn take(&self, page: u32) -> Option<&Part> {
        let extent = self.geometry.extent_of(page);
        let place = self.parts.binary_search_by_key(&extent, |part| part.key.extent).ok()?;
        let (part, bit) = (&self.parts[place], 1 << self.geometry.slot_of(page));
        (part.remaining.fetch_and(!bit, AcqRel) & bit != 0).then_some(part)
    }

    /// The space that is reserved for a page.
    pub(crate) fn space_of(&self, page: u32) -> u64 {
        let page_size = self.geometry.page_size();
        let len = self.meta.length.map_or(page_size, |length| self.geometry.page_len(page, length));
        crate::geometry::space_of(len)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for part in &self.parts {
            let left = part.remaining.swap(0, AcqRel);
            if left != 0 {
                self.inner.give_back(part, left, self);
            }
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({} {:?})", self.file, self.pages())
    }
}
