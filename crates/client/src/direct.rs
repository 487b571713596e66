//! Reading from stores themselves: what all files of a client share for it.

use forebay_ufs::GrantedReads;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Ranges that are read from one store at the same time; more wait.
const READS_MAX: usize = 32;
/// After a read from a store that worked, workers that cost time lately are left to those who find out whether they are back.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

/// The way to stores.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) reads: GrantedReads,
    worked: Mutex<Option<Instant>>,
}

impl Direct {
    pub(crate) fn new() -> Direct {
        Direct { reads: GrantedReads::new(READS_MAX), worked: Mutex::new(None) }
    }

    /// Notes that a store has let itself be read; whether none has for a while.
    pub(crate) fn worked(&self) -> bool {
        let before = self.worked.lock().replace(Instant::now());
        before.is_none_or(|before| before.elapsed() >= TRUSTED_FOR)
    }

    /// Whether one has a moment ago.
    pub(crate) fn works(&self) -> bool {
        self.worked.lock().is_some_and(|worked| worked.elapsed() < TRUSTED_FOR)
    }
}
