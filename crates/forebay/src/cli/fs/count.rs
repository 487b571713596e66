//! `forebay fs du` and `forebay fs count`.

use super::{LongHelp, Staleness, expand_all, explain};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, ContentSummary};
use serde_json::json;
use std::ffi::OsString;

/// Sums lengths.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Du {
    /// Paths of the tree; patterns are allowed. The root without any.
    paths: Vec<OsString>,
    /// Lengths as 1.2GiB.
    #[arg(short = 'h', short_alias = 'H', long)]
    human: bool,
    /// One line a path, which is all that there is: for those who are used to type it.
    #[arg(short, long)]
    summarize: bool,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    help: LongHelp,
}

/// Counts.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Count {
    /// Paths of the tree; patterns are allowed. The root without any.
    paths: Vec<OsString>,
    /// Lengths as 1.2GiB.
    #[arg(short = 'h', short_alias = 'H', long)]
    human: bool,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    help: LongHelp,
}

/// Sums.
pub(crate) async fn du(args: Du, client: &Client) -> anyhow::Result<()> {
    summaries(args.paths, client, |path, summary| match args.json {
        true => print_json(path, summary),
        false => output::named_line(format_args!("{:>12}  ", length(summary, args.human)), path.as_bytes(), ""),
    })
    .await
}

/// Counts: directories, files, bytes, path, as `hdfs dfs -count` does.
pub(crate) async fn count(args: Count, client: &Client) -> anyhow::Result<()> {
    summaries(args.paths, client, |path, summary| match args.json {
        true => print_json(path, summary),
        false => {
            let (directories, files) = (summary.directories, summary.files);
            let before = format_args!("{directories:>12} {files:>12} {:>18}  ", length(summary, args.human));
            output::named_line(before, path.as_bytes(), "");
        }
    })
    .await
}

fn length(summary: &ContentSummary, human: bool) -> String {
    if human { ByteSize(summary.length).to_string() } else { summary.length.to_string() }
}

/// Shows the sums below each path.
async fn summaries(
    mut arguments: Vec<OsString>,
    client: &Client,
    show: impl Fn(&NsPath, &ContentSummary),
) -> anyhow::Result<()> {
    if arguments.is_empty() {
        arguments.push("/".into());
    }
    let failures = Failures::default();
    for path in expand_all(client, &arguments, &failures).await {
        let summary = explain(client, &path, client.content_summary(&path).await).await;
        if let Some(summary) = failures.take(summary) {
            show(&path, &summary);
        }
    }
    failures.end()
}

fn print_json(path: &NsPath, summary: &ContentSummary) {
    let mut value = output::path_json(path);
    let ContentSummary { directories, files, length } = summary;
    output::merge(&mut value, json!({ "directories": directories, "files": files, "length": length }));
    output::line(value);
}
