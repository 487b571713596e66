//! `forebay fs test`.

use super::Staleness;
use crate::cli::{output, place::tree_path};
use clap::{ArgGroup, Args};
use forebay_base::ErrorKind;
use forebay_client::Client;
use serde_json::json;
use std::{ffi::OsString, process::ExitCode};

/// Tells by its exit code whether a path is what is asked.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("question").required(true).multiple(false))]
pub(crate) struct Test {
    /// Is there anything?
    #[arg(short, group = "question", value_name = "PATH")]
    exists: Option<OsString>,
    /// Is it a directory?
    #[arg(short, group = "question", value_name = "PATH")]
    directory: Option<OsString>,
    /// Is it a file?
    #[arg(short, group = "question", value_name = "PATH")]
    file: Option<OsString>,
    /// Is it a file with at least one byte?
    #[arg(short = 's', group = "question", value_name = "PATH")]
    not_empty: Option<OsString>,
    /// Is it a file without bytes?
    #[arg(short = 'z', group = "question", value_name = "PATH")]
    zero_length: Option<OsString>,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// The answer as a JSON object too.
    #[arg(long)]
    json: bool,
}

/// Asks. Anything but a clear yes or no is an error with its own exit code.
pub(crate) async fn run(args: Test, client: &Client) -> anyhow::Result<ExitCode> {
    let all = [&args.exists, &args.directory, &args.file, &args.not_empty, &args.zero_length];
    let path = tree_path(all.into_iter().flatten().next().expect("clap asks for one"))?;
    let entry = match client.stat(&path).await {
        Ok(entry) => Some(entry),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => return Err(error.into()),
    };
    let yes = entry.is_some_and(|entry| {
        args.exists.is_some()
            || args.directory.is_some() && entry.is_directory()
            || args.file.is_some() && entry.is_file()
            || args.not_empty.is_some() && entry.is_file() && entry.length > 0
            || args.zero_length.is_some() && entry.is_file() && entry.length == 0
    });
    if args.json {
        let mut value = output::path_json(&path);
        output::merge(&mut value, json!({ "answer": yes }));
        output::line(value);
    }
    Ok(if yes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
