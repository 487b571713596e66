//! The master with many inodes: its resident memory, and the bytes on disk an inode.

use crate::lake::{self, Reach};
use crate::machine;
use crate::report::{Better, Limit, Report};
use crate::{Setting, pace};
use anyhow::{Context, Result, ensure};
use forebay_client::Client;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

/// Files of one directory.
pub(crate) const FILES: u64 = 1_000;
/// DESIGN: less than 2 GiB for 10 million inodes.
pub(crate) const RESIDENT_MAX: f64 = (2_u64 << 30) as f64;
/// An inode's, with a short name.
pub(crate) const DISK_BYTES_MAX: f64 = 150.0;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let directories: u64 = setting.pick(1_000, 50);
    let store = tempfile::Builder::new().tempdir_in("/dev/shm").context("making files on /dev/shm")?;
    fill(store.path(), directories)?;
    let walked = walk_rate(store.path())?;
    let mut cluster = lake::start(Vec::new()).await?;
    let client = lake::client(&cluster, Reach::Tcp).await?;
    lake::mount_directory(&client, store.path()).await?;

    let pid = cluster.master().process().pid();
    let empty = machine::resident_bytes(pid).context("the master's memory")?;
    let started = Instant::now();
    load(&client, directories).await?;
    let inodes = (directories * (FILES + 1)) as f64;
    let rate = inodes / started.elapsed().as_secs_f64();
    let full = machine::resident_bytes(pid).context("the master's memory")?;
    // A clean stop writes everything that is still only in memory and in the log.
    let data = cluster.master().dir().join("data/master");
    cluster.master().terminate(std::time::Duration::from_secs(60)).await?;
    let on_disk = state_bytes(&data)? as f64;

    let mut report = Report::default();
    let budget = Limit::new("budget at 10 million", RESIDENT_MAX / MIB);
    report.row("resident memory, loaded", (full / MIB, "MiB"), Better::Lower, budget, Some(1.0));
    let before = Limit::new("the empty master", empty / MIB);
    report.row("resident memory against empty", (full / MIB, "MiB"), Better::Lower, before, None);
    let promised = Limit::new("budget", DISK_BYTES_MAX);
    report.row("state on disk an inode", (on_disk / inodes, "bytes"), Better::Lower, promised, Some(1.0));
    let walk = Limit::new("walking the directory itself", walked);
    report.row("loading metadata from a directory", (rate, "inodes/s"), Better::Higher, walk, None);
    report
        .note(format!("{inodes:.0} inodes; the log's segments are not counted, they are cut as the state is flushed"));
    Ok(report)
}

pub(crate) const MIB: f64 = (1 << 20) as f64;

/// Makes that many directories of empty files.
pub(crate) fn fill(root: &Path, directories: u64) -> Result<()> {
    for directory in 0..directories {
        let path = root.join(format!("d{directory:06}"));
        fs::create_dir(&path)?;
        for file in 0..FILES {
            File::create(path.join(format!("part-{file:05}")))?;
        }
    }
    Ok(())
}

/// How many entries a second this process finds and stats there: what loading them costs without us.
pub(crate) fn walk_rate(root: &Path) -> Result<f64> {
    let (started, mut entries) = (Instant::now(), 0_u64);
    for directory in fs::read_dir(root)? {
        for file in fs::read_dir(directory?.path())? {
            file?.metadata()?;
            entries += 1;
        }
        entries += 1;
    }
    Ok(entries as f64 / started.elapsed().as_secs_f64())
}

/// Asks for every directory, eight at a time, so that the master loads it.
async fn load(client: &Client, directories: u64) -> Result<()> {
    let client = client.clone();
    pace::rate_of(8, directories, move |directory| {
        let client = client.clone();
        async move {
            let summary = client.content_summary(format!("/lake/d{directory:06}").as_str()).await?;
            ensure!(summary.files == FILES, "{} files", summary.files);
            Ok(())
        }
    })
    .await?;
    Ok(())
}

/// Bytes of the state store's files, the log's left out.
pub(crate) fn state_bytes(data: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(data).with_context(|| format!("reading {}", data.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != "log" {
            total += tree_bytes(&entry.path())?;
        }
    }
    Ok(total)
}

fn tree_bytes(path: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { tree_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}
