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

/// A directory's marker that has bytes keeps them.
#[tokio::test]
async fn making_a_directory_leaves_its_marker_as_it_is() {
    use forebay_ufs::{ObjectKind, PutCondition, Ufs};
    let store = forebay_ufs::memory::MemoryUfs::new();
    let before = store.insert(b"d/", "somebody's bytes");
    store.make_directory(b"d").await.expect("make");
    let marker = store.stat_object(b"d", ObjectKind::Directory).await.expect("stat").expect("the marker");
    assert_eq!(marker, before);
    store.copy_marker(b"d", b"e", &marker.expected(), &PutCondition::IfAbsent).await.expect("copy");
    assert_eq!(store.bytes(b"e/").expect("the copy"), b"somebody's bytes");
}
