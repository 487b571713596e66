//! `forebay fs cp`: within the tree, and between it and local files.
//!
//! Sources are walked while files are copied, a few at a time, each streamed with bounded memory. A file appears at its
//! target whole or not at all, on both sides.

mod local;
mod one;
mod target;

use super::{
    explain,
    report::Report,
    walk::{self, Found},
};
use crate::cli::{failure::Failures, glob, output, place::Place, progress::Progress};
use anyhow::{Context, bail, ensure};
use clap::Args;
use forebay_base::ByteSize;
use forebay_client::Client;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use serde_json::json;
use std::{
    ffi::{OsStr, OsString},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use target::Target;

/// Copies files and directories.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// What to copy, then where to: into it when that is a directory. `/lake/x` is in the tree, `file:/tmp/x`, `./x` and `x` are local, `-` is standard input or output.
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    paths: Vec<OsString>,
    /// Directories with all below them.
    #[arg(short, long)]
    recursive: bool,
    /// Leaves files alone that exist already; the others are replaced.
    #[arg(short = 'n', long)]
    no_clobber: bool,
    /// Keeps modification times.
    #[arg(short, long)]
    preserve: bool,
    /// Files at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// Does not keep in the cache what is copied.
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    report: Report,
}

/// Standard input as a source, standard output as a target.
const STANDARD_STREAM: &str = "-";

/// What has been done so far.
#[derive(Default)]
struct Totals {
    files: AtomicU64,
    skipped: AtomicU64,
    bytes: AtomicU64,
}

/// Copies. A source ends at its first file that cannot be copied; the other sources are copied all the same.
pub(crate) async fn run(args: Cp, client: &Client) -> anyhow::Result<()> {
    let (to, from) = args.paths.split_last().expect("clap asks for two");
    let mut failures = Failures::default();
    let mut sources = Vec::new();
    for argument in from {
        sources.extend(failures.take(Source::find(client, argument).await).unwrap_or_default());
    }
    let target = Target::find(client, to).await?;
    ensure!(
        target.is_directory() || from.len() == 1 && sources.len() <= 1,
        "{target} is not a directory: several sources cannot be copied to it"
    );
    let progress = args.report.progress();
    let totals = Totals::default();
    for source in sources {
        failures.take(copy_source(&args, client, &source, &target, &progress, &totals).await);
    }
    progress.finish();
    if !matches!(target, Target::Stdout) {
        report(&args.report, &totals);
    }
    failures.end()
}

async fn copy_source(
    args: &Cp,
    client: &Client,
    source: &Source,
    target: &Target,
    progress: &Progress,
    totals: &Totals,
) -> anyhow::Result<()> {
    let root = target.root_for(source)?;
    ensure!(!root.is_inside(source), "cannot copy {source} into itself ({root})");
    copy_tree(args, client, source, &root, progress, totals).await
}

fn report(report: &Report, totals: &Totals) {
    let (files, skipped, bytes) =
        (totals.files.load(Relaxed), totals.skipped.load(Relaxed), totals.bytes.load(Relaxed));
    let left = if skipped == 0 { String::new() } else { format!(", {skipped} left alone") };
    report.end(
        json!({ "files": files, "skipped": skipped, "bytes": bytes }),
        format_args!("{}, {} copied{left}", output::files(files), ByteSize(bytes)),
    );
}

async fn copy_tree(
    args: &Cp,
    client: &Client,
    source: &Source,
    root: &Target,
    progress: &Progress,
    totals: &Totals,
) -> anyhow::Result<()> {
    let options = one::Options { no_clobber: args.no_clobber, preserve: args.preserve, no_cache: args.no_cache };
    let items = source.items(client).map(|item| async move {
        let item = item?;
        let target = root.join(&item.below)?;
        if !item.is_directory && item.below.is_empty() {
            target.ensure_names_a_file()?;
        }
        if item.is_directory {
            ensure!(args.recursive, "{source} is a directory: use --recursive");
            target.make_directory(client).await?;
            return Ok(None);
        }
        progress.expect(item.length);
        Ok(Some((item, target)))
    });
    // Directories are made in order, one after another, before what lies in them; files follow side by side.
    items
        .buffered(1)
        .try_filter_map(|item| async move { Ok(item) })
        .try_for_each_concurrent(usize::from(args.parallel), |(item, target)| async move {
            progress.at(&target);
            let copied = one::copy(client, &item.from, &target, options, |bytes| progress.done(bytes))
                .await
                .with_context(|| format!("cannot copy {} to {target}", item.from))?;
            match copied {
                Some(bytes) => {
                    totals.files.fetch_add(1, Relaxed);
                    totals.bytes.fetch_add(bytes, Relaxed);
                }
                None => {
                    totals.skipped.fetch_add(1, Relaxed);
                }
            }
            Ok(())
        })
        .await
}

/// Something to copy.
#[derive(Clone, Debug)]
enum Source {
    Tree(forebay_base::NsPath),
    Local(std::path::PathBuf),
    Stdin,
}

/// One file or directory at or below a source.
struct Item {
    from: Source,
    /// Where below the source: empty for the source itself.
    below: Vec<u8>,
    is_directory: bool,
    length: u64,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Tree(path) => path.fmt(f),
            Source::Local(path) => write!(f, "file:{}", path.display()),
            Source::Stdin => f.write_str("standard input"),
        }
    }
}

impl Source {
    /// What an argument stands for.
    async fn find(client: &Client, argument: &OsStr) -> anyhow::Result<Vec<Source>> {
        if argument == STANDARD_STREAM {
            return Ok(vec![Source::Stdin]);
        }
        let paths = match Place::parse(argument) {
            Place::Tree(pattern) => glob::expand(client, &pattern).await?,
            Place::Local(path) => return Ok(vec![Source::Local(path)]),
        };
        if let [path] = paths.as_slice() {
            explain(client, path, client.stat(path).await).await?;
        }
        Ok(paths.into_iter().map(Source::Tree).collect())
    }

    /// Not so pipes and the like: what was read of them is gone.
    fn can_be_read_again(&self) -> bool {
        match self {
            Source::Tree(_) => true,
            Source::Local(path) => std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()),
            Source::Stdin => false,
        }
    }

    fn items(&self, client: &Client) -> BoxStream<'static, anyhow::Result<Item>> {
        match self {
            Source::Tree(path) => tree_items(client, path.clone()).boxed(),
            Source::Local(path) => local::items(path.clone()).boxed(),
            Source::Stdin => {
                let item = Item { from: Source::Stdin, below: Vec::new(), is_directory: false, length: 0 };
                futures::stream::iter([Ok(item)]).boxed()
            }
        }
    }
}

fn tree_items(
    client: &Client,
    root: forebay_base::NsPath,
) -> impl Stream<Item = anyhow::Result<Item>> + Send + 'static {
    walk::walk(client.clone(), root.clone()).and_then(move |found| {
        let root = root.clone();
        async move {
            let (entry, is_directory) = match found {
                Found::Directory(entry) => (entry, true),
                Found::File(entry) => (entry, false),
            };
            let Some(below) = entry.path.below(&root) else { bail!("{} is not below {root}", entry.path) };
            Ok(Item { below: below.to_vec(), is_directory, length: entry.length, from: Source::Tree(entry.path) })
        }
    })
}
