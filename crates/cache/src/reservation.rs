//! Space and pages claimed before they are written.

use forebay_base::PageIndex;

/// Pages of one file version that only the holder may fill, and the space for them.
/// Can be shared by the threads that fetch the pages. Dropping it gives back what was not written.
pub struct Reservation {
    _private: (),
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is cached: the next lookup finds it.
    Yes,
    /// It is not: the page was not claimed here, the file was dropped meanwhile, or the disk would not take it.
    No,
}

#[allow(unused_variables, clippy::todo)]
impl Reservation {
    /// The pages claimed, ascending. May be none: all are cached, or others are at them.
    pub fn pages(&self) -> Vec<PageIndex> {
        todo!()
    }

    /// Stores a page (*blocking*): `bytes` is the whole page, or what the file has of its last one. `checksums` are the CRC32C of its chunks as made when the
    /// bytes entered this process; without them they are made here.
    pub fn write(&self, page: PageIndex, bytes: &[u8], checksums: Option<&[u32]>) -> Stored {
        todo!()
    }
}
