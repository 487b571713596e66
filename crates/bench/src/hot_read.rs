//! Cached bytes, again and again: 1 MiB sequential and 4 KiB random, 1 and 8 streams, over TCP and on the same host.

use crate::Setting;
use crate::lake::{self, Reach};
use crate::limits::{self, MB};
use crate::pace;
use crate::report::{Better, Limit, Report};
use anyhow::{Result, ensure};
use forebay_client::{Client, File};
use forebay_testkit::data::Seeded;
use futures::TryStreamExt;
use std::path::Path;
use std::time::Duration;

/// Larger than the CPU's caches, small enough to stay in the page cache; four blocks.
const FILE_BYTES: u64 = 256 << 20;
const BLOCK_BYTES: u64 = 64 << 20;
const SMALL: u64 = 4096;
const STREAMS: [usize; 2] = [1, 8];

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let time = setting.pick(Duration::from_secs(5), Duration::from_secs(2));
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, Seeded::new(1).bytes(0..FILE_BYTES))?;
    let cluster = lake::start(Vec::new()).await?;
    let client = lake::client(&cluster, Reach::Tcp).await?;
    lake::mount_directory(&client, dir.path()).await?;
    warm(&client).await?;
    let mut report = Report::default();
    for reach in [Reach::Tcp, Reach::SameHost] {
        let client = lake::client(&cluster, reach).await?;
        warm(&client).await?;
        for streams in STREAMS {
            sequential(&mut report, &client, reach, streams, &path, time).await?;
        }
        for streams in STREAMS {
            random(&mut report, &client, reach, streams, &path, time).await?;
        }
        borders(&mut report, &client, reach, time).await?;
    }
    report.note(
        "peers on such a machine: Alluxio 1,200 to 1,600 MB/s and 1,400 to 2,300 random reads/s over TCP, one stream",
    );
    Ok(report)
}

/// Reads the file once and compares every byte, so that what follows is hot and right.
async fn warm(client: &Client) -> Result<()> {
    let file = client.open("/lake/file").await?;
    ensure!(file.len() == FILE_BYTES, "the file has {} bytes", file.len());
    let (seeded, mut at) = (Seeded::new(1), 0);
    let mut chunks = file.stream(..);
    while let Some(chunk) = chunks.try_next().await? {
        seeded.check(at, &chunk)?;
        at += chunk.len() as u64;
    }
    ensure!(at == FILE_BYTES, "{at} bytes came");
    Ok(())
}

fn title(reach: Reach) -> &'static str {
    match reach {
        Reach::Tcp => "TCP",
        Reach::SameHost => "same host",
    }
}

async fn sequential(
    report: &mut Report,
    client: &Client,
    reach: Reach,
    streams: usize,
    path: &Path,
    time: Duration,
) -> Result<()> {
    let client = client.clone();
    let ours = pace::rate(streams, time, move |_, _| read_all(client.clone(), reach)).await?;
    let path = path.to_path_buf();
    let (name, limit) = tokio::task::spawn_blocking(move || match reach {
        Reach::Tcp => anyhow::Ok(("sendfile over loopback", limits::sendfile_loopback(&path, streams, time)?)),
        Reach::SameHost => {
            Ok(("pread of the page cache", parallel(streams, || limits::pread_sequential(&path, 1 << 20, time))?))
        }
    })
    .await??;
    let budget = match reach {
        Reach::Tcp => 0.9,
        Reach::SameHost => 0.8,
    };
    let row = format!("{}, sequential 1 MiB, {streams} streams", title(reach));
    report.row(row, (ours / MB, "MB/s"), Better::Higher, Limit::new(name, limit / MB), Some(budget));
    Ok(())
}

/// The whole file in order: over TCP as a stream, on the same host by positioned reads of 1 MiB as `pread` does.
async fn read_all(client: Client, reach: Reach) -> Result<u64> {
    let file = client.open("/lake/file").await?;
    match reach {
        Reach::Tcp => {
            let mut total = 0;
            let mut chunks = file.stream(..);
            while let Some(chunk) = chunks.try_next().await? {
                total += chunk.len() as u64;
            }
            Ok(total)
        }
        Reach::SameHost => {
            let mut buffer = vec![0; 1 << 20];
            let mut at = 0;
            while at < file.len() {
                at += file.read_at_into(at, &mut buffer).await? as u64;
            }
            Ok(at)
        }
    }
}

async fn random(
    report: &mut Report,
    client: &Client,
    reach: Reach,
    streams: usize,
    path: &Path,
    time: Duration,
) -> Result<()> {
    let file = client.open("/lake/file").await?;
    let ours = small_reads(file, streams, time, |random| random % (FILE_BYTES / SMALL) * SMALL).await?;
    let path = path.to_path_buf();
    let (name, limit) = tokio::task::spawn_blocking(move || match reach {
        Reach::Tcp => anyhow::Ok((
            "pread and write over loopback",
            limits::random_over_loopback(&path, SMALL as usize, streams, time)?,
        )),
        Reach::SameHost => {
            Ok(("pread of the page cache", parallel(streams, || limits::pread_random(&path, SMALL as usize, time))?))
        }
    })
    .await??;
    let row = format!("{}, random 4 KiB, {streams} streams", title(reach));
    report.row(row, (ours, "reads/s"), Better::Higher, Limit::new(name, limit), None);
    Ok(())
}

/// Reads that straddle two blocks, against reads that do not.
async fn borders(report: &mut Report, client: &Client, reach: Reach, time: Duration) -> Result<()> {
    let file = client.open("/lake/file").await?;
    let inside = small_reads(file.clone(), 1, time, |random| random % (FILE_BYTES / SMALL) * SMALL).await?;
    let blocks = FILE_BYTES / BLOCK_BYTES;
    let across =
        small_reads(file, 1, time, move |random| (1 + random % (blocks - 1)) * BLOCK_BYTES - SMALL / 2).await?;
    let row = format!("{}, 4 KiB across a block border", title(reach));
    report.row(row, (across, "reads/s"), Better::Higher, Limit::new("the same within blocks", inside), Some(0.4));
    Ok(())
}

async fn small_reads(
    file: File,
    streams: usize,
    time: Duration,
    place: impl Fn(u64) -> u64 + Send + Sync + Copy + 'static,
) -> Result<f64> {
    /// Reads of one step, so that the clock is not asked for each.
    const BATCH: u64 = 64;
    pace::rate(streams, time, move |task, step| {
        let file = file.clone();
        async move {
            let mut buffer = [0; SMALL as usize];
            for number in step * BATCH..(step + 1) * BATCH {
                let read = file.read_at_into(place(pace::random(task as u64, number)), &mut buffer).await?;
                ensure!(read == buffer.len(), "a read of {read} bytes");
            }
            Ok(BATCH)
        }
    })
    .await
}

/// The sum of what several threads reach at the same time.
fn parallel(threads: usize, measure: impl Fn() -> Result<f64> + Sync) -> Result<f64> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&measure)).collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?).sum()
    })
}
