//! A store that fails, lies and falls silent, between us and a real S3 server.

use crate::common::{bucket, open, open_with};
use bytes::Bytes;
use forebay_testkit::fault::{Fault, Proxy, When};
use forebay_testkit::s3::{S3Server, Versitygw};
use forebay_ufs::{ObjectMeta, PartPosition, PutCondition, Ufs, UfsError, UfsResult};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server, a proxy before it, and a store behind both that is impatient.
struct Faulty {
    server: S3Server,
    proxy: Proxy,
    store: Arc<dyn Ufs>,
}

impl Faulty {
    async fn start() -> Faulty {
        let server = Versitygw::start().await.expect("versitygw");
        bucket(&server, "data").await;
        let proxy = Proxy::start(server.endpoint()).await.expect("proxy");
        let options = [("stall_timeout", "400ms"), ("deadline", "8s")];
        let store = open_with(&proxy.access(server.access()), "s3://data", &options);
        Faulty { server, proxy, store }
    }

    async fn put(&self, key: &str, body: impl Into<Bytes>) -> ObjectMeta {
        let put = self.store.put(key.as_bytes(), vec![body.into()], &PutCondition::None).await;
        put.expect("put")
    }

    async fn read(&self, key: &str, meta: &ObjectMeta) -> UfsResult<Vec<u8>> {
        let stream = self.store.read(key.as_bytes(), 0..meta.length, &meta.expected()).await?;
        let chunks: Vec<Bytes> = stream.try_collect().await?;
        Ok(chunks.concat())
    }

