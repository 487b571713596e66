//! Files written through to an S3 store, until they are acknowledged: against the same uploads by OpenDAL alone.

use crate::lake::{self, Reach};
use crate::limits::MB;
use crate::report::{Better, Limit, Report};
use crate::{Setting, direct, pace};
use anyhow::{Result, ensure};
use bytes::Bytes;
use forebay_client::{Client, CreateOptions, WriteType};
use forebay_testkit::data::Seeded;
use forebay_testkit::s3::{Client as Store, Versitygw};
use opendal::Operator;
use std::time::Instant;

const BUCKET: &str = "lake";
/// One call to `write`.
const PIECE: usize = 1 << 20;
/// What OpenDAL writes with: our part size, as many at a time as our writer has under way.
const DIRECT_CHUNK: usize = 16 << 20;
const DIRECT_CONCURRENT: usize = 4;
const SMALL: usize = 100_000;
const WRITERS: usize = 8;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let store = Versitygw::start().await?;
    store.create_bucket(BUCKET).await?;
    let cluster = lake::start(lake::credentials(store.access())).await?;
    let client = lake::client(&cluster, Reach::Tcp).await?;
    lake::mount_bucket(&client, BUCKET, store.endpoint()).await?;
    let operator = direct::operator(BUCKET, store.access())?;
    let mut report = Report::default();
    large(&mut report, &client, &operator, store.client(), setting.pick(1 << 30, 256 << 20), setting.pick(3, 2))
        .await?;
    small(&mut report, &client, &operator, setting.pick(5_000, 500)).await?;
    report.note("every byte of the last large file is compared in the store; store, servers and client share this machine's cores");
    Ok(report)
}

/// One writer of one large file; the best of `rounds`.
async fn large(
    report: &mut Report,
    client: &Client,
    operator: &Operator,
    store: &Store,
    length: usize,
    rounds: u32,
) -> Result<()> {
    let content = Bytes::from(Seeded::new(1).bytes(0..length as u64));
    let mut best = [0.0_f64; 3];
    for round in 0..rounds {
        // Each comes first in turn, and none pays for what those before it have left to the disk.
        for turn in 0..3 {
            let which = ((round + turn) % 3) as usize;
            tokio::task::spawn_blocking(sync_disk).await??;
            let rate = match which {
                0 => through_us(client, "cached", round, WriteType::CacheThrough, content.clone()).await?,
                1 => through_us(client, "through", round, WriteType::Through, content.clone()).await?,
                _ => through_opendal(operator, round, content.clone()).await?,
            };
            best[which] = best[which].max(rate);
        }
    }
    let stored = store.get(BUCKET, &format!("cached-{}", rounds - 1)).await?;
    ensure!(stored == content, "the store has other bytes than were written");
    for (name, ours) in [("one large file, cached as it is written", best[0]), ("one large file, not cached", best[1])]
    {
        let limit = Limit::new("OpenDAL alone", best[2] / MB);
        report.row(name, (ours / MB, "MB/s"), Better::Higher, limit, None);
    }
    Ok(())
}

async fn through_us(client: &Client, name: &str, round: u32, write_type: WriteType, content: Bytes) -> Result<f64> {
    let started = Instant::now();
    let options = CreateOptions { write_type, ..CreateOptions::default() };
    let mut writer = client.create(format!("/lake/{name}-{round}").as_str(), options).await?;
    for at in (0..content.len()).step_by(PIECE) {
        writer.write(content.slice(at..content.len().min(at + PIECE))).await?;
    }
    writer.close().await?;
    Ok(content.len() as f64 / started.elapsed().as_secs_f64())
}

async fn through_opendal(operator: &Operator, round: u32, content: Bytes) -> Result<f64> {
    let started = Instant::now();
    let path = format!("direct-{round}");
    let mut writer = operator.writer_with(&path).chunk(DIRECT_CHUNK).concurrent(DIRECT_CONCURRENT).await?;
    for at in (0..content.len()).step_by(PIECE) {
        writer.write(content.slice(at..content.len().min(at + PIECE))).await?;
    }
    writer.close().await?;
    Ok(content.len() as f64 / started.elapsed().as_secs_f64())
}

/// Waits until the disk has what was written: store and cache lie below the directory for temporary files.
fn sync_disk() -> Result<()> {
    let dir = std::fs::File::open(std::env::temp_dir())?;
    Ok(rustix::fs::syncfs(&dir)?)
}

/// Files of 100 KB: create, write, close.
async fn small(report: &mut Report, client: &Client, operator: &Operator, count: u64) -> Result<()> {
    let content = Bytes::from(Seeded::new(2).bytes(0..SMALL as u64));
    let (client, operator, bytes) = (client.clone(), operator.clone(), content.clone());
    let ours = pace::rate_of(WRITERS, count, move |number| {
        let (client, bytes) = (client.clone(), bytes.clone());
        async move {
            let options = CreateOptions { parents: true, ..CreateOptions::default() };
            let path = format!("/lake/small/{:02}/{number}", number % 100);
            let mut writer = client.create(path.as_str(), options).await?;
            writer.write(bytes).await?;
            writer.close().await?;
            Ok(())
        }
    })
    .await?;
    let limit = pace::rate_of(WRITERS, count, move |number| {
        let (operator, bytes) = (operator.clone(), content.clone());
        async move {
            operator.write(&format!("small-direct/{:02}/{number}", number % 100), bytes).await?;
            Ok(())
        }
    })
    .await?;
    let name = format!("files of 100 KB, {WRITERS} writers");
    report.row(name, (ours, "files/s"), Better::Higher, Limit::new("OpenDAL alone", limit), None);
    Ok(())
}
