//! `forebay fs mkdir`.

use crate::cli::{failure::Failures, output, place::tree_path};
use clap::Args;
use forebay_base::ErrorKind;
use forebay_client::{Client, MakeDirectoryOptions};
use std::ffi::{OsStr, OsString};

/// Makes directories.
#[derive(Debug, Args)]
pub(crate) struct Mkdir {
    /// Paths of the tree.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Missing parents too; no error when the directory exists.
    #[arg(short, long)]
    parents: bool,
    /// Permission bits in octal.
    #[arg(short, long, default_value = "755", value_parser = octal)]
    mode: u32,
    /// One JSON object for each directory.
    #[arg(long)]
    json: bool,
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is no mode: write it in octal, such as 755"))
}

/// Makes them.
pub(crate) async fn run(args: Mkdir, client: &Client) -> anyhow::Result<()> {
    let failures = Failures::default();
    for argument in &args.paths {
        failures.take(one(&args, client, argument).await);
    }
    failures.end()
}

async fn one(args: &Mkdir, client: &Client, argument: &OsStr) -> anyhow::Result<()> {
    let path = tree_path(argument)?;
    let options = MakeDirectoryOptions { parents: args.parents, mode: args.mode, ..MakeDirectoryOptions::default() };
    match client.make_directory(&path, options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(error.with_hint("--parents makes what is missing"))?,
        result => result?,
    };
    if args.json {
        output::line(output::path_json(&path));
    }
    Ok(())
}
