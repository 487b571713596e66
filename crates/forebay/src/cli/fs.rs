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
use crate::config::STALENESS_MAX;
use clap::{ArgAction, Args, Subcommand};
use forebay_base::{HumanDuration, NsPath};
use forebay_client::{Client, SyncMode};
use std::{ffi::OsStr, process::ExitCode, time::Duration};

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
    /// Moves or renames, also across mounts and between the tree and local files.
    ///
    /// Within one mount it is a rename: at once, all or nothing. To another mount, and between the tree and local files, each file is copied and removed at
    /// its source when the target has it whole; what cannot be moved stays where it was, and the exit code says so.
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

impl FsCommand {
    /// How old what the command reads may be: as it says, or as `set`. What changes anything, or prepares for it, goes by what is true now.
    pub(crate) fn max_staleness(&self, set: HumanDuration) -> Duration {
        let staleness = match self {
            FsCommand::Ls(args) => &args.staleness,
            FsCommand::Stat(args) => &args.staleness,
            FsCommand::Cat(args) => &args.staleness,
            FsCommand::Head(args) => &args.staleness,
            FsCommand::Tail(args) => &args.staleness,
            FsCommand::Du(args) => &args.staleness,
            FsCommand::Count(args) => &args.staleness,
            FsCommand::Test(args) => &args.staleness,
            FsCommand::Checksum(args) => &args.staleness,
            FsCommand::Location(args) => &args.staleness,
            FsCommand::Cp(_)
            | FsCommand::Mv(_)
            | FsCommand::Rm(_)
            | FsCommand::Mkdir(_)
            | FsCommand::Load(_)
            | FsCommand::Free(_) => return Duration::ZERO,
        };
        staleness.max_staleness.unwrap_or(set).0
    }
}

/// `--max-staleness`, of commands that read.
#[derive(Clone, Copy, Debug, Args)]
struct Staleness {
    /// How old what is shown may be, e.g. 5s, 1d at most: any master may answer then, not just the one that leads. 0: none of it. Stands for `--set client.max_staleness=…`; no effect with `--sync`.
    #[arg(long, value_name = "DURATION", value_parser = max_staleness, allow_hyphen_values = true)]
    max_staleness: Option<HumanDuration>,
}

fn max_staleness(text: &str) -> Result<HumanDuration, String> {
    if text.starts_with('-') {
        return Err("nothing is less than 0 old: write a duration such as 5s, or 0 for what is true now".to_owned());
    }
    let staleness = text.parse::<HumanDuration>().map_err(|error| error.to_string())?;
    match staleness.0 <= STALENESS_MAX {
        true => Ok(staleness),
        false => Err(format!(
            "{} is the most: write less, such as 30s, or leave it out for what is true now",
            HumanDuration(STALENESS_MAX)
        )),
    }
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
async fn expand_all(client: &Client, arguments: &[std::ffi::OsString], failures: &Failures) -> Vec<NsPath> {
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
