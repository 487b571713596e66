//! Reading objects of real servers by signed URLs: what the servers enforce, and what faults on the way do.

use crate::common::{bucket, open};
use bytes::Bytes;
use forebay_testkit::fault::{Fault, Proxy, When};
use forebay_testkit::s3::{Minio, S3Server, Versitygw};
use forebay_testkit::wait;
use forebay_ufs::{Expected, GrantedReads, GrantedWay, HttpGrant, ReadGrant, UfsError, UfsResult};
use futures::TryStreamExt;
use std::ops::Range;
use std::time::Duration;

const LENGTH: usize = 3_000_000;

async fn read(reads: &GrantedReads, grant: &ReadGrant, range: Range<u64>) -> UfsResult<Vec<u8>> {
    let chunks: Vec<Bytes> = reads.read(grant, range).await?.try_collect().await?;
    Ok(chunks.concat())
}

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at * 31 + (at >> 8)) as u8).collect()
}

fn http(grant: &ReadGrant) -> HttpGrant {
    match &grant.way {
        GrantedWay::Http(http) => http.clone(),
        GrantedWay::Directory(_) => panic!("S3 is no directory"),
    }
}

/// A server with one object, seen through a proxy; its version.
async fn stored(server: &S3Server) -> (Proxy, std::sync::Arc<dyn forebay_ufs::Ufs>, Expected) {
    bucket(server, "data").await;
    server.client().put("data", "k", content()).await.expect("put");
    let proxy = Proxy::start(server.endpoint()).await.expect("proxy");
    let store = open(&proxy.access(server.access()), "s3://data");
    let expected = store.stat(b"k").await.expect("stat").expect("the object").expected();
    (proxy, store, expected)
}

async fn a_right_is_for_one_version_and_a_while(server: S3Server) {
    let (_proxy, store, expected) = stored(&server).await;
    let reads = GrantedReads::new(2);
    let grant = store.grant_read(b"k", &expected, Duration::from_secs(60)).await.expect("grant");
    assert!(read(&reads, &grant, 1..LENGTH as u64).await.expect("read") == content()[1..]);

    // Without its condition, with another one, or for another object the signature does not hold.
    let bare = http(&grant);
    let without = HttpGrant { headers: Vec::new(), ..bare.clone() };
    let other = HttpGrant { headers: vec![("if-match".into(), "\"0\"".into())], ..bare.clone() };
    let elsewhere = HttpGrant { url: bare.url.replace("/data/k?", "/data/l?"), ..bare };
    // A tag that is no condition, so that the reader adds none by itself.
    let unknown = Expected { tag: forebay_base::VersionTag("W/x".into()), ..expected.clone() };
    for wrong in [without, other, elsewhere] {
        let wrong = ReadGrant { way: GrantedWay::Http(wrong), expected: unknown.clone(), ..grant.clone() };
        let outcome = read(&reads, &wrong, 0..10).await;
        assert!(matches!(outcome, Err(UfsError::Denied(_) | UfsError::Invalid(_))), "{outcome:?}");
    }

    let short = store.grant_read(b"k", &expected, Duration::from_secs(1)).await.expect("grant");
    let ended = wait::for_some("the right to end", Duration::from_secs(30), || async {
        read(&reads, &short, 0..10).await.err()
    });
    let ended = ended.await.expect("it ends");
    assert!(matches!(ended, UfsError::Denied(_)), "{ended:?}");
    assert!(!ended.to_string().contains("X-Amz"), "{ended}");

    server.client().put("data", "k", vec![7; LENGTH]).await.expect("put");
    let changed = read(&reads, &grant, 0..10).await;
    assert!(matches!(changed, Err(UfsError::VersionChanged(_))), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versitygw_heeds_rights() {
    a_right_is_for_one_version_and_a_while(Versitygw::start().await.expect("versitygw")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_heeds_rights() {
    a_right_is_for_one_version_and_a_while(Minio::start().await.expect("minio")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_got_over_or_told_without_the_url() {
    let server = Versitygw::start().await.expect("versitygw");
    let (proxy, store, expected) = stored(&server).await;
    let reads = GrantedReads::new(2);
    let grant = store.grant_read(b"k", &expected, Duration::from_secs(60)).await.expect("grant");
    for fault in [Fault::slow_down(), Fault::Reset, Fault::CutBody(100_000), Fault::Status(500, "InternalError")] {
        let rule = proxy.inject(When::get().times(2), fault.clone());
        assert!(read(&reads, &grant, 5..LENGTH as u64).await.expect("read") == content()[5..], "{fault:?}");
        assert_eq!(proxy.struck(rule), 2, "{fault:?}");
        proxy.clear();
    }
    // Of the store's answers only the right version counts, whatever the store heeds.
    proxy.inject(When::get(), Fault::WrongEtag("\"another\""));
    let changed = read(&reads, &grant, 0..10).await;
    assert!(matches!(changed, Err(UfsError::VersionChanged(_))), "{changed:?}");
    proxy.clear();
    for fault in [Some(Fault::Reset), Some(Fault::CutBody(10)), Some(Fault::Status(403, "AccessDenied")), None] {
        match fault {
            Some(fault) => drop(proxy.inject(When::get(), fault)),
            None => proxy.refuse(),
        }
        let error = read(&reads, &grant, 0..LENGTH as u64).await.expect_err("a fault each time");
        let text = format!("{error} {error:?} {}", error.hint());
        assert!(!text.contains("X-Amz") && text.contains("s3://data"), "{text}");
        proxy.clear();
    }
}
