//! Every store against the one contract.

use forebay_ufs::conformance::{self, Holds};
use forebay_ufs::local::LocalUfs;
use forebay_ufs::memory::MemoryUfs;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conformance::run(Arc::new(MemoryUfs::new()), Holds::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_directory() {
    let dir = tempfile::tempdir().expect("temp dir");
    let holds = Holds { side_by_side: false, ..Holds::ALL };
    conformance::run(Arc::new(LocalUfs::new(dir.path())), holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_listings() {
    conformance::large_listing(Arc::new(MemoryUfs::new()), 20_000).await;
}