    /// What the server has, without proxy and faults.
    async fn stored(&self, key: &str) -> Bytes {
        self.server.client().get("data", key).await.expect("get")
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again() {
    let faulty = Faulty::start().await;
    let meta = faulty.put("file", "content").await;
    for fault in [
        Fault::slow_down(),
        Fault::Status(500, "InternalError"),
        Fault::Status(409, "ExistingObjectIsDirectory"),
        Fault::Reset,
        Fault::BlackHole,
    ] {
        let rule = faulty.proxy.inject(When::any().times(1), fault.clone());
        let found = faulty.store.stat(b"file").await.expect("stat").expect("the file");
        assert_eq!(found.tag, meta.tag, "{fault:?}");
        assert_eq!(faulty.proxy.struck(rule), 1, "{fault:?}");
        faulty.proxy.inject(When::put().times(1), fault.clone());
        faulty.put("other", "x").await;
        faulty.proxy.inject(When::list().times(1), fault.clone());
        assert_eq!(faulty.store.list(b"", None, 10).await.expect("list").entries.len(), 2, "{fault:?}");
        faulty.proxy.inject(When::get().times(1), fault.clone());
        assert_eq!(faulty.read("file", &meta).await.expect("read"), b"content", "{fault:?}");
        faulty.proxy.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_ends_within_the_deadline() {
    let faulty = Faulty::start().await;
    faulty.proxy.inject(When::any(), Fault::BlackHole);
    let begun = Instant::now();
    let error = faulty.store.stat(b"file").await.expect_err("a black hole");
    assert!(error.is_retryable(), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    faulty.proxy.clear();
    faulty.proxy.inject(When::any(), Fault::Status(403, "AccessDenied"));
    let error = faulty.store.stat(b"file").await.expect_err("denied");
    assert!(matches!(error, UfsError::Denied(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_no_lost_write() {
    let faulty = Faulty::start().await;
    faulty.proxy.inject(When::put().times(1), Fault::LoseAnswer);
    let put = faulty.store.put(b"created", vec![Bytes::from_static(b"mine")], &PutCondition::IfAbsent).await;
    assert_eq!(put.expect("it is ours").length, 4);
    assert_eq!(faulty.stored("created").await, "mine");
    let old = faulty.put("replaced", "old").await;
    faulty.proxy.inject(When::put().times(1), Fault::LoseAnswer);
    let put = faulty.store.put(b"replaced", vec![Bytes::from_static(b"new")], &PutCondition::IfTag(old.tag)).await;
    put.expect("it is ours");
    assert_eq!(faulty.stored("replaced").await, "new");
    // Somebody else's object stays somebody else's, also when our request was sent twice.
    faulty.server.client().put("data", "theirs", "theirs").await.expect("put");
    faulty.proxy.inject(When::put().times(1), Fault::Reset);
    let put = faulty.store.put(b"theirs", vec![Bytes::from_static(b"mine")], &PutCondition::IfAbsent).await;
    assert!(matches!(put, Err(UfsError::AlreadyExists(_))), "{put:?}");
    assert_eq!(faulty.stored("theirs").await, "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_is_repeated_without_harm() {
    let faulty = Faulty::start().await;
    for (key, fault) in [
        ("lost", Fault::LoseAnswer),
        ("error-in-ok", Fault::ErrorInOk("InternalError")),
        ("slow", Fault::slow_down()),
        ("silent", Fault::BlackHole),
    ] {
        let upload = faulty.store.begin_upload(key.as_bytes()).await.expect("begin");
        let position = PartPosition { number: 1, offset: 0 };
        let part = faulty.store.put_part(key.as_bytes(), &upload, position, vec![body(100_000).into()]).await;
        let parts = [part.expect("part")];
        faulty.proxy.inject(When::complete_upload().times(1), fault);
        // The patience with completions is a minute: the black hole is left by this test's own deadline.
        let complete = faulty.store.complete_upload(key.as_bytes(), &upload, &parts, &PutCondition::IfAbsent);
        let meta = match key {
            "silent" => {
                let given_up = tokio::time::timeout(Duration::from_millis(500), complete).await;
                assert!(given_up.is_err(), "an answer out of a black hole");
                let again = faulty.store.complete_upload(key.as_bytes(), &upload, &parts, &PutCondition::IfAbsent);
                again.await.expect("complete")
            }
            _ => complete.await.expect("complete"),
        };
        assert_eq!(faulty.read(key, &meta).await.expect("read"), body(100_000), "{key}");
        faulty.proxy.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_bodies_are_resumed() {
    let faulty = Faulty::start().await;
    let bytes = body(3 << 20);
    let meta = faulty.put("file", bytes.clone()).await;
    for fault in [Fault::CutBody(1_000_000), Fault::StallBody(1_000_000)] {
        faulty.proxy.reset_counts();
        let rule = faulty.proxy.inject(When::get().times(2), fault.clone());
        assert!(faulty.read("file", &meta).await.expect("read") == bytes, "{fault:?}");
        assert_eq!(faulty.proxy.struck(rule), 2);
        let asked = faulty.proxy.totals().asked;
        assert!(asked <= 3 * meta.length, "{asked} bytes asked for {}", meta.length);
        let ranges: Vec<_> = faulty.proxy.requests().into_iter().filter_map(|seen| seen.range).collect();
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert_eq!(ranges.iter().filter(|range| range.starts_with("bytes=0-")).count(), 1, "{ranges:?}");
        faulty.proxy.clear();
    }
    // Never silent, never done: a byte now and then.
    let rule = faulty.proxy.inject(When::get().times(2), Fault::TrickleBody(1_000_000));
    assert!(faulty.read("file", &meta).await.expect("read") == bytes, "a trickle");
    assert_eq!(faulty.proxy.struck(rule), 2);
    faulty.proxy.clear();
    faulty.proxy.inject(When::get(), Fault::TrickleBody(0));
    let error = faulty.read("file", &meta).await.expect_err("trickles only");
    assert!(matches!(error, UfsError::Unavailable(_)), "{error:?}");
    faulty.proxy.clear();
    faulty.proxy.inject(When::get(), Fault::CutBody(0));
    let error = faulty.read("file", &meta).await.expect_err("no byte ever");
    assert!(matches!(error, UfsError::Unavailable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_are_not_believed() {
    let faulty = Faulty::start().await;
    let meta = faulty.put("file", body(100_000)).await;
    faulty.proxy.inject(When::get(), Fault::WrongEtag("\"another\""));
    let error = faulty.read("file", &meta).await.expect_err("another tag");
    assert!(matches!(error, UfsError::VersionChanged(_)), "{error:?}");
    faulty.proxy.clear();
    faulty.proxy.inject(When::get(), Fault::TruncateBody(5_000));
    let error = faulty.read("file", &meta).await;
    assert!(error.is_err() || error.as_ref().is_ok_and(|bytes| *bytes == body(100_000)), "silently short");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_replaced_under_a_reader_is_an_error_and_never_a_mixture() {
    let faulty = Faulty::start().await;
    let meta = faulty.put("file", vec![b'a'; 3 << 20]).await;
    faulty.proxy.inject(When::get().times(1), Fault::CutBody(500_000));
    let mut stream = faulty.store.read(b"file", 0..meta.length, &meta.expected()).await.expect("read");
    let first = stream.next().await.expect("a chunk").expect("bytes");
    assert!(first.iter().all(|byte| *byte == b'a'));
    faulty.server.client().put("data", "file", vec![b'b'; 3 << 20]).await.expect("put");
    let rest: UfsResult<Vec<Bytes>> = stream.try_collect().await;
    assert!(matches!(rest, Err(UfsError::VersionChanged(_))), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_store_is_named_and_comes_back() {
    let faulty = Faulty::start().await;
    faulty.proxy.refuse();
    let error = faulty.store.check(forebay_ufs::Access::Read).await.expect_err("refused");
    assert!(matches!(error, UfsError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("cannot reach http://127.0.0.1:"), "{error}");
    faulty.proxy.accept().expect("accept");
    faulty.store.check(forebay_ufs::Access::ReadWrite).await.expect("it is back");
}

/// versitygw refuses a write falsely while another client removes the last object beside it: such writes are sent again.
#[tokio::test(flavor = "multi_thread")]
async fn writes_beside_deletes_succeed() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    let store = open(server.access(), "s3://data");
    let churn = |name: &'static str| {
        let store = Arc::clone(&store);
        async move {
            let key = format!("p/q/{name}");
            for _ in 0..60 {
                store.put(key.as_bytes(), vec![Bytes::from_static(b"x")], &PutCondition::None).await.expect("put");
                let target = forebay_ufs::DeleteTarget::file(key.clone());
                store.delete(&[target]).await.expect("delete").pop().expect("a result").expect("deleted");
            }
        }
    };
    tokio::join!(churn("a"), churn("b"), churn("c"));
}
