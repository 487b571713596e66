//! Descriptors handed out to a client on this host.

use crate::{
    TierKind,
    open_files::{Held, OpenFile},
    store::Inner,
};
use std::{
    fmt,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// How long the bytes behind descriptors stay as they are after the connection that they were leased on has ended, however it
/// ended. Who hands out leases drops them only then, or never ([`crate::PageStore::stop_punching`]); a store that is opened on a directory that was
/// used before punches nothing for as long, since the process before it may have been killed under its clients. So a client that has seen its connection
/// alive less than this ago can believe what it read.
pub const LEASE_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

/// Two read-only descriptors of one cached file ([`crate::LocalFile`] reads them; the format is in `docs/formats/page-store.md`). While it lives the file is never punched,
/// and its space counts even when it is dropped: keep it until [`LEASE_GRACE`] after the client's connection has ended, then drop it.
pub struct Lease {
    pub(crate) inner: Arc<Inner>,
    pub(crate) file: Arc<OpenFile>,
    pub(crate) data: Held,
    pub(crate) sums: Held,
}

impl Lease {
    /// The data file: each page at its natural offset.
    pub fn data(&self) -> BorrowedFd<'_> {
        self.data.as_fd()
    }

    /// The checksum file.
    pub fn checksums(&self) -> BorrowedFd<'_> {
        self.sums.as_fd()
    }

    /// Which tier has it.
    pub fn tier(&self) -> TierKind {
        self.file.dir.kind
    }

    /// Brings cached pages of `range` (bytes) that lie in other directories into this file (*blocking*). Whether all of the
    /// range is in this file now.
    pub fn localize(&self, range: Range<u64>) -> bool {
        self.inner.localize(&self.file, range)
    }

    /// Whether the client should ask for a new one: the file has been dropped since, or its directory is out of use.
    pub fn is_stale(&self) -> bool {
        self.file.is_retired() || !self.file.dir.is_readable()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let inner = self.inner.clone();
        inner.leave_lease(self);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} in {})", self.file.file(), self.file.dir.path.display())
    }
}
