//! Descriptors handed out to a client on this host.

use crate::TierKind;
use std::{ops::Range, os::fd::BorrowedFd};

/// Two read-only descriptors of one cached file (docs/formats/page-store.md says how a client reads them). While it lives the file is never punched,
/// and its space counts even when it is dropped: keep it until the client's connection has ended, then drop it.
pub struct Lease {
    _private: (),
}

#[allow(unused_variables, clippy::todo)]
impl Lease {
    /// The data file: each page at its natural offset.
    pub fn data(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// The checksum file.
    pub fn checksums(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Which tier has it.
    pub fn tier(&self) -> TierKind {
        todo!()
    }

    /// Brings cached pages of `range` (bytes) that lie in other directories into this file (*blocking*). Whether all of the
    /// range is in this file now.
    pub fn localize(&self, range: Range<u64>) -> bool {
        todo!()
    }

    /// Whether the file has been dropped since: the client should ask for a new one.
    pub fn is_stale(&self) -> bool {
        todo!()
    }
}
