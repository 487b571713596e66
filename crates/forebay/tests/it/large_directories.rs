//! Directories of very many entries: they are listed page by page, so that neither the master nor the client holds the list, and nobody else waits.
//!
//! `FOREBAY_LARGE_ENTRIES` sets how many entries.

mod endless_bucket;

use crate::common::program;
use anyhow::{Context, Result, ensure};
use endless_bucket::EndlessBucket;
use forebay_testkit::cluster::{Cluster, Layout, Tier};
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::io::{AsyncBufReadExt, BufReader};

const ENTRIES_DEFAULT: u64 = 100_000;
/// What a server may need more for a large directory than for a small one: newest entries of the log (32 MiB), a window of names of a local directory (16 MiB), and what its
/// store needs to write. The entries collected would be 400 bytes each and more, a name of 200 bytes among them, so half of that is the bound of directories that are larger still.
const SERVER_GROWTH_MAX: u64 = 72 << 20;
const SERVER_GROWTH_MAX_AN_ENTRY: u64 = 200;
/// The same for a client, which has a page of a thousand.
const CLIENT_GROWTH_MAX: u64 = 8 << 20;
/// How long another request may take while a large directory is listed, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

fn entries() -> u64 {
    std::env::var("FOREBAY_LARGE_ENTRIES").map_or(ENTRIES_DEFAULT, |text| text.parse().unwrap())
}

fn server_growth_max() -> u64 {
    SERVER_GROWTH_MAX.max(entries() * SERVER_GROWTH_MAX_AN_ENTRY)
}

/// Names long enough that a list of them weighs.
fn name(number: u64) -> String {
    format!("{number:0200}")
}

/// A server whose own caches are small: what is left is what it holds for a listing.
async fn small_caches() -> Result<Cluster> {
    let settings =
        ["master.block_cache = \"4MiB\"", "master.namespace_cache = \"1MiB\"", "master.write_buffer = \"1MiB\""];
    let environment = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let extra_toml = settings.join("\n");
    let tiers = vec![Tier::ssd("cache", "64MiB")];
    Cluster::start(Layout { program: Some(program()), tiers, extra_toml, environment, ..Layout::default() }).await
}

/// The most memory that a process has had so far.
fn peak_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
}

/// What a listing looked like from outside.
struct Listed {
    lines: u64,
    client_peak: u64,
    took: Duration,
}

/// `forebay fs ls`, read as a pipe is, each line checked.
async fn list(cluster: &Cluster, path: &str) -> Result<Listed> {
    let started = Instant::now();
    let mut child = cluster.command(&["fs", "ls", path]).stdout(Stdio::piped()).spawn()?;
    let pid = child.id().context("runs")?;
    let mut output = BufReader::new(child.stdout.take().context("piped")?).lines();
    let (mut lines, mut client_peak) = (0, 0);
    while let Some(line) = output.next_line().await? {
        ensure!(line == name(lines), "line {lines} is {line:?}");
        lines += 1;
        if lines.is_multiple_of(1000) {
            client_peak = peak_bytes(pid).unwrap_or(client_peak);
        }
    }
    ensure!(child.wait().await?.success());
    Ok(Listed { lines, client_peak, took: started.elapsed() })
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_directory_is_listed_at_constant_memory() -> Result<()> {
    let mut cluster = small_caches().await?;
    let disk = tempfile::tempdir()?;
    for (directory, count) in [("small", 2_000), ("large", entries())] {
        let directory = disk.path().join(directory);
        std::fs::create_dir(&directory)?;
        (0..count).try_for_each(|number| std::fs::write(directory.join(name(number)), b""))?;
    }
    cluster.cli_ok(&["mount", "add", "/disk", &format!("file://{}", disk.path().display())]).await?;
    let server = cluster.master().process().pid();
    let small = list(&cluster, "/disk/small").await?;
    let before = peak_bytes(server)?;
    let cold = list(&cluster, "/disk/large").await?;
    let hot = list(&cluster, "/disk/large").await?;
    let growth = peak_bytes(server)? - before;
    let client_growth = cold.client_peak.max(hot.client_peak).saturating_sub(small.client_peak);
    println!(
        "{} entries: listed first in {:?}, again in {:?}; the server grew from {} by {} MiB, the client from {} by {} MiB",
        cold.lines,
        cold.took,
        hot.took,
        mib(before),
        mib(growth),
        mib(small.client_peak),
        mib(client_growth)
    );
    assert_eq!((small.lines, cold.lines, hot.lines), (2_000, entries(), entries()));
    ensure!(growth < server_growth_max(), "the server grew by {} MiB", mib(growth));
    ensure!(client_growth < CLIENT_GROWTH_MAX, "the client grew by {} MiB", mib(client_growth));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_of_very_many_objects_is_listed_page_by_page_and_nobody_waits() -> Result<()> {
    let mut cluster = small_caches().await?;
    let bucket = EndlessBucket::start(entries(), name).await?;
    let endpoint = bucket.endpoint();
    let mount =
        ["mount", "add", "/lake", "s3://bucket", "--endpoint", &endpoint, "--region", "us-east-1", "--read-only"];
    cluster.cli_ok(&mount).await?;
    cluster.cli_ok(&["fs", "mkdir", "/other"]).await?;
    let server = cluster.master().process().pid();
    let before = peak_bytes(server)?;
    let listing = async {
        let two = futures::future::try_join(list(&cluster, "/lake/large"), list(&cluster, "/lake/large")).await;
        bucket.end();
        two
    };
    let others = async {
        let (mut asked, mut longest) = (0, Duration::ZERO);
        while !bucket.has_ended() {
            let started = Instant::now();
            cluster.cli_ok(&["fs", "mkdir", &format!("/other/{asked}")]).await?;
            cluster.cli_ok(&["fs", "stat", &format!("/lake/large/{}", name(asked))]).await?;
            longest = longest.max(started.elapsed());
            asked += 1;
        }
        anyhow::Ok((asked, longest))
    };
    let ((first, second), (asked, longest)) = futures::future::try_join(listing, others).await?;
    let growth = peak_bytes(server)? - before;
    let pages = bucket.pages();
    println!(
        "{} objects in {pages} pages: listed twice at once in {:?}; the server grew from {} by {} MiB; {asked} pairs of other commands, the longest {longest:?}",
        first.lines,
        first.took,
        mib(before),
        mib(growth)
    );
    assert_eq!((first.lines, second.lines), (entries(), entries()));
    ensure!(pages <= entries() / 1000 + 20, "{pages} pages were asked for: each asker listed by itself");
    ensure!(growth < server_growth_max(), "the server grew by {} MiB", mib(growth));
    ensure!(asked > 3 && longest < PATIENCE, "{asked} other requests, the longest {longest:?}");
    Ok(())
}
