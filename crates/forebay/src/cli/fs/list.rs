//! `forebay fs ls`.

use super::{LongHelp, Staleness, expand, explain, sync_mode};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, Entry, ListOptions, StatOptions};
use futures::{TryStreamExt, future::BoxFuture};
use std::ffi::OsString;

/// Lists directories.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Ls {
    /// Paths of the tree; patterns are allowed. The root without any.
    paths: Vec<OsString>,
    /// Mode, owner, group, length and time too.
    #[arg(short, long)]
    long: bool,
    /// No effect, as no name is hidden here: for fingers that type `ls -la`.
    #[arg(short, long)]
    all: bool,
    /// Lengths as 1.2GiB.
    #[arg(short = 'h', short_alias = 'H', long)]
    human: bool,
    /// What lies below directories too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Directories themselves, not what is in them.
    #[arg(short, long)]
    directory: bool,
    /// Asks the store now, whatever the mount's sync interval.
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    help: LongHelp,
}

/// Lists.
pub(crate) async fn run(mut args: Ls, client: &Client) -> anyhow::Result<()> {
    if args.paths.is_empty() {
        args.paths.push("/".into());
    }
    let several = args.paths.len() > 1;
    let failures = Failures::default();
    for argument in &args.paths {
        let paths = failures.take(expand(client, argument).await).unwrap_or_default();
        let headed = several || paths.len() > 1;
        for path in paths {
            failures.take(one(&args, client, &path, headed).await);
        }
    }
    failures.end()
}

async fn one(args: &Ls, client: &Client, path: &NsPath, headed: bool) -> anyhow::Result<()> {
    let options = StatOptions { sync: sync_mode(args.sync), ..StatOptions::default() };
    let entry = explain(client, path, client.stat_with(path, options).await).await?;
    if args.directory || entry.is_file() {
        print(args, &entry, true);
        return Ok(());
    }
    if headed && !args.json && !args.recursive {
        output::named_line("", path.as_bytes(), ":");
    }
    directory(args, client, path.clone()).await
}

fn directory<'a>(args: &'a Ls, client: &'a Client, path: NsPath) -> BoxFuture<'a, anyhow::Result<()>> {
    Box::pin(async move {
        let options = ListOptions { sync: sync_mode(args.sync), ..ListOptions::default() };
        let mut entries = client.list_with(&path, options)?;
        while let Some(entry) = entries.try_next().await? {
            print(args, &entry, args.recursive);
            if args.recursive && entry.is_directory() {
                directory(args, client, entry.path).await?;
            }
        }
        Ok(())
    })
}

fn print(args: &Ls, entry: &Entry, whole_path: bool) {
    if args.json {
        return output::line(output::entry_json(entry));
    }
    let slash = if entry.is_directory() && entry.name().is_some() { "/" } else { "" };
    let name = match entry.name() {
        Some(name) if !whole_path => name.as_bytes().to_vec(),
        _ => entry.path.as_bytes().to_vec(),
    };
    if !args.long {
        return output::named_line("", &name, slash);
    }
    let length = if args.human { ByteSize(entry.length).to_string() } else { entry.length.to_string() };
    let unfinished = if entry.complete { "" } else { " (being written)" };
    let before = format_args!(
        "{} {:8} {:8} {:>12} {} ",
        output::mode(entry),
        output::or_dash(&entry.owner),
        output::or_dash(&entry.group),
        length,
        output::time(entry.modified)
    );
    output::named_line(before, &name, &format!("{slash}{unfinished}"));
}
