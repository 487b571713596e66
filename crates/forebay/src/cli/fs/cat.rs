//! `forebay fs cat`, `head` and `tail`.

use super::{Staleness, expand, expand_all, explain};
use crate::cli::{failure::Failures, output};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use forebay_base::{ByteSize, NsPath};
use forebay_client::{Client, File};
use futures::TryStreamExt;
use serde_json::{Value, json};
use std::{
    ffi::{OsStr, OsString},
    ops::Range,
    str::FromStr,
};

/// Bytes that `tail -n` looks at from the end before it looks at twice as many.
const TAIL_STEP: u64 = 64 << 10;

/// Bytes of one JSON object: a multiple of 3, so that the pieces' base64 texts one after another are the whole's.
const PIECE: usize = 768 << 10;

/// Writes files to standard output.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Files of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object for each piece, with its bytes in base64.
    #[arg(long)]
    json: bool,
}

/// Writes the start of a file.
#[derive(Debug, Args)]
pub(crate) struct Head {
    /// A file of the tree.
    path: OsString,
    /// Lines; `-20` stands for `-n 20`.
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "bytes")]
    lines: u64,
    /// Bytes instead of lines, e.g. 4KiB.
    #[arg(short = 'c', long)]
    bytes: Option<ByteSize>,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object for each piece, with its bytes in base64.
    #[arg(long)]
    json: bool,
}

/// Writes the end of a file.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// A file of the tree.
    path: OsString,
    /// The last N lines; +N: from line N on; `-20` stands for `-n 20`.
    #[arg(short = 'n', long, default_value = "10", value_name = "[+]N", conflicts_with = "bytes")]
    lines: Start<u64>,
    /// The last N bytes instead of lines, e.g. 4KiB; +N: from byte N on. The first is 1.
    #[arg(short = 'c', long, value_name = "[+]N")]
    bytes: Option<Start<ByteSize>>,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object for each piece, with its bytes in base64.
    #[arg(long)]
    json: bool,
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
    let failures = Failures::default();
    for path in expand_all(client, &args.paths, &failures).await {
        failures.take(whole(client, &path, args.json).await);
    }
    failures.end()
}

async fn whole(client: &Client, path: &NsPath, json: bool) -> anyhow::Result<()> {
    let file = open(client, path).await?;
    let all = 0..file.len();
    write_range(&file, all, json).await
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
        return write_range(&file, 0..bytes.0.min(file.len()), args.json).await;
    }
    let mut lines = args.lines;
    let mut pieces = Pieces::new(&file, 0, args.json);
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
        pieces.write(&chunk[..end])?;
    }
    pieces.end()
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
    write_range(&file, start..file.len(), args.json).await
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

async fn write_range(file: &File, range: Range<u64>, json: bool) -> anyhow::Result<()> {
    let mut pieces = Pieces::new(file, range.start, json);
    let mut chunks = file.stream(range);
    while let Some(chunk) = chunks.try_next().await? {
        pieces.write(&chunk)?;
    }
    pieces.end()
}

/// Content on its way to standard output: as it is, or in JSON objects of [`PIECE`] bytes each but for the last.
struct Pieces {
    path: NsPath,
    /// Where what is held starts in the file.
    offset: u64,
    /// With JSON only.
    held: Option<Vec<u8>>,
    any: bool,
}

impl Pieces {
    fn new(file: &File, offset: u64, json: bool) -> Self {
        Pieces { path: file.entry().path.clone(), offset, held: json.then(Vec::new), any: false }
    }

    fn write(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        let Some(held) = &mut self.held else { return output::bytes(bytes) };
        while held.len() + bytes.len() >= PIECE {
            let (now, later) = bytes.split_at(PIECE - held.len());
            held.extend_from_slice(now);
            output::line(piece(&self.path, self.offset, held));
            self.offset += held.len() as u64;
            self.any = true;
            held.clear();
            bytes = later;
        }
        held.extend_from_slice(bytes);
        Ok(())
    }

    /// An empty file is one empty piece.
    fn end(self) -> anyhow::Result<()> {
        match self.held {
            Some(held) if !held.is_empty() || !self.any => output::line(piece(&self.path, self.offset, &held)),
            Some(_) => {}
            None => output::flush()?,
        }
        Ok(())
    }
}

fn piece(path: &NsPath, offset: u64, bytes: &[u8]) -> Value {
    let mut value = output::path_json(path);
    let content = BASE64_STANDARD.encode(bytes);
    output::merge(&mut value, json!({ "offset": offset, "length": bytes.len(), "content_base64": content }));
    value
}
