//! `forebay fs mv`.

use super::expand_all;
use crate::cli::{failure::Failures, output, place::tree_path, suggest};
use anyhow::ensure;
use clap::Args;
use forebay_base::{ErrorKind, NsPath};
use forebay_client::{Client, Error, RenameOptions};
use serde_json::json;
use std::{ffi::OsString, os::unix::ffi::OsStrExt};

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
    /// One JSON object for each path that was moved.
    #[arg(long)]
    json: bool,
}

/// Moves.
pub(crate) async fn run(args: Mv, client: &Client) -> anyhow::Result<()> {
    let (target, from) = args.paths.split_last().expect("clap asks for two");
    let to = tree_path(target)?;
    let mut failures = Failures::default();
    let sources = expand_all(client, from, &mut failures).await;
    let into = !args.no_target_directory && is_directory(client, &to).await?;
    ensure!(
        into || from.len() == 1 && sources.len() <= 1,
        "{to} is not a directory: several paths cannot be moved to it"
    );
    let named = into || !target.as_bytes().ends_with(b"/");
    for source in sources {
        failures.take(one(&args, client, &source, &to, into, named).await);
    }
    failures.end()
}

async fn one(args: &Mv, client: &Client, source: &NsPath, to: &NsPath, into: bool, named: bool) -> anyhow::Result<()> {
    let target = match source.file_name().filter(|_| into) {
        Some(name) => to.join(&name)?,
        None => to.clone(),
    };
    ensure!(named || is_directory(client, source).await?, "{to}/ is not a directory: {source} cannot be moved into it");
    let options = RenameOptions { no_replace: args.no_clobber };
    match client.rename(source, &target, options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(not_found(client, source, &target, error).await);
        }
        result => result?,
    }
    if args.json {
        let mut value = output::path_json(&target);
        output::merge(&mut value, json!({ "from": output::path_json(source) }));
        output::line(value);
    }
    Ok(())
}

/// What was not found: the directory to move into, or the source.
async fn not_found(client: &Client, source: &NsPath, target: &NsPath, error: Error) -> anyhow::Error {
    match target.parent() {
        Some(parent) if client.stat(&parent).await.is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
            let hint = format!("make it: forebay fs mkdir -p {parent}");
            Error::new(ErrorKind::NotFound, format!("no directory {parent}")).with_hint(hint).into()
        }
        _ => suggest::add(client, source, error.into()).await,
    }
}

async fn is_directory(client: &Client, path: &NsPath) -> anyhow::Result<bool> {
    match client.stat(path).await {
        Ok(entry) => Ok(entry.is_directory()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
