//! `forebay fs cat`, `head` and `tail`.

use super::{expand, expand_all, explain};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, File};
use futures::TryStreamExt;
use std::{
    ffi::{OsStr, OsString},
    ops::Range,
    str::FromStr,
};

/// Bytes that `tail -n` looks at from the end before it looks at twice as many.
const TAIL_STEP: u64 = 64 << 10;

/// Writes files to standard output.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Files of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
}

/// Writes the start of a file.
#[derive(Debug, Args)]
pub(crate) struct Head {
    /// A file of the tree.
    path: OsString,
    /// Lines.
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "bytes")]
    lines: u64,
    /// Bytes instead of lines, e.g. 4KiB.
    #[arg(short = 'c', long)]
    bytes: Option<ByteSize>,
}

/// Writes the end of a file.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// A file of the tree.
    path: OsString,
    /// The last N lines; +N: from line N on.
    #[arg(short = 'n', long, default_value = "10", value_name = "[+]N", conflicts_with = "bytes")]
    lines: Start<u64>,
    /// The last N bytes instead of lines, e.g. 4KiB; +N: from byte N on. The first is 1.
    #[arg(short = 'c', long, value_name = "[+]N")]
    bytes: Option<Start<ByteSize>>,
}

/// Where `tail` starts.
#[derive(Clone, Copy, Debug)]
enum Start<T> {
    Last(T),
    /// Counted from 1.
    From(T),
}

impl<T: FromStr> FromStr for Start<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text.strip_prefix('+') {
            Some(count) => count.parse().map(Start::From),
            None => text.parse().map(Start::Last),
        }
    }
}

/// Writes whole files.
pub(crate) async fn cat(args: Cat, client: &Client) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for path in expand_all(client, &args.paths, &mut failures).await {
        failures.take(whole(client, &path).await);
    }
    failures.end()
}

async fn whole(client: &Client, path: &NsPath) -> anyhow::Result<()> {
    let file = open(client, path).await?;
    let all = 0..file.len();
    write_range(&file, all).await
}

/// Opens a file. An empty output must not look like an empty file while somebody still writes it.
async fn open(client: &Client, path: &NsPath) -> anyhow::Result<File> {
    let file = explain(client, path, client.open(path).await).await?;
    if !file.entry().complete {
        eprintln!("note: {path} is being written: it has no content yet");
    }
    Ok(file)
}

/// Writes the start.
pub(crate) async fn head(args: Head, client: &Client) -> anyhow::Result<()> {
    let file = open_one(client, &args.path).await?;
    if let Some(bytes) = args.bytes {
        return write_range(&file, 0..bytes.0.min(file.len())).await;
    }
    let mut lines = args.lines;
    let mut chunks = file.stream(..);
    while lines > 0 {
        let Some(chunk) = chunks.try_next().await? else { break };
        let mut end = chunk.len();
        for (at, _) in chunk.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines -= 1;
            if lines == 0 {
                end = at + 1;
                break;
            }
        }
        output::bytes(&chunk[..end])?;
    }
    output::flush()
}

/// Writes the end.
pub(crate) async fn tail(args: Tail, client: &Client) -> anyhow::Result<()> {
    let file = open_one(client, &args.path).await?;
    let start = match (args.bytes, args.lines) {
        (Some(Start::Last(bytes)), _) => file.len().saturating_sub(bytes.0),
        (Some(Start::From(byte)), _) => byte.0.saturating_sub(1).min(file.len()),
        (None, Start::Last(lines)) => start_of_last_lines(&file, lines).await?,
        (None, Start::From(line)) => start_of_line(&file, line).await?,
    };
    write_range(&file, start..file.len()).await
}

/// Where a line starts, counted from 1: the end when there are fewer.
async fn start_of_line(file: &File, line: u64) -> anyhow::Result<u64> {
    let (mut at, mut left) = (0, line.saturating_sub(1));
    let mut chunks = file.stream(..);
    while left > 0 {
        let Some(chunk) = chunks.try_next().await? else { return Ok(file.len()) };
        for (index, _) in chunk.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(at + index as u64 + 1);
            }
        }
        at += chunk.len() as u64;
    }
    Ok(0)
}

/// Where the last `lines` lines start: reads backwards in growing steps.
async fn start_of_last_lines(file: &File, lines: u64) -> anyhow::Result<u64> {
    let (mut end, mut step, mut found) = (file.len(), TAIL_STEP, 0);
    if lines == 0 {
        return Ok(end);
    }
    while end > 0 {
        let start = end.saturating_sub(step);
        let bytes = file.read_at(start, usize::try_from(end - start)?).await?;
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let newline = start + at as u64;
            // The last line's own newline ends it, so it starts none.
            if newline + 1 == file.len() {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(newline + 1);
            }
        }
        (end, step) = (start, (step * 2).min(8 << 20));
    }
    Ok(0)
}

async fn open_one(client: &Client, argument: &OsStr) -> anyhow::Result<File> {
    let paths = expand(client, argument).await?;
    anyhow::ensure!(paths.len() == 1, "{} matches {} paths, one is needed", argument.to_string_lossy(), paths.len());
    open(client, &paths[0]).await
}

async fn write_range(file: &File, range: Range<u64>) -> anyhow::Result<()> {
    let mut chunks = file.stream(range);
    while let Some(chunk) = chunks.try_next().await? {
        output::bytes(&chunk)?;
    }
    output::flush()
}
