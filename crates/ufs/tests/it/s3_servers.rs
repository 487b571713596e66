//! The contract against real S3 servers, and what is particular to each.

use crate::common::{bucket, open, open_with};
use forebay_testkit::s3::{Minio, Moto, Versitygw};
use forebay_ufs::ObjectKind;
use forebay_ufs::conformance::{self, Holds};

/// What servers hold that keep objects as files.
fn holds_of_file_systems() -> Holds {
    Holds { side_by_side: false, ..Holds::ALL }
}

/// Its own marker for the next page of uploads is refused when it is sent back, and versions are compared by single deletes alone (1.8.0).
fn holds_of_versitygw() -> Holds {
    Holds { paged_uploads: false, deletes_if_listed: false, ..holds_of_file_systems() }
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_keeps_the_contract() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    conformance::run(open(server.access(), "s3://data"), holds_of_versitygw()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_keeps_the_contract_below_a_prefix_without_checksums() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    server.client().put("data", "outside", "x").await.expect("put");
    let store = open_with(server.access(), "s3://data/some/prefix/", &[("checksums", "false")]);
    conformance::run(store, holds_of_versitygw()).await;
    let left = server.client().list("data", "").await.expect("list");
    assert!(left.iter().any(|object| object.key == "outside"), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_keeps_the_contract() {
    let server = Minio::start().await.expect("minio");
    bucket(&server, "data").await;
    let holds = Holds {
        // It lists uploads for one whole key alone.
        paged_uploads: false,
        // It ignores conditions of deletes.
        deletes_if_listed: false,
        ..holds_of_file_systems()
    };
    conformance::run(open(server.access(), "s3://data/root"), holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_contract_with_every_key() {
    let server = Moto::start().await.expect("moto");
    bucket(&server, "data").await;
    // A mock: it fails with 500 when an upload is completed that is over, completes and deletes (of many) whatever version is there, and gives all
    // uploads in one page.
    let holds = Holds {
        atomic_if_absent: false,
        ended_uploads: false,
        completes_if_tag: false,
        paged_uploads: false,
        deletes_if_listed: false,
        ..Holds::ALL
    };
    conformance::run(open(server.access(), "s3://data"), holds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_objects_are_listed_page_by_page() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    conformance::large_listing(open(server.access(), "s3://data"), 20_000).await;
}

/// MinIO stores `a/b` beside `a` and hides it in listings: our view is the same, the file.
#[tokio::test(flavor = "multi_thread")]
async fn minio_shows_the_file_of_two_objects() {
    let server = Minio::start().await.expect("minio");
    bucket(&server, "data").await;
    server.client().put("data", "both/child", "below").await.expect("put");
    server.client().put("data", "both", "bytes").await.expect("put");
    let store = open(server.access(), "s3://data");
    let page = store.list(b"", None, 100).await.expect("list");
    let shown: Vec<_> = page.entries.iter().map(|entry| (&entry.name[..], entry.meta.kind)).collect();
    assert_eq!(shown, [(&b"both"[..], ObjectKind::File)]);
    let meta = store.stat(b"both").await.expect("stat").expect("both");
    assert_eq!((meta.kind, meta.length), (ObjectKind::File, 5));
    let child = store.stat(b"both/child").await.expect("stat").expect("the child");
    assert_eq!(child.length, 5);
}
