//! The command line: `forebay NOUN VERB`.

use crate::config::{self, Config, Flags};
use clap::{Args, CommandFactory, Parser, Subcommand};
use forebay_client::{Client, ClientConfig, Deadlines};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

mod config_command;
mod failure;
mod fs;
mod generate;
mod glob;
mod mount;
mod output;
mod place;
mod progress;
mod status;
mod suggest;

/// One tree over your stores, read through a shared cache.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
struct Global {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one setting, over file and environment, e.g. `--set worker.fetch_size=4MiB`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Addresses (host:port) of the masters; stands for `--set masters=…`.
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    masters: Option<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a master, a worker or both; without a configuration file everything in one process, on loopback only.
    Server,
    /// Files and directories of the tree.
    #[command(subcommand)]
    Fs(fs::FsCommand),
    /// Stores in the tree.
    #[command(subcommand)]
    Mount(mount::MountCommand),
    /// Shows masters, workers, tiers, capacity, hit ratio and mounts.
    Status(status::Status),
    /// Shows or checks the configuration.
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Prints completions for a shell.
    Completions(generate::Completions),
    /// Writes manual pages.
    Man(generate::Man),
}

impl Global {
    fn flags(&self) -> Flags {
        let mut values: Vec<_> =
            self.set.iter().map(|(key, value)| ("--set".to_owned(), key.clone(), value.clone())).collect();
        values.extend(self.masters.iter().map(|list| ("--masters".to_owned(), "masters".to_owned(), list.clone())));
        Flags { file: self.config.clone(), values }
    }

    fn load(&self) -> Result<Config, Vec<config::ConfigError>> {
        config::load(&self.flags(), std::env::vars())
    }
}

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.global.load() {
        Ok(config) => dispatch(cli.command, config).unwrap_or_else(|error| {
            failure::print(&error);
            ExitCode::from(failure::exit_code(&error))
        }),
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("error: {error}"));
            ExitCode::from(failure::EXIT_USAGE)
        }
    }
}

fn dispatch(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Server => crate::server::run(config)?,
        Command::Config(command) => config_command::run(command, &config)?,
        Command::Completions(args) => generate::completions(&args, Cli::command())?,
        Command::Man(args) => generate::man(&args, Cli::command())?,
        Command::Fs(command) => return with_client(&config, async |client| fs::run(command, &client).await),
        Command::Mount(command) => with_client(&config, async |client| mount::run(command, &client).await)?,
        Command::Status(args) => with_client(&config, async |client| status::run(args, &client).await)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects to the masters of the configuration and runs `work`.
fn with_client<T>(config: &Config, work: impl AsyncFnOnce(Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let client = Client::connect(client_config(config)).await?;
        let (tell, told) = oneshot::channel();
        tokio::spawn(end_on_signal(tell));
        tokio::select! {
            result = work(client.clone()) => result,
            Ok(interrupted) = told => {
                // What was being written is abandoned.
                let _ = tokio::time::timeout(SETTLE_MAX, client.settled()).await;
                Err(interrupted.into())
            }
        }
    });
    // A blocking read of standard input or a dead disk must not keep a finished command.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// How long a command waits for a master that does not answer at all: people wait for it, and a master that is restarted is back by then.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a command that was interrupted waits for the masters to learn it.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Tells of the first signal. The process ends at the second, or when it has not ended by itself: the command may be blocked, in a pipe that nobody reads.
async fn end_on_signal(tell: oneshot::Sender<failure::Interrupted>) {
    let interrupted = interrupted().await;
    let code = interrupted.exit_code();
    let _ = tell.send(interrupted);
    let _ = tokio::time::timeout(SETTLE_MAX + Duration::from_secs(1), self::interrupted()).await;
    std::process::exit(code.into());
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> failure::Interrupted {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminated => failure::Interrupted { signal: 15 },
        _ = tokio::signal::ctrl_c() => failure::Interrupted { signal: 2 },
    }
}

fn client_config(config: &Config) -> ClientConfig {
    let client = &config.settings.client;
    ClientConfig {
        same_host: client.same_host,
        buffer_memory: client.memory_limit,
        read_ahead_max: client.read_ahead_max,
        parts_in_flight_max: client.parts_in_flight.max(1) as usize,
        connections_per_worker_max: client.connections_per_worker.max(1) as usize,
        local_files_max: client.local_files as usize,
        deadlines: Deadlines {
            connect: client.deadline.0.min(CONNECT_MAX),
            metadata: client.deadline.0,
            read: client.deadline.0,
            write: client.deadline.0,
            worker_silence: client.read_timeout.0,
            ..Deadlines::default()
        },
        ..ClientConfig::new(config.settings.masters.iter().cloned())
    }
}
