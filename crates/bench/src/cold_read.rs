//! An object of an S3 server, read through an empty cache, against the same GETs by OpenDAL alone; and how many bytes are
//! asked of the store for one that is needed.

use crate::lake::{self, Reach};
use crate::limits::MB;
use crate::report::{Better, Limit, Report};
use crate::{Setting, direct, pace};
use anyhow::{Result, ensure};
use bytes::Bytes;
use forebay_client::{Client, File};
use forebay_testkit::data::Seeded;
use forebay_testkit::fault::{Link, Proxy};
use forebay_testkit::s3::{Access, Versitygw};
use futures::TryStreamExt;
use opendal::Operator;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt;
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
    report.note("a cache writes each byte once and sends it once more: beside a store on the same cores it cannot be as fast as none");
    report.note("store, servers and client share this machine's cores");
    report.note("peers on such a machine: Alluxio reaches 0.16 of the direct GET and asks 8 bytes for one needed");
    Ok(report)
}

/// The best of `rounds`, each side in turn.
async fn speed(report: &mut Report, name: &str, client: &Client, access: &Access, rounds: u32) -> Result<()> {
    let (mut ours, mut direct, mut plain) = (0.0_f64, 0.0_f64, 0.0_f64);
    let operator = direct::operator(BUCKET, access)?;
    for _ in 0..rounds {
        client.free("/lake/big").await?;
        ours = ours.max(through_us(client).await?);
        direct = direct.max(through_opendal(&operator).await?);
        plain = plain.max(through_plain_cache(&operator).await?);
    }
    let mut row = |name: String, limit: Limit, budget| {
        report.row(name, (ours / MB, "MB/s"), Better::Higher, limit, budget);
    };
    row(format!("sequential, {name}"), Limit::new("OpenDAL alone", direct / MB), Some(0.95));
    row(format!("  the same, {name}"), Limit::new("OpenDAL, a file, sendfile", plain / MB), None);
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

/// The least that a cache between the store and a reader must do with the bytes: OpenDAL gets them, one thread writes them to a file and sends them out of
/// it over loopback, one receives them.
async fn through_plain_cache(operator: &Operator) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(directory.path().join("file"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let reader = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    let started = Instant::now();
    let (chunks, arrived) = tokio::sync::mpsc::channel::<Bytes>(64);
    let caching = tokio::task::spawn_blocking(move || write_and_send(&file, &socket, arrived));
    let receiving = tokio::task::spawn_blocking(move || receive_all(reader));
    let opened = operator.reader_with("big").chunk(DIRECT_CHUNK).concurrent(DIRECT_CONCURRENT).await?;
    let mut stream = opened.into_bytes_stream(..).await?;
    while let Some(bytes) = stream.try_next().await? {
        if chunks.send(bytes).await.is_err() {
            break;
        }
    }
    drop(chunks);
    let sent = caching.await??;
    let received = receiving.await??;
    ensure!(sent == received, "{sent} bytes were sent, {received} received");
    Ok(received as f64 / started.elapsed().as_secs_f64())
}

fn write_and_send(
    file: &std::fs::File,
    socket: &std::net::TcpStream,
    mut arrived: tokio::sync::mpsc::Receiver<Bytes>,
) -> Result<u64> {
    let (mut written, mut sent) = (0_u64, 0_u64);
    while let Some(bytes) = arrived.blocking_recv() {
        file.write_all_at(&bytes, written)?;
        written += bytes.len() as u64;
        if written - sent >= PAGE || arrived.is_empty() {
            send(file, socket, &mut sent, written)?;
        }
    }
    send(file, socket, &mut sent, written)?;
    Ok(sent)
}

fn send(file: &std::fs::File, socket: &std::net::TcpStream, from: &mut u64, to: u64) -> Result<()> {
    while *from < to {
        let len = (to - *from) as usize;
        ensure!(rustix::fs::sendfile(socket, file, Some(from), len)? > 0, "the file ends before {to}");
    }
    Ok(())
}

fn receive_all(mut socket: std::net::TcpStream) -> Result<u64> {
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(total),
            got => total += got as u64,
        }
    }
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
    let totals = proxy.totals();
    let mut row = |name: &str, bytes: u64, budget: f64| {
        let limit = Limit::new("the pages that were touched", (touched.len() as u64 * PAGE) as f64 / MB);
        report.row(name, (bytes as f64 / MB, "MB"), Better::Lower, limit, Some(budget));
    };
    row("asked of the store, random 64 KiB reads", totals.asked, 0.99);
    row("sent by the store, random 64 KiB reads", totals.sent, 1.0 / 1.1);
    Ok(())
}
