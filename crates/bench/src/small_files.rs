//! Open, read whole, close: many files of 100 KB in random order, cold from an S3 server and hot.

use crate::lake::{self, Reach};
use crate::report::{Better, Limit, Report};
use crate::{Setting, pace};
use anyhow::{Result, ensure};
use forebay_client::Client;
use forebay_testkit::data::Seeded;
use forebay_testkit::s3::{Client as Store, Versitygw};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BUCKET: &str = "lake";
const LENGTH: u64 = 100_000;
const READERS: usize = 8;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let count: u64 = setting.pick(10_000, 1_000);
    let store = Versitygw::start().await?;
    store.create_bucket(BUCKET).await?;
    let local = tempfile::tempdir()?;
    fill(store.client(), local.path(), count).await?;
    let cluster = lake::start(lake::credentials(store.access())).await?;
    let client = lake::client(&cluster, Reach::SameHost).await?;
    lake::mount_bucket(&client, BUCKET, store.endpoint()).await?;
    let tcp = lake::client(&cluster, Reach::Tcp).await?;
    let mut report = Report::default();
    let mut row = |name: &str, ours: f64, limit: &str, value: f64| {
        report.row(name, (ours, "files/s"), Better::Higher, Limit::new(limit, value), None);
    };
    let direct = from_store(store.client(), READERS, count).await?;
    row("cold, 8 readers", through_us(&client, READERS, count).await?, "direct GET", direct);
    free(&client, count).await?;
    row("cold, names known, 8 readers", through_us(&client, READERS, count).await?, "direct GET", direct);
    for readers in [1, READERS] {
        let limit = from_disk(local.path().to_path_buf(), readers, count).await?;
        row(&format!("hot, same host, {readers} readers"), through_us(&client, readers, count).await?, "ext4", limit);
        row(&format!("hot, TCP, {readers} readers"), through_us(&tcp, readers, count).await?, "ext4", limit);
    }
    report.note("open, read whole, close; one byte in a thousand is compared");
    report.note(
        "cold asks the store twice for a file, what it is and for its bytes; names known, as after a listing, once",
    );
    Ok(report)
}

fn key(number: u64) -> String {
    format!("images/{:03}/{number:06}.jpg", number % 100)
}

async fn fill(store: &Store, local: &Path, count: u64) -> Result<()> {
    for directory in 0..100 {
        std::fs::create_dir_all(local.join(format!("images/{directory:03}")))?;
    }
    let (store, local) = (store.clone(), local.to_path_buf());
    pace::rate_of(READERS, count, move |number| {
        let (store, local) = (store.clone(), local.clone());
        async move {
            let bytes = Seeded::new(number).bytes(0..LENGTH);
            tokio::fs::write(local.join(key(number)), &bytes).await?;
            store.put(BUCKET, &key(number), bytes).await?;
            Ok(())
        }
    })
    .await?;
    Ok(())
}

async fn through_us(client: &Client, readers: usize, count: u64) -> Result<f64> {
    let (client, order) = (client.clone(), Arc::new(pace::shuffled(5, count)));
    pace::rate_of(readers, count, move |n| {
        let (client, number) = (client.clone(), order[n as usize]);
        async move {
            let file = client.open(format!("/lake/{}", key(number)).as_str()).await?;
            let bytes = file.read_at(0, LENGTH as usize).await?;
            ensure!(bytes.len() as u64 == LENGTH, "{} bytes of file {number}", bytes.len());
            // One byte in a thousand tells a mixed-up file; all of them would be what is measured.
            for at in (0..LENGTH).step_by(997) {
                Seeded::new(number).check(at, &bytes[at as usize..=at as usize])?;
            }
            Ok(())
        }
    })
    .await
}

/// Forgets the cached bytes of all files, not what is known of them.
async fn free(client: &Client, count: u64) -> Result<()> {
    let client = client.clone();
    let freed = pace::rate_of(READERS, count, move |number| {
        let client = client.clone();
        async move {
            client.free(format!("/lake/{}", key(number)).as_str()).await?;
            Ok(())
        }
    });
    freed.await.map(drop)
}

async fn from_store(store: &Store, readers: usize, count: u64) -> Result<f64> {
    let (store, order) = (store.clone(), Arc::new(pace::shuffled(5, count)));
    pace::rate_of(readers, count, move |n| {
        let (store, number) = (store.clone(), order[n as usize]);
        async move {
            let bytes = store.get(BUCKET, &key(number)).await?;
            ensure!(bytes.len() as u64 == LENGTH, "{} bytes", bytes.len());
            Ok(())
        }
    })
    .await
}

/// Plain threads on the same files of this machine's disk.
async fn from_disk(local: PathBuf, readers: usize, count: u64) -> Result<f64> {
    tokio::task::spawn_blocking(move || {
        let order = pace::shuffled(5, count);
        let started = std::time::Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..readers)
                .map(|reader| {
                    let (order, local) = (&order, &local);
                    scope.spawn(move || {
                        order.iter().skip(reader).step_by(readers).try_for_each(|number| {
                            let bytes = std::fs::read(local.join(key(*number)))?;
                            ensure!(bytes.len() as u64 == LENGTH, "{} bytes", bytes.len());
                            Ok(())
                        })
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        })?;
        Ok(count as f64 / started.elapsed().as_secs_f64())
    })
    .await?
}
