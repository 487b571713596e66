//! `forebay fs load`.

use super::{expand_all, explain, report::Report, walk};
use crate::cli::{failure::Failures, output, progress::Progress};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, Entry, Error, ErrorKind};
use futures::StreamExt;
use serde_json::json;
use std::{
    ffi::OsString,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// Brings files into the cache.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Files and directories of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Files at the same time.
    #[arg(short, long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,
    #[command(flatten)]
    report: Report,
}

#[derive(Default)]
struct Totals {
    files: AtomicU64,
    loaded: AtomicU64,
    fetched: AtomicU64,
    /// A worker's cache is so full that it drops pages.
    pressed: AtomicBool,
}

/// What is cached of what was to be loaded, after all was.
#[derive(Debug, Default)]
struct Kept {
    bytes: AtomicU64,
    cached: AtomicU64,
}

/// Loads. A file that cannot be loaded does not keep the others from it. When the cache may have dropped again what came first, it is
/// asked for each file what is there.
pub(crate) async fn run(args: Load, client: &Client) -> anyhow::Result<()> {
    let progress = args.report.progress();
    let totals = Totals::default();
    let failures = Failures::default();
    let paths = expand_all(client, &args.paths, &failures).await;
    for path in &paths {
        failures.take(below(&args, client, path.clone(), &totals, &progress, &failures).await);
    }
    let kept = Kept::default();
    if totals.pressed.load(Relaxed) {
        for path in &paths {
            let count = |entry| count(client, entry, &kept, &progress);
            failures.take(walk::each_file(client, path.clone(), usize::from(args.parallel), &failures, count).await);
        }
    }
    progress.finish();
    let (files, loaded, fetched) = (totals.files.into_inner(), totals.loaded.into_inner(), totals.fetched.into_inner());
    let (bytes, cached) = (kept.bytes.into_inner(), kept.cached.into_inner());
    let dropped = bytes.saturating_sub(cached);
    args.report.end(
        json!({ "files": files, "loaded": loaded, "fetched": fetched, "dropped": dropped }),
        format_args!("{}, {} loaded, {} of them fetched", output::files(files), ByteSize(loaded), ByteSize(fetched)),
    );
    if dropped > 0 {
        failures.take::<()>(Err(too_small(client, bytes, cached).await));
    }
    failures.end()
}

/// The error of a load of more than the cache keeps.
async fn too_small(client: &Client, bytes: u64, cached: u64) -> anyhow::Error {
    let room = match client.status().await {
        Ok(status) => {
            let live = status.workers.iter().filter(|worker| worker.live);
            let room = live.flat_map(|worker| &worker.tiers).map(|tier| tier.capacity.0).sum();
            format!("the caches of the live workers hold {} in all; ", ByteSize(room))
        }
        Err(_) => String::new(),
    };
    let (cached, bytes) = (ByteSize(cached), ByteSize(bytes));
    let message = format!("not all of it stays cached: {cached} of {bytes}, the rest was dropped again to make room");
    let hint = format!("{room}load less, raise the quotas of worker.tiers, or add workers");
    Error::new(ErrorKind::Unavailable, message).with_hint(hint).into()
}

/// Counts what is cached of a file; what several workers have counts once.
async fn count(client: &Client, entry: Entry, kept: &Kept, progress: &Progress) -> anyhow::Result<()> {
    progress.at(format_args!("looking what stays cached: {}", entry.path));
    let held = client.location(&entry.path).await?;
    let ranges = held.iter().flat_map(|held| &held.ranges).map(|range| range.offset..range.offset + range.length);
    kept.bytes.fetch_add(entry.length, Relaxed);
    kept.cached.fetch_add(covered(ranges.collect()).min(entry.length), Relaxed);
    Ok(())
}

/// The bytes that lie in any of the ranges.
fn covered(mut ranges: Vec<Range<u64>>) -> u64 {
    ranges.sort_by_key(|range| range.start);
    let (mut end, mut sum) = (0, 0);
    for range in ranges {
        sum += range.end.saturating_sub(range.start.max(end));
        end = end.max(range.end);
    }
    sum
}

/// Loads a file, or all files below a directory.
async fn below(
    args: &Load,
    client: &Client,
    path: NsPath,
    totals: &Totals,
    progress: &Progress,
    failures: &Failures,
) -> anyhow::Result<()> {
    explain(client, &path, client.stat(&path).await).await?;
    let load = |entry| one(client, entry, totals, progress);
    walk::each_file(client, path, usize::from(args.parallel), failures, load).await
}

async fn one(client: &Client, entry: Entry, totals: &Totals, progress: &Progress) -> anyhow::Result<()> {
    progress.expect(entry.length);
    progress.at(&entry.path);
    let mut steps = client.load(&entry.path, ..).await?;
    let (mut loaded, mut fetched) = (0, 0);
    while let Some(step) = steps.next().await {
        let step = step?;
        progress.done(step.loaded.saturating_sub(loaded));
        totals.loaded.fetch_add(step.loaded.saturating_sub(loaded), Relaxed);
        totals.fetched.fetch_add(step.fetched.saturating_sub(fetched), Relaxed);
        (loaded, fetched) = (step.loaded, step.fetched);
        totals.pressed.fetch_or(step.pressed, Relaxed);
    }
    totals.files.fetch_add(1, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_workers_hold_counts_once() {
        assert_eq!(covered(vec![]), 0);
        assert_eq!(covered(vec![5..10, 0..3]), 8);
        assert_eq!(covered(vec![0..10, 2..4, 8..12, 12..13]), 13);
    }
}
