//! `forebay fs free`.

use super::{expand_all, explain, walk};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::Client;
use futures::TryStreamExt;
use serde_json::json;
use std::ffi::OsString;

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
    let mut freed = 0;
    let mut failures = Failures::default();
    for path in expand_all(client, &args.paths, &mut failures).await {
        freed += failures.take(below(client, path).await).unwrap_or(0);
    }
    match args.json {
        true => output::line(json!({ "freed": freed })),
        false => output::line(format_args!("{} freed", ByteSize(freed))),
    }
    failures.end()
}

/// Frees a file, or all files below a directory; says how many bytes.
async fn below(client: &Client, path: NsPath) -> anyhow::Result<u64> {
    explain(client, &path, client.stat(&path).await).await?;
    walk::walk(client.clone(), path)
        .try_filter_map(|found| async move {
            let walk::Found::File(entry) = found else { return Ok(None) };
            Ok(Some(async move { client.free(&entry.path).await.map_err(anyhow::Error::from) }))
        })
        .try_buffer_unordered(PARALLEL)
        .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
        .await
}
