//! An object of an S3 server, read through an empty cache, against the same GETs by OpenDAL alone; and how many bytes are
//! asked of the store for one that is needed.

use crate::lake::{self, Reach};
use crate::limits::MB;
use crate::report::{Better, Limit, Report};
use crate::{Setting, direct, pace};
use anyhow::{Result, ensure};
use forebay_client::{Client, File};
use forebay_testkit::data::Seeded;
use forebay_testkit::fault::{Link, Proxy};
use forebay_testkit::s3::{Access, Versitygw};
use futures::TryStreamExt;
use opendal::Operator;
use std::time::{Duration, Instant};

const BUCKET: &str = "lake";
/// What OpenDAL reads with: ranges of 8 MiB, eight at a time, as its users are told to.
const DIRECT_CHUNK: usize = 8 << 20;
const DIRECT_CONCURRENT: usize = 8;
const PAGE: u64 = 1 << 20;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let length: u64 = setting.pick(1 << 30, 256 << 20);
    let store = Versitygw::start().await?;
    store.create_bucket(BUCKET).await?;
    store.client().put(BUCKET, "big", Seeded::new(1).bytes(0..length)).await?;
    let proxy = Proxy::start(store.endpoint()).await?;
    let cluster = lake::start(lake::credentials(store.access())).await?;
    // Over TCP: the descriptors of a client on this host would keep the bytes that are freed between rounds.
    let client = lake::client(&cluster, Reach::Tcp).await?;
    let mut report = Report::default();

    lake::mount_bucket(&client, BUCKET, store.endpoint()).await?;
    speed(&mut report, "store on this machine", &client, store.access(), setting.pick(3, 2)).await?;

    client.remove_mount("/lake", false).await?;
    lake::mount_bucket(&client, BUCKET, &proxy.endpoint()).await?;
    proxy.set_link(Link { latency: Duration::from_millis(20), bytes_per_second: Some(200_000_000) });
    speed(&mut report, "store 20 ms and 200 MB/s away", &client, &proxy.access(store.access()), 1).await?;
    proxy.set_link(Link::default());

    sequential_amplification(&mut report, &client, &proxy).await?;
    random_amplification(&mut report, &client, &proxy, setting.pick(200, 50)).await?;
    report.note("store, servers and client share this machine's cores");
    report.note("peers on such a machine: Alluxio reaches 0.16 of the direct GET and asks 8 bytes for one needed");
    Ok(report)
}

/// The best of `rounds`, each side in turn.
async fn speed(report: &mut Report, name: &str, client: &Client, access: &Access, rounds: u32) -> Result<()> {
    let (mut ours, mut direct) = (0.0_f64, 0.0_f64);
    let operator = direct::operator(BUCKET, access)?;
    for _ in 0..rounds {
        client.free("/lake/big").await?;
        ours = ours.max(through_us(client).await?);
        direct = direct.max(through_opendal(&operator).await?);
    }
    let limit = Limit::new("OpenDAL alone", direct / MB);
    report.row(format!("sequential, {name}"), (ours / MB, "MB/s"), Better::Higher, limit, Some(0.95));
    Ok(())
}

async fn through_us(client: &Client) -> Result<f64> {
    let started = Instant::now();
    let file = client.open("/lake/big").await?;
    let total = drain(&file).await?;
    ensure!(total == file.len(), "{total} bytes came");
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

async fn drain(file: &File) -> Result<u64> {
    let mut total = 0;
    let mut chunks = file.stream(..);
    while let Some(chunk) = chunks.try_next().await? {
        total += chunk.len() as u64;
    }
    Ok(total)
}

async fn through_opendal(operator: &Operator) -> Result<f64> {
    let started = Instant::now();
    let reader = operator.reader_with("big").chunk(DIRECT_CHUNK).concurrent(DIRECT_CONCURRENT).await?;
    let mut stream = reader.into_bytes_stream(..).await?;
    let mut total = 0;
    while let Some(bytes) = stream.try_next().await? {
        total += bytes.len() as u64;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

async fn sequential_amplification(report: &mut Report, client: &Client, proxy: &Proxy) -> Result<()> {
    client.free("/lake/big").await?;
    proxy.reset_counts();
    let file = client.open("/lake/big").await?;
    let needed = drain(&file).await? as f64;
    let totals = proxy.totals();
    let mut row = |name: &str, bytes: u64| {
        let limit = Limit::new("one", 1.0);
        report.row(name, (bytes as f64 / needed, "bytes/byte"), Better::Lower, limit, Some(1.0 / 1.1));
    };
    row("asked of the store for one needed, sequential", totals.asked);
    row("sent by the store for one needed, sequential", totals.sent);
    Ok(())
}

/// Random reads of 64 KiB: each touched page may be fetched, nothing else.
async fn random_amplification(report: &mut Report, client: &Client, proxy: &Proxy, reads: u64) -> Result<()> {
    const LENGTH: u64 = 64 << 10;
    client.free("/lake/big").await?;
    proxy.reset_counts();
    let file = client.open("/lake/big").await?;
    let mut touched = std::collections::BTreeSet::new();
    for number in 0..reads {
        let offset = pace::random(7, number) % (file.len() / LENGTH) * LENGTH;
        let bytes = file.read_at(offset, LENGTH as usize).await?;
        Seeded::new(1).check(offset, &bytes)?;
        touched.insert(offset / PAGE);
    }
    let asked = proxy.totals().asked as f64;
    let limit = Limit::new("the pages that were touched", (touched.len() as u64 * PAGE) as f64 / MB);
    report.row("asked of the store, random 64 KiB reads", (asked / MB, "MB"), Better::Lower, limit, Some(0.99));
    Ok(())
}
