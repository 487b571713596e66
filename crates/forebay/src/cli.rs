//! The command line: `forebay NOUN VERB`.

use crate::config::{self, Config, Flags};
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

mod config_command;

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
    /// Shows or checks the configuration.
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
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
        Ok(config) => dispatch(cli.command, config),
        Err(errors) => {
            for error in &errors {
                eprintln!("error: {error}");
            }
            ExitCode::from(2)
        }
    }
}

fn dispatch(command: Command, config: Config) -> ExitCode {
    let result = match command {
        Command::Server => crate::server::run(config),
        Command::Config(command) => config_command::run(command, &config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
