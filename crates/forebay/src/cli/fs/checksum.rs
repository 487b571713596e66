//! `forebay fs checksum`.

use super::{Staleness, expand_all, explain, walk};
use crate::cli::{failure::Failures, output};
use anyhow::ensure;
use clap::{Args, ValueEnum};
use forebay_base::{NsPath, checksum::Crc32c};
use forebay_client::{Client, Entry, File};
use futures::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::ffi::OsString;

/// Prints checksums of the content.
#[derive(Debug, Args)]
pub(crate) struct Checksum {
    /// Files and directories of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Which checksum.
    #[arg(short, long, value_enum, default_value_t = Algorithm::Sha256)]
    algorithm: Algorithm,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    /// SHA-256, as `sha256sum` prints it.
    Sha256,
    /// CRC32C (Castagnoli), as HDFS's COMPOSITE-CRC and S3's x-amz-checksum-crc32c.
    Crc32c,
}

/// Prints. Reads every byte through the cache.
pub(crate) async fn run(args: Checksum, client: &Client) -> anyhow::Result<()> {
    let failures = Failures::default();
    for path in expand_all(client, &args.paths, &failures).await {
        failures.take(below(&args, client, path, &failures).await);
    }
    failures.end()
}

/// Prints those of a file, or of all files below a directory.
async fn below(args: &Checksum, client: &Client, path: NsPath, failures: &Failures) -> anyhow::Result<()> {
    let entry = explain(client, &path, client.stat(&path).await).await?;
    // Asked for by its name it must have a sum; among others it is left out.
    ensure!(entry.is_directory() || entry.complete, "{path} is being written: it has no content yet");
    walk::each_file(client, path, 1, failures, |entry| one(args, client, entry)).await
}

async fn one(args: &Checksum, client: &Client, entry: Entry) -> anyhow::Result<()> {
    let file = client.open(&entry.path).await?;
    ensure!(file.entry().complete, "{} is being written: it has no content yet", entry.path);
    let sum = sum(&file, args.algorithm).await?;
    if args.json {
        let mut value = output::path_json(&entry.path);
        let algorithm = args.algorithm.to_possible_value().map(|value| value.get_name().to_owned());
        output::merge(&mut value, json!({ "algorithm": algorithm, "checksum": sum, "length": file.len() }));
        output::line(value);
    } else {
        output::named_line(format_args!("{sum}  "), entry.path.as_bytes(), "");
    }
    Ok(())
}

async fn sum(file: &File, algorithm: Algorithm) -> anyhow::Result<String> {
    let mut chunks = file.stream(..);
    let (mut sha, mut crc) = (Sha256::new(), Crc32c::new());
    while let Some(chunk) = chunks.try_next().await? {
        match algorithm {
            Algorithm::Sha256 => sha.update(&chunk),
            Algorithm::Crc32c => crc.update(&chunk),
        }
    }
    Ok(match algorithm {
        Algorithm::Sha256 => output::hex(&sha.finalize()),
        Algorithm::Crc32c => format!("{:08x}", crc.finalize()),
    })
}
