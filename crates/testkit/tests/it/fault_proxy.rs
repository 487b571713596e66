//! Every fault does to a real client and a real server what it says.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use forebay_testkit::data::Seeded;
use forebay_testkit::fault::{Fault, Link, Proxy, Totals, When};
use forebay_testkit::s3::{Client, S3Server, Versitygw};
use http::{HeaderMap, Method, Response, StatusCode, header};
use tokio::time::timeout;

const SIZE: u64 = 300_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// A server with one object of `SIZE` bytes, and a client that reaches it through a proxy.
struct Fixture {
    server: S3Server,
    proxy: Proxy,
    client: Client,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let server = Versitygw::start().await?;
        server.create_bucket("bucket").await?;
        server.client().put("bucket", "object", Seeded::new(1).bytes(0..SIZE)).await?;
        let proxy = Proxy::start(server.endpoint()).await?;
        let client = proxy.access(server.access()).client();
        Ok(Self { server, proxy, client })
    }

    async fn range(&self, range: &str) -> Result<Response<Bytes>> {
        let headers = HeaderMap::from_iter([(header::RANGE, range.parse()?)]);
        self.client.request(Method::GET, "bucket", "object", &[], headers, Bytes::new()).await
    }

    async fn expect_object(&self) -> Result<()> {
        assert_eq!(self.client.get("bucket", "object").await?, Seeded::new(1).bytes(0..SIZE));
        Ok(())
    }
}

#[tokio::test]
async fn without_faults_everything_passes_and_is_counted() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.expect_object().await?;
    let part = fixture.range("bytes=1000-1999").await?;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body(), &Seeded::new(1).bytes(1000..2000));
    fixture.range("bytes=299000-999999").await?;
    fixture.client.put("bucket", "new", vec![7; 5000]).await?;
    assert_eq!(fixture.client.head("bucket", "object").await?.expect("it is there").size, SIZE);

    let gets = fixture.proxy.totals_of(|seen| seen.method == Method::GET);
    assert_eq!(gets, Totals { requests: 3, asked: SIZE + 2000, sent: SIZE + 2000, received: 0 });
    assert_eq!(fixture.proxy.totals().requests, 5);
    assert_eq!(fixture.proxy.totals().received, 5000);
    let seen = fixture.proxy.requests();
    assert_eq!((seen[1].target.as_str(), seen[1].range.as_deref()), ("/bucket/object", Some("bytes=1000-1999")));
    assert_eq!(seen[1].status, 206);
    fixture.proxy.reset_counts();
    assert_eq!(fixture.proxy.totals(), Totals::default());
    Ok(())
}

#[tokio::test]
async fn a_link_takes_its_time() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.proxy.set_link(Link { latency: Duration::from_millis(100), bytes_per_second: Some(1_000_000) });
    let started = Instant::now();
    fixture.expect_object().await?;
    // 100 ms, and 300 kB at 1 MB/s.
    assert!(started.elapsed() >= Duration::from_millis(395), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn faults_before_the_store_sees_the_request() -> Result<()> {
    let fixture = Fixture::new().await?;
    let body = || Bytes::from_static(b"never stored");
    let put = |key: &'static str| fixture.client.request(Method::PUT, "bucket", key, &[], HeaderMap::new(), body());

    let slow_down = fixture.proxy.inject(When::put().times(2), Fault::slow_down());
    for _ in 0..2 {
        let answer = put("x").await?;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(String::from_utf8_lossy(answer.body()).contains("<Code>SlowDown</Code>"));
    }
    assert_eq!(fixture.proxy.struck(slow_down), 2);
    assert_eq!(fixture.server.client().head("bucket", "x").await?, None);
    assert!(put("x").await?.status().is_success());

    fixture.proxy.inject(When::put().path_contains("reset"), Fault::Reset);
    assert!(put("reset").await.is_err());
    assert_eq!(fixture.server.client().head("bucket", "reset").await?, None);

    fixture.proxy.inject(When::put().path_contains("hole"), Fault::BlackHole);
    assert!(timeout(Duration::from_millis(200), put("hole")).await.is_err());
    assert_eq!(fixture.server.client().head("bucket", "hole").await?, None);

    let query = [("uploadId", "1")];
    fixture.proxy.inject(When::complete_upload(), Fault::ErrorInOk("InternalError"));
    let answer = fixture.client.request(Method::POST, "bucket", "k", &query, HeaderMap::new(), body()).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(String::from_utf8_lossy(answer.body()).contains("<Code>InternalError</Code>"));
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_leaves_the_deed_done() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.proxy.inject(When::put().nth(1), Fault::LoseAnswer);
    assert!(fixture.client.put("bucket", "done", "yes").await.is_err());
    assert_eq!(fixture.server.client().get("bucket", "done").await?, "yes");
    Ok(())
}

#[tokio::test]
async fn bodies_end_early() -> Result<()> {
    let fixture = Fixture::new().await?;
    let cut = fixture.proxy.inject(When::get(), Fault::CutBody(100_000));
    assert!(fixture.client.get("bucket", "object").await.is_err());
    assert_eq!(fixture.proxy.totals().sent, 100_000);
    fixture.proxy.remove(cut);

    let stall = fixture.proxy.inject(When::get(), Fault::StallBody(100_000));
    assert!(timeout(Duration::from_millis(300), fixture.client.get("bucket", "object")).await.is_err());
    fixture.proxy.remove(stall);

    fixture.proxy.inject(When::get().times(1), Fault::TruncateBody(100_000));
    assert_eq!(fixture.client.get("bucket", "object").await?, Seeded::new(1).bytes(0..100_000));
    fixture.expect_object().await
}

#[tokio::test]
async fn a_lying_tag() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.proxy.inject(When::any(), Fault::WrongEtag("\"lie\""));
    assert_eq!(fixture.client.head("bucket", "object").await?.expect("it is there").etag, "\"lie\"");
    fixture.proxy.clear();
    assert_ne!(fixture.client.head("bucket", "object").await?.expect("it is there").etag, "\"lie\"");
    Ok(())
}

#[tokio::test]
async fn a_held_request_goes_on_when_released() -> Result<()> {
    let fixture = Fixture::new().await?;
    let hold = fixture.proxy.hold(When::get().nth(1));
    let client = fixture.client.clone();
    let reader = tokio::spawn(async move { client.get("bucket", "object").await });
    hold.reached(DEADLINE).await?;
    fixture.server.client().put("bucket", "object", "changed meanwhile").await?;
    assert!(!reader.is_finished());
    hold.release();
    assert_eq!(reader.await??, "changed meanwhile");
    Ok(())
}

#[tokio::test]
async fn refused_connections_and_back() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.expect_object().await?;
    fixture.proxy.refuse();
    let error = fixture.client.get("bucket", "object").await.unwrap_err();
    // The pooled connection is closed first; the next one is refused.
    let error = match fixture.client.get("bucket", "object").await {
        Err(again) => again,
        Ok(_) => error,
    };
    assert!(format!("{error:#}").contains("refused"), "{error:#}");
    fixture.proxy.accept()?;
    fixture.expect_object().await
}

#[tokio::test]
async fn a_delay_is_for_the_matching_request_only() -> Result<()> {
    let fixture = Fixture::new().await?;
    fixture.proxy.inject(When::get().nth(2), Fault::Delay(Duration::from_millis(250)));
    fixture.expect_object().await?;
    let started = Instant::now();
    fixture.expect_object().await?;
    assert!(started.elapsed() >= Duration::from_millis(250));
    Ok(())
}
