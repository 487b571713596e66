//! `forebay fs mv`.

use super::{expand_all, explain};
use crate::cli::place::tree_path;
use clap::Args;
use forebay_base::ErrorKind;
use forebay_client::{Client, RenameOptions};
use std::ffi::OsString;

/// Moves or renames.
#[derive(Debug, Args)]
pub(crate) struct Mv {
    /// What to move (patterns are allowed), then where to: into it when that is a directory.
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    paths: Vec<OsString>,
    /// Fails when the target exists.
    #[arg(short = 'n', long)]
    no_clobber: bool,
    /// TO is the new name itself, even if it is a directory.
    #[arg(short = 'T', long)]
    no_target_directory: bool,
}

/// Moves.
pub(crate) async fn run(args: Mv, client: &Client) -> anyhow::Result<()> {
    let (to, from) = args.paths.split_last().expect("clap asks for two");
    let to = tree_path(to)?;
    let sources = expand_all(client, from).await?;
    let into = !args.no_target_directory && is_directory(client, &to).await?;
    anyhow::ensure!(
        into || sources.len() == 1,
        "{to} is not a directory: {} paths cannot be moved to it",
        sources.len()
    );
    for source in sources {
        let target = match source.file_name().filter(|_| into) {
            Some(name) => to.join(&name)?,
            None => to.clone(),
        };
        let options = RenameOptions { no_replace: args.no_clobber };
        explain(client, &source, client.rename(&source, &target, options).await).await?;
    }
    Ok(())
}

async fn is_directory(client: &Client, path: &forebay_base::NsPath) -> anyhow::Result<bool> {
    match client.stat(path).await {
        Ok(entry) => Ok(entry.is_directory()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
