//! `forebay fs load`.

use super::{expand_all, explain, report::Report, walk};
use crate::cli::{failure::Failures, output, progress::Progress};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, Entry};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use std::{
    ffi::OsString,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
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
}

/// Loads. An argument ends at its first file that cannot be loaded.
pub(crate) async fn run(args: Load, client: &Client) -> anyhow::Result<()> {
    let progress = args.report.progress();
    let totals = Totals::default();
    let mut failures = Failures::default();
    for path in expand_all(client, &args.paths, &mut failures).await {
        failures.take(below(&args, client, path, &totals, &progress).await);
    }
    progress.finish();
    let (files, loaded, fetched) = (totals.files.into_inner(), totals.loaded.into_inner(), totals.fetched.into_inner());
    args.report.end(
        json!({ "files": files, "loaded": loaded, "fetched": fetched }),
        format_args!("{}, {} cached, {} of them fetched", output::files(files), ByteSize(loaded), ByteSize(fetched)),
    );
    failures.end()
}

/// Loads a file, or all files below a directory.
async fn below(args: &Load, client: &Client, path: NsPath, totals: &Totals, progress: &Progress) -> anyhow::Result<()> {
    explain(client, &path, client.stat(&path).await).await?;
    walk::walk(client.clone(), path)
        .try_for_each_concurrent(usize::from(args.parallel), |found| async move {
            match found {
                walk::Found::File(entry) => one(client, &entry, totals, progress).await,
                walk::Found::Directory(_) => Ok(()),
            }
        })
        .await
}

async fn one(client: &Client, entry: &Entry, totals: &Totals, progress: &Progress) -> anyhow::Result<()> {
    progress.expect(entry.length);
    progress.at(&entry.path);
    let mut steps = client.load(&entry.path, ..).await?;
    let (mut loaded, mut fetched) = (0, 0);
    while let Some(step) = steps.next().await {
        let step = step?;
        progress.done(step.loaded.saturating_sub(loaded));
        (loaded, fetched) = (step.loaded, step.fetched);
    }
    totals.files.fetch_add(1, Relaxed);
    totals.loaded.fetch_add(loaded, Relaxed);
    totals.fetched.fetch_add(fetched, Relaxed);
    Ok(())
}
