//! `forebay debug …`: what lies in the files of this host's master. Nothing is changed, and the master may run: then it shows what has reached the disk.

mod inode;
mod log;
mod state;

use crate::config::Settings;
use crate::server;
use clap::{Args, Subcommand};
use forebay_base::ErrorKind;
use forebay_client::Error;
use forebay_consensus::{AppliedAt, OpenError};
use forebay_metastore::{Direction, KeyRange, Read, RocksView, StoreError};
use forebay_namespace::{ApplyError, query};
use std::path::PathBuf;
use tempfile::TempDir;

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// The entries of the log, oldest first.
    Log(log::Log),
    /// What the state has, by kind; reads all of it.
    State(state::State),
    /// One file or directory of the state, by its path or number.
    Inode(inode::Inode),
}

/// Whose files.
#[derive(Debug, Args)]
struct Place {
    /// The directory of the master's data [default: `master` in `data_dir` of the configuration].
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub(crate) fn run(command: DebugCommand, settings: &Settings) -> anyhow::Result<()> {
    match command {
        DebugCommand::Log(args) => log::run(&args, settings),
        DebugCommand::State(args) => state::run(&args, settings),
        DebugCommand::Inode(args) => inode::run(&args, settings),
    }
}

/// What mends a directory in which there is no state.
const WRONG_DIR: &str =
    "name the directory of a master's data with --dir: `master` in its data_dir, with log and state in it";

impl Place {
    fn directory(&self, settings: &Settings) -> anyhow::Result<PathBuf> {
        let directory = self.dir.clone().unwrap_or_else(|| server::master_directory(settings));
        match directory.is_dir() {
            true => Ok(directory),
            false => Err(told(
                ErrorKind::NotFound,
                format!("there is no master's data in {}", directory.display()),
                "name it with --dir, or the configuration with --config",
            )),
        }
    }

    /// The state as it lies on disk.
    fn state(&self, settings: &Settings) -> anyhow::Result<OnDisk> {
        let path = self.directory(settings)?.join("state");
        let current = path.join("CURRENT");
        let text = std::fs::read_to_string(&current);
        let text = text
            .map_err(|error| told(kind_of(&error), format!("cannot read {}: {error}", current.display()), WRONG_DIR))?;
        let generation: u64 = text.trim().parse().map_err(|_| {
            told(ErrorKind::Corrupt, format!("{} holds {text:?} where a number is expected", current.display()), "")
        })?;
        let scratch = tempfile::Builder::new().prefix("forebay-debug-").tempdir()?;
        let view = RocksView::open(&path.join(generation.to_string()), scratch.path()).map_err(store_error)?;
        let first = view.scan(KeyRange::all(), Direction::Forward).next().transpose().map_err(store_error)?;
        if first.is_none() {
            return Err(told(
                ErrorKind::NotFound,
                format!("the state in {} has nothing yet", path.display()),
                "this master waits until a group takes it in, or nothing of it has reached the disk; forebay masters list tells more",
            ));
        }
        Ok(OnDisk { view, _scratch: scratch })
    }
}

/// A state, open for reading.
struct OnDisk {
    view: RocksView,
    /// Removed last.
    _scratch: TempDir,
}

impl OnDisk {
    fn read(&self) -> &dyn Read {
        &self.view
    }

    /// The last entry of the log that it has; none before the first.
    fn position(&self) -> anyhow::Result<Option<AppliedAt>> {
        let position = query::applied_position(self.read()).map_err(apply_error)?;
        if position.is_empty() {
            return Ok(None);
        }
        AppliedAt::read(&position).map(Some).map_err(|why| told(ErrorKind::Corrupt, why, ""))
    }
}

fn kind_of(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        std::io::ErrorKind::InvalidData => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    }
}

fn told(kind: ErrorKind, message: String, hint: &str) -> anyhow::Error {
    Error::new(kind, message).with_hint(hint).into()
}

fn log_error(error: OpenError) -> anyhow::Error {
    let kind = match &error {
        OpenError::Io { source, .. } => kind_of(source),
        other => other.kind(),
    };
    told(kind, error.to_string(), "")
}

fn store_error(error: StoreError) -> anyhow::Error {
    told(error.kind(), error.to_string(), "")
}

fn apply_error(error: ApplyError) -> anyhow::Error {
    told(error.kind(), error.to_string(), "")
}
