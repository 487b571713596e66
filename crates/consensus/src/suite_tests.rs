//! openraft's own suite for stores, on ours.

use std::path::Path;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::applier::Applier;
use crate::ledger::Ledger;
use crate::log::{Log, LogSettings, OsDisk};
use crate::log_store::LogStore;
use crate::raft_types::Types;
use crate::settings::MemberId;

struct Builder {
    settings: LogSettings,
}

impl Builder {
    fn open(&self, dir: &Path) -> (LogStore, Applier) {
        let nothing = (Box::new(|_: &str| ()), Box::new(|_| ()));
        let log = Log::open(Arc::new(OsDisk), dir, MemberId(0), self.settings, nothing.0, nothing.1).unwrap();
        let applier = Applier::new(Ledger::in_memory().boxed(), dir.join("snapshots")).unwrap();
        (LogStore::new(Arc::new(log)), applier)
    }
}

impl StoreBuilder<Types, LogStore, Applier, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Applier), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, applier) = self.open(dir.path());
        Ok((dir, log, applier))
    }
}

fn check(settings: LogSettings) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder { settings })).unwrap();
}

#[test]
fn the_suite_passes_with_everything_in_memory() {
    check(LogSettings { segment_bytes: 32 << 20, cache_bytes: 32 << 20 });
}

#[test]
fn the_suite_passes_with_everything_read_from_small_segments() {
    check(LogSettings { segment_bytes: 256, cache_bytes: 0 });
}
