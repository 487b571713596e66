//! `forebay config show|check`.

use crate::cli::output;
use crate::config::{self, Config};
use clap::Subcommand;

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
    Check,
    /// Prints docs/configuration.md.
    #[command(hide = true)]
    Document,
}

/// Runs the command. Loading has checked the configuration already: `check` has only good news left.
pub(crate) fn run(command: ConfigCommand, config: &Config) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show { json: true } => output::line(serde_json::to_string_pretty(&as_json(config)?)?),
        ConfigCommand::Show { json: false } => show(config)?,
        ConfigCommand::Check => {
            let file = config.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
            config.unknown_variables.iter().for_each(|unknown| eprintln!("warning: {unknown}"));
            output::line(format_args!("configuration is good ({file}, {} settings set)", config.sources.len()));
        }
        ConfigCommand::Document => output::line(config::document().trim_end()),
    }
    Ok(())
}

/// Key, value as TOML, source.
fn rows(config: &Config) -> anyhow::Result<Vec<(String, toml::Value, String)>> {
    let values = toml::Value::try_from(&config.settings)?;
    let mut rows = Vec::new();
    for key in config::key_names() {
        let value = key.split('.').try_fold(&values, |value, name| value.get(name));
        let value = value.cloned().unwrap_or_else(|| toml::Value::Array(Vec::new()));
        let source = config.source(&key).to_string();
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
    let entries =
        rows.into_iter().map(|(key, value, source)| (key, serde_json::json!({ "value": value, "source": source })));
    Ok(serde_json::Value::Object(entries.collect()))
}
