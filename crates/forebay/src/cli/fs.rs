//! `forebay fs …`: files and directories of the tree.

mod cat;
mod checksum;
mod copy;
mod count;
mod free;
mod list;
mod load;
mod location;
mod mkdir;
mod mv;
mod report;
mod rm;
mod stat;
mod test;
mod walk;

use crate::cli::{failure::Failures, glob, place, suggest};
use clap::{ArgAction, Args, Subcommand};
use forebay_base::NsPath;
use forebay_client::{Client, SyncMode};
use std::{ffi::OsStr, process::ExitCode};

/// What to do with files.
#[derive(Debug, Subcommand)]
pub(crate) enum FsCommand {
    /// Lists directories.
    Ls(list::Ls),
    /// Shows all attributes.
    Stat(stat::Stat),
    /// Writes files to standard output.
    Cat(cat::Cat),
    /// Writes the start of a file to standard output.
    Head(cat::Head),
    /// Writes the end of a file to standard output.
    Tail(cat::Tail),
    /// Copies files and directories, within the tree and between it and local files.
    Cp(copy::Cp),
    /// Moves or renames.
    Mv(mv::Mv),
    /// Removes files and directories, from the tree and from their store.
    Rm(rm::Rm),
    /// Makes directories.
    Mkdir(mkdir::Mkdir),
    /// Sums the length of files below paths.
    Du(count::Du),
    /// Counts directories, files and bytes below paths.
    Count(count::Count),
    /// Tells by its exit code whether a path is what is asked: 0 yes, 1 no.
    Test(test::Test),
    /// Prints checksums of the content.
    Checksum(checksum::Checksum),
    /// Brings files into the cache.
    Load(load::Load),
    /// Drops files from the cache; their stores keep them.
    Free(free::Free),
    /// Shows which workers hold which parts.
    Location(location::Location),
}

/// Runs the command.
pub(crate) async fn run(command: FsCommand, client: &Client) -> anyhow::Result<ExitCode> {
    match command {
        FsCommand::Ls(args) => list::run(args, client).await?,
        FsCommand::Stat(args) => stat::run(args, client).await?,
        FsCommand::Cat(args) => cat::cat(args, client).await?,
        FsCommand::Head(args) => cat::head(args, client).await?,
        FsCommand::Tail(args) => cat::tail(args, client).await?,
        FsCommand::Cp(args) => copy::run(args, client).await?,
        FsCommand::Mv(args) => mv::run(args, client).await?,
        FsCommand::Rm(args) => rm::run(args, client).await?,
        FsCommand::Mkdir(args) => mkdir::run(args, client).await?,
        FsCommand::Du(args) => count::du(args, client).await?,
        FsCommand::Count(args) => count::count(args, client).await?,
        FsCommand::Test(args) => return test::run(args, client).await,
        FsCommand::Checksum(args) => checksum::run(args, client).await?,
        FsCommand::Load(args) => load::run(args, client).await?,
        FsCommand::Free(args) => free::run(args, client).await?,
        FsCommand::Location(args) => location::run(args, client).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `--help` alone, for commands whose `-h` means human-readable, as it does in `ls`, `du` and `hdfs dfs`.
#[derive(Debug, Args)]
struct LongHelp {
    /// Prints help.
    #[arg(long, action = ArgAction::Help)]
    #[allow(dead_code, reason = "clap acts on it")]
    help: Option<bool>,
}

/// The paths that arguments with patterns stand for. What an argument fails with is told at once.
async fn expand_all(client: &Client, arguments: &[std::ffi::OsString], failures: &mut Failures) -> Vec<NsPath> {
    let mut paths = Vec::new();
    for argument in arguments {
        paths.extend(failures.take(expand(client, argument).await).unwrap_or_default());
    }
    paths
}

async fn expand(client: &Client, argument: &OsStr) -> anyhow::Result<Vec<NsPath>> {
    glob::expand(client, place::tree_path(argument)?.as_bytes()).await
}

/// `--sync` and its absence.
fn sync_mode(now: bool) -> SyncMode {
    if now { SyncMode::Now } else { SyncMode::ByInterval }
}

/// A result about `path`, with what was probably meant when it does not exist.
async fn explain<T>(client: &Client, path: &NsPath, result: forebay_client::Result<T>) -> anyhow::Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => Err(suggest::add(client, path, error.into()).await),
    }
}
