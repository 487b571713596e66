//! The command line: `forebay NOUN VERB`.

use crate::config::{self, Config, Flags};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use forebay_client::{Client, ClientConfig, Deadlines, ReadType};
use forebay_ufs::{OpenOptions, mount_options};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

mod backup;
mod config_command;
mod debug;
mod failure;
mod fs;
mod generate;
mod glob;
mod habits;
mod masters;
mod mount;
mod output;
mod place;
mod progress;
mod quote;
mod status;
mod suggest;
mod waiting;

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
    Server(ServerArgs),
    /// Files and directories of the tree.
    #[command(subcommand)]
    Fs(fs::FsCommand),
    /// Stores in the tree.
    #[command(subcommand)]
    Mount(mount::MountCommand),
    /// The masters: who they are, who leads, and changes of the group.
    #[command(subcommand)]
    Masters(masters::MastersCommand),
    /// Backups of the masters' state: made, listed and checked; `forebay server --restore-from` restores one.
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Looks into the files of this host's master, whether it runs or not.
    #[command(subcommand)]
    Debug(debug::DebugCommand),
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

/// How a server starts.
#[derive(Debug, Default, Args)]
pub(crate) struct ServerArgs {
    /// Begins with the newest backup in a directory of a store (s3://bucket/prefix or file:///directory); only with an empty data directory.
    #[arg(long, value_name = "URI")]
    restore_from: Option<String>,
    /// Begins with this backup.
    #[arg(long, value_name = "ID", requires = "restore_from")]
    restore_backup: Option<String>,
    /// An option of the store of the backups, as of a mount; may be repeated.
    #[arg(long = "restore-option", value_name = "KEY=VALUE", value_parser = key_value, requires = "restore_from")]
    restore_option: Vec<(String, String)>,
    /// A copy of the file secret.key of the old cluster's masters, which opens the credentials that are stored with mounts.
    #[arg(long, value_name = "FILE", requires = "restore_from")]
    restore_secret_key: Option<PathBuf>,
}

impl ServerArgs {
    /// The backup to begin with.
    pub(crate) fn restore(&self) -> anyhow::Result<Option<forebay_master::RestoreFrom>> {
        let Some(uri) = &self.restore_from else { return Ok(None) };
        let named: Vec<(String, &str)> =
            self.restore_option.iter().map(|(name, value)| (mount_options::canonical(name), value.as_str())).collect();
        let is_secret = |name: &str| mount_options::SECRETS.contains(&name);
        let pairs = |secret: bool| {
            let named = named.iter().map(|(name, value)| (name.as_str(), *value));
            named.filter(move |(name, _)| is_secret(name) == secret)
        };
        let options =
            OpenOptions::from_mount(uri, pairs(false), pairs(true)).map_err(|error| backup::told(error.into()))?;
        let (backup, secret_key) = (self.restore_backup.clone(), self.restore_secret_key.clone());
        Ok(Some(forebay_master::RestoreFrom { uri: uri.clone(), options, backup, secret_key }))
    }
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
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return failure::wrong_use(&error),
    };
    let config = match cli.global.load() {
        Ok(config) => config,
        Err(errors) => return failure::wrong_configuration(&errors),
    };
    let ended = dispatch(cli.command, config).and_then(|code| output::complete().map(|()| code));
    ended.unwrap_or_else(|error| {
        failure::print(&error);
        ExitCode::from(failure::exit_code(&error))
    })
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(habits::translated(std::env::args_os().collect()))?;
    failure::tell_as_json(wants(&matches, "json"));
    waiting::keep_silent(wants(&matches, "json") || wants(&matches, "quiet"));
    Cli::from_arg_matches(&matches)
}

/// Whether the command was given a flag, such as `--json`.
fn wants(matches: &ArgMatches, flag: &str) -> bool {
    let here = matches.try_get_one::<bool>(flag).ok().flatten() == Some(&true);
    here || matches.subcommand().is_some_and(|(_, matches)| wants(matches, flag))
}

fn dispatch(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Server(args) => match config.keeps_server_from_starting() {
            none if none.is_empty() => crate::server::run(config, args.restore()?)?,
            conflicts => return Ok(failure::wrong_configuration(&conflicts)),
        },
        Command::Config(command) => return config_command::run(command, &config),
        Command::Completions(args) => generate::completions(&args, Cli::command())?,
        Command::Man(args) => generate::man(&args, Cli::command())?,
        Command::Fs(command) => {
            let max_staleness = command.max_staleness(config.settings.client.max_staleness);
            let settings = ClientConfig { max_staleness, ..client_config(&config) };
            return with_client_of(settings, async |client| fs::run(command, &client).await);
        }
        Command::Mount(command) => with_client(&config, async |client| mount::run(command, &client).await)?,
        Command::Masters(masters::MastersCommand::List { json }) => {
            without_client(masters::list(json, &client_config(&config)))?;
        }
        Command::Masters(masters::MastersCommand::Led(command)) => {
            with_client(&config, async |client| masters::run(command, &config.settings, &client).await)?;
        }
        Command::Backup(command) => return backups(command, &config),
        Command::Debug(command) => debug::run(command, &config.settings)?,
        Command::Status(args) => with_client(&config, async |client| status::run(args, &client).await)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn backups(command: backup::BackupCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let settings = &config.settings;
    match command {
        backup::BackupCommand::Create(args) => {
            with_client(config, async |client| backup::create(args, settings, &client).await)?;
        }
        backup::BackupCommand::List { target, json } => without_client(backup::list(&target, json, settings))?,
        backup::BackupCommand::Verify(args) => without_client(backup::verify(args, settings))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs what needs no masters, until it is done or a signal comes.
fn without_client<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => result,
            interrupted = interrupted() => Err(interrupted.into()),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Connects to the masters of the configuration and runs `work`.
fn with_client<T>(config: &Config, work: impl AsyncFnOnce(Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    with_client_of(client_config(config), work)
}

fn with_client_of<T>(settings: ClientConfig, work: impl AsyncFnOnce(Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let client = Client::connect(settings).await?;
        let (tell, told) = oneshot::channel();
        tokio::spawn(end_on_signal(tell));
        let result = tokio::select! {
            result = work(client.clone()) => result,
            Ok(interrupted) = told => Err(interrupted.into()),
        };
        if result.is_err() {
            // What was being written is abandoned; who tries again must not wait until its lease ends.
            let _ = tokio::time::timeout(SETTLE_MAX, client.settled()).await;
        }
        result
    });
    // A blocking read of standard input or a dead disk must not keep a finished command.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// How long a command that failed or was interrupted waits for the masters to learn it.
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
        direct_reads: client.direct_reads,
        buffer_memory: client.memory_limit,
        read_ahead_max: client.read_ahead_max,
        read_type: match client.read_type {
            config::ReadType::Cache => ReadType::Cache,
            config::ReadType::CachePromote => ReadType::CachePromote,
            config::ReadType::NoCache => ReadType::NoCache,
        },
        parts_in_flight_max: client.parts_in_flight.max(1) as usize,
        connections_per_worker_max: client.connections_per_worker.max(1) as usize,
        local_files_max: client.local_files as usize,
        on_wait: waiting::observer(),
        deadlines: Deadlines {
            connect: client.deadline.0.min(client.connect_timeout.0),
            metadata: client.deadline.0,
            read: client.deadline.0,
            write: client.deadline.0,
            worker_silence: client.read_timeout.0,
            ..Deadlines::default()
        },
        ..ClientConfig::new(config.settings.masters.iter().cloned())
    }
}
