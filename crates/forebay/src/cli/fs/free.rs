//! `forebay fs free`.

use super::{expand_all, explain, walk};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, Entry};
use serde_json::json;
use std::{
    ffi::OsString,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Files whose pages are dropped at the same time.
const PARALLEL: usize = 32;

/// Drops files from the cache.
#[derive(Debug, Args)]
pub(crate) struct Free {
    /// Files and directories of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// The result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Frees.
pub(crate) async fn run(args: Free, client: &Client) -> anyhow::Result<()> {
    let freed = AtomicU64::new(0);
    let failures = Failures::default();
    for path in expand_all(client, &args.paths, &failures).await {
        failures.take(below(client, path, &freed, &failures).await);
    }
    let freed = freed.into_inner();
    match args.json {
        true => output::line(json!({ "freed": freed })),
        false => output::line(format_args!("{} freed", ByteSize(freed))),
    }
    failures.end()
}

/// Frees a file, or all files below a directory, and counts the bytes.
async fn below(client: &Client, path: NsPath, freed: &AtomicU64, failures: &Failures) -> anyhow::Result<()> {
    explain(client, &path, client.stat(&path).await).await?;
    let free = |entry: Entry| async move {
        freed.fetch_add(client.free(&entry.path).await?, Relaxed);
        Ok(())
    };
    walk::each_file(client, path, PARALLEL, failures, free).await
}
