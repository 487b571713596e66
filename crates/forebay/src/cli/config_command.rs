//! `forebay config show|check`.

use crate::cli::{failure, output};
use crate::config::{self, Config};
use crate::server;
use clap::Subcommand;
use serde_json::json;
use std::process::ExitCode;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints the effective settings and where each comes from.
    Show {
        /// As one JSON object: key to value and source.
        #[arg(long)]
        json: bool,
    },
    /// Checks file, environment and flags; every mistake is printed.
    Check {
        /// As one JSON object; mistakes as one each, on standard error.
        #[arg(long)]
        json: bool,
    },
    /// Prints docs/configuration.md.
    #[command(hide = true)]
    Document,
}

/// Runs the command. Loading has checked the configuration already: `check` looks at what only keeps a server from starting, and else has only good news left.
pub(crate) fn run(command: ConfigCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let (mut refused, mut notes) = (Vec::new(), config.notes.clone());
    if let ConfigCommand::Check { .. } = command {
        refused = config.keeps_server_from_starting();
        if !config.is_of_server() {
            notes.extend(refused.drain(..).map(|error| format!("a server does not start with it: {error}")));
        }
    }
    match command {
        ConfigCommand::Show { json: true } => output::line(serde_json::to_string_pretty(&as_json(config)?)?),
        ConfigCommand::Show { json: false } => show(config)?,
        ConfigCommand::Check { .. } if !refused.is_empty() => {
            return Ok(failure::wrong_configuration(&refused));
        }
        ConfigCommand::Check { json: true } => {
            let warnings: Vec<_> = config.unknown_variables.iter().map(ToString::to_string).collect();
            let file = config.file.as_ref().map(|file| file.to_string_lossy());
            output::line(
                json!({ "good": true, "file": file, "settings": config.sources.len(), "warnings": warnings, "notes": notes }),
            );
        }
        ConfigCommand::Check { json: false } => {
            let file = config.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
            config.unknown_variables.iter().for_each(|unknown| eprintln!("warning: {unknown}"));
            notes.iter().for_each(|note| eprintln!("note: {note}"));
            output::line(format_args!("configuration is good ({file}, {} settings set)", config.sources.len()));
        }
        ConfigCommand::Document => output::line(config::document().trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Key, value as TOML, source.
fn rows(config: &Config) -> anyhow::Result<Vec<(String, toml::Value, String)>> {
    let mut settings = config.settings.clone();
    let default_tiers = settings.worker.tiers.is_empty();
    settings.worker.tiers = server::planned_tiers(&settings);
    let values = toml::Value::try_from(&settings)?;
    let mut rows = Vec::new();
    for key in config::key_names() {
        let value = key.split('.').try_fold(&values, |value, name| value.get(name));
        let value = value.cloned().unwrap_or_else(|| toml::Value::Array(Vec::new()));
        let source = match default_tiers && key == "worker.tiers" {
            true => server::default_tiers_in_words(),
            false => config.source(&key).to_string(),
        };
        rows.push((key, value, source));
    }
    Ok(rows)
}

fn show(config: &Config) -> anyhow::Result<()> {
    let rows: Vec<_> =
        rows(config)?.into_iter().map(|(key, value, source)| (format!("{key} = {value}"), source)).collect();
    let width = rows.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0).min(60);
    for (text, source) in rows {
        output::line(format_args!("{text:width$}  # {source}"));
    }
    Ok(())
}

fn as_json(config: &Config) -> anyhow::Result<serde_json::Value> {
    let rows = rows(config)?;
    let entries = rows.into_iter().map(|(key, value, source)| (key, json!({ "value": value, "source": source })));
    Ok(serde_json::Value::Object(entries.collect()))
}
