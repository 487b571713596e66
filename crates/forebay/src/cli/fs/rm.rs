//! `forebay fs rm`.

use super::{expand, explain};
use clap::Args;
use forebay_base::ErrorKind;
use forebay_client::{Client, DeleteOptions};
use std::ffi::OsString;

/// Removes files and directories.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Paths of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Directories with all below them.
    #[arg(short, long)]
    recursive: bool,
    /// No error for a path that does not exist.
    #[arg(short, long)]
    force: bool,
    /// Forgets the metadata and leaves the store alone.
    #[arg(long)]
    namespace_only: bool,
}

/// Removes.
pub(crate) async fn run(args: Rm, client: &Client) -> anyhow::Result<()> {
    for argument in &args.paths {
        let paths = match expand(client, argument).await {
            Ok(paths) => paths,
            Err(error) if args.force && crate::cli::failure::kind(&error) == Some(ErrorKind::NotFound) => continue,
            Err(error) => return Err(error),
        };
        for path in paths {
            let options = DeleteOptions { recursive: args.recursive, namespace_only: args.namespace_only };
            match client.delete(&path, options).await {
                Err(error) if args.force && error.kind() == ErrorKind::NotFound => {}
                result => explain(client, &path, result).await?,
            }
        }
    }
    Ok(())
}
