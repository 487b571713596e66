//! A master with as many inodes as it is told: how long they take to load, what they take of memory and disk, how fast they are found, and
//! how long a restart takes. Its memory must not grow with them.
//!
//! The store is a directory of up to a million empty files in memory, mounted as often as it takes.

use crate::lake::{self, Reach};
use crate::memory::{DISK_BYTES_MAX, FILES, MIB, RESIDENT_MAX, fill, state_bytes, walk_rate};
use crate::pace::{self, random};
use crate::report::{Better, Limit, Report};
use crate::{Setting, machine};
use anyhow::{Context, Result, ensure};
use forebay_client::{Client, MakeDirectoryOptions};
use forebay_testkit::cluster::Cluster;
use futures::TryStreamExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Directories of one mount.
const MOUNTED: u64 = 1_000;
const INODES_MIN: u64 = 100_000;
const RESTART_SECONDS_MAX: f64 = 10.0;
/// Memory with all inodes against that with a tenth of them.
const GROWTH_MAX: f64 = 1.3;
/// From this many on the tenth alone fills the caches; with fewer they still fill up, which is no growth to be promised away.
const GROWTH_FROM: u64 = 10_000_000;
const TASKS: usize = 64;
const CONNECTIONS: usize = 8;
/// How long a start or a clean stop may take before we give up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let inodes = setting.inodes.unwrap_or(setting.pick(10_000_000, 200_000));
    ensure!(inodes >= INODES_MIN, "--inodes is {inodes}, and must be at least {INODES_MIN}");
    let directories = inodes.div_ceil(FILES + 1);
    let time = setting.pick(Duration::from_secs(5), Duration::from_secs(1));
    let store = tempfile::Builder::new().tempdir_in("/dev/shm").context("making files on /dev/shm")?;
    fill(store.path(), directories.min(MOUNTED))?;
    let mut cluster = lake::start(Vec::new()).await?;
    let mut report = Report::default();
    load(&mut report, &mut cluster, store.path(), directories).await?;
    look_up(&mut report, &mut cluster, directories, time).await?;
    restart(&mut report, &mut cluster, directories, setting.pick(10 * time, time)).await?;
    report.note(format!(
        "{directories} directories with {FILES} empty files each, of {} mounts; master, worker and clients share the machine",
        directories.div_ceil(MOUNTED)
    ));
    Ok(report)
}

/// Loads a tenth, then the rest: times and memory.
async fn load(report: &mut Report, cluster: &mut Cluster, store: &Path, directories: u64) -> Result<()> {
    let client = lake::client(cluster, Reach::Tcp).await?;
    for mount in 0..directories.div_ceil(MOUNTED) {
        lake::mount_directory_at(&client, &mount_path(mount), store).await?;
    }
    let tenth = directories / 10;
    let started = Instant::now();
    load_range(&client, 0, tenth).await?;
    let memory_tenth = resident(cluster)?;
    load_range(&client, tenth, directories).await?;
    let (seconds, memory) = (started.elapsed().as_secs_f64(), resident(cluster)?);
    let (count, walked) = (inodes(directories), walk_rate(store)?);
    report.row(
        "time to load all",
        (seconds, "s"),
        Better::Lower,
        Limit::new("walking them once", count / walked),
        None,
    );
    report.row("loading", (count / seconds, "inodes/s"), Better::Higher, Limit::new("walking them", walked), None);
    let grown = Limit::new(format!("{GROWTH_MAX} of that with a tenth"), memory_tenth * GROWTH_MAX);
    let promised = (directories * (FILES + 1) >= GROWTH_FROM).then_some(1.0);
    report.row("resident memory, loaded", (memory, "MiB"), Better::Lower, grown, promised);
    if promised.is_none() {
        report.note("memory may grow by 1.3 from one million inodes to ten; with fewer its caches are only filling up");
    }
    Ok(())
}

/// Asks for each directory, so that the master loads it.
async fn load_range(client: &Client, from: u64, to: u64) -> Result<()> {
    let client = client.clone();
    let ask = move |number| {
        let client = client.clone();
        async move {
            let path = directory(from + number);
            let summary = client.content_summary(path.as_str()).await?;
            ensure!(summary.files == FILES, "{path} has {} files", summary.files);
            Ok(())
        }
    };
    pace::rate_of(CONNECTIONS, to - from, ask).await?;
    Ok(())
}

