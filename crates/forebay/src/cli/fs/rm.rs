//! `forebay fs rm`.

use super::{expand, explain};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::{ErrorKind, NsPath};
use forebay_client::{Client, DeleteOptions};
use std::ffi::OsString;

/// Removes files and directories.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Paths of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Directories with all below them.
    #[arg(short, short_alias = 'R', long)]
    recursive: bool,
    /// No error for a path that does not exist.
    #[arg(short, long)]
    force: bool,
    /// Forgets the metadata and leaves the store alone.
    #[arg(long)]
    namespace_only: bool,
    /// One JSON object for each path that was removed.
    #[arg(long)]
    json: bool,
}

/// Removes.
pub(crate) async fn run(args: Rm, client: &Client) -> anyhow::Result<()> {
    let failures = Failures::default();
    for argument in &args.paths {
        let paths = match expand(client, argument).await {
            Err(error) if args.force && crate::cli::failure::kind(&error) == Some(ErrorKind::NotFound) => continue,
            paths => failures.take(paths).unwrap_or_default(),
        };
        for path in paths {
            failures.take(one(&args, client, &path).await);
        }
    }
    failures.end()
}

async fn one(args: &Rm, client: &Client, path: &NsPath) -> anyhow::Result<()> {
    let options =
        DeleteOptions { recursive: args.recursive, namespace_only: args.namespace_only, ..DeleteOptions::default() };
    match client.delete(path, options).await {
        Err(error) if args.force && error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotEmpty => {
            Err(error.with_hint("--recursive removes what is in it too"))?
        }
        result => explain(client, path, result).await?,
    }
    if args.json {
        output::line(output::path_json(path));
    }
    Ok(())
}
