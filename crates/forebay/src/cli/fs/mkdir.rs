//! `forebay fs mkdir`.

use super::explain;
use crate::cli::place::tree_path;
use clap::Args;
use forebay_client::{Client, MakeDirectoryOptions};
use std::ffi::OsString;

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
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is no mode: write it in octal, such as 755"))
}

/// Makes them.
pub(crate) async fn run(args: Mkdir, client: &Client) -> anyhow::Result<()> {
    for argument in &args.paths {
        let path = tree_path(argument)?;
        let options =
            MakeDirectoryOptions { parents: args.parents, mode: args.mode, ..MakeDirectoryOptions::default() };
        let result = client.make_directory(&path, options).await;
        explain(client, &path.parent().unwrap_or_else(forebay_base::NsPath::root), result).await?;
    }
    Ok(())
}
