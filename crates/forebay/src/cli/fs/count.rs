//! `forebay fs du` and `forebay fs count`.

use super::{expand_all, explain};
use crate::cli::output;
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, ContentSummary};
use serde_json::json;
use std::ffi::OsString;

/// Sums lengths.
#[derive(Debug, Args)]
pub(crate) struct Du {
    /// Paths of the tree; patterns are allowed. The root without any.
    paths: Vec<OsString>,
    /// Lengths as 1.2GiB.
    #[arg(short = 'H', long)]
    human: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Counts.
#[derive(Debug, Args)]
pub(crate) struct Count {
    /// Paths of the tree; patterns are allowed. The root without any.
    paths: Vec<OsString>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Sums.
pub(crate) async fn du(args: Du, client: &Client) -> anyhow::Result<()> {
    for (path, summary) in summaries(args.paths, client).await? {
        if args.json {
            print_json(&path, &summary);
        } else {
            let length = if args.human { ByteSize(summary.length).to_string() } else { summary.length.to_string() };
            output::line(format_args!("{length:>12}  {path}"));
        }
    }
    Ok(())
}

/// Counts: directories, files, bytes, path, as `hdfs dfs -count` does.
pub(crate) async fn count(args: Count, client: &Client) -> anyhow::Result<()> {
    for (path, summary) in summaries(args.paths, client).await? {
        if args.json {
            print_json(&path, &summary);
        } else {
            let ContentSummary { directories, files, length } = summary;
            output::line(format_args!("{directories:>12} {files:>12} {length:>18}  {path}"));
        }
    }
    Ok(())
}

async fn summaries(mut arguments: Vec<OsString>, client: &Client) -> anyhow::Result<Vec<(NsPath, ContentSummary)>> {
    if arguments.is_empty() {
        arguments.push("/".into());
    }
    let mut all = Vec::new();
    for path in expand_all(client, &arguments).await? {
        let summary = explain(client, &path, client.content_summary(&path).await).await?;
        all.push((path, summary));
    }
    Ok(all)
}

fn print_json(path: &NsPath, summary: &ContentSummary) {
    let mut value = output::path_json(path);
    let ContentSummary { directories, files, length } = summary;
    output::merge(&mut value, json!({ "directories": directories, "files": files, "length": length }));
    output::line(value);
}