/// Random files and directories, by 64 tasks.
async fn look_up(report: &mut Report, cluster: &mut Cluster, directories: u64, time: Duration) -> Result<()> {
    let clients = connect(cluster).await?;
    let own = clients.clone();
    let stats = pace::rate(TASKS, time, move |task, number| {
        let client = own[task % CONNECTIONS].clone();
        let draw = random(task as u64, number);
        let path = format!("{}/part-{:05}", directory(draw % directories), random(7, draw) % FILES);
        async move {
            client.stat(path.as_str()).await?;
            Ok(1)
        }
    });
    let stats = stats.await?;
    let lists = pace::rate(TASKS, time, move |task, number| {
        let client = clients[task % CONNECTIONS].clone();
        let path = directory(random(task as u64, number) % directories);
        async move {
            let entries: Vec<_> = client.list(path.as_str())?.try_collect().await?;
            ensure!(entries.len() as u64 == FILES, "{path} has {} entries", entries.len());
            Ok(entries.len() as u64)
        }
    });
    let entries = lists.await?;
    let budget = |value| Limit::new("budget of few inodes", value);
    report.row("stat of random files, 64 tasks", (stats, "/s"), Better::Higher, budget(100_000.0), None);
    report.row("list of random directories, 64 tasks", (entries, "entries/s"), Better::Higher, budget(500_000.0), None);
    let (memory, limit) = (resident(cluster)?, Limit::new("budget at 10 million", RESIDENT_MAX / MIB));
    report.row("resident memory, after look-ups", (memory, "MiB"), Better::Lower, limit, Some(1.0));
    Ok(())
}

/// A clean stop and start; then changes that only the log has, a kill, and a start.
async fn restart(report: &mut Report, cluster: &mut Cluster, directories: u64, changes: Duration) -> Result<()> {
    // A clean stop writes everything that is still only in memory and in the log.
    cluster.master().terminate(PATIENCE).await?;
    let on_disk = state_bytes(&cluster.master().dir().join("data/master"))? as f64 / inodes(directories);
    let promised = Limit::new("budget", DISK_BYTES_MAX);
    report.row("state on disk an inode", (on_disk, "bytes"), Better::Lower, promised, Some(1.0));
    let clean = time_to_serve(cluster, directories).await?;
    let clients = connect(cluster).await?;
    let made = pace::timed(TASKS, changes, move |task, number| {
        let client = clients[task % CONNECTIONS].clone();
        async move {
            let path = format!("/made-{task}-{number}");
            client.make_directory(path.as_str(), MakeDirectoryOptions::default()).await?;
            Ok(())
        }
    });
    let made = made.await?.count();
    cluster.master().kill()?;
    let killed = time_to_serve(cluster, directories).await?;
    for (name, seconds) in [("restart after a clean stop", clean), ("restart after kill -9", killed)] {
        let budget = Limit::new("budget", RESTART_SECONDS_MAX);
        report.row(name, (seconds, "s"), Better::Lower, budget, Some(1.0));
    }
    report.note(format!("restarts end with the first answered stat; the killed master had {made} changes behind it"));
    Ok(())
}

/// From the start of the process to its first answer.
async fn time_to_serve(cluster: &mut Cluster, directories: u64) -> Result<f64> {
    let started = Instant::now();
    cluster.master().restart()?;
    cluster.master().wait_ready(PATIENCE).await?;
    let client = lake::client(cluster, Reach::Tcp).await?;
    client.stat(format!("{}/part-00000", directory(directories - 1)).as_str()).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn connect(cluster: &Cluster) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(lake::client(cluster, Reach::Tcp).await?);
    }
    Ok(clients)
}

/// In MiB.
fn resident(cluster: &mut Cluster) -> Result<f64> {
    let bytes = machine::resident_bytes(cluster.master().process().pid()).context("the master's memory")?;
    Ok(bytes / MIB)
}

fn inodes(directories: u64) -> f64 {
    (directories * (FILES + 1)) as f64
}

fn mount_path(mount: u64) -> String {
    format!("/lake-{mount:03}")
}

fn directory(number: u64) -> String {
    format!("{}/d{:06}", mount_path(number / MOUNTED), number % MOUNTED)
}
