//! The log: lines on standard error, as text or JSON.

use crate::config::{LogFormat, LogSettings};
use anyhow::anyhow;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. A filter that cannot be read is an error that names it.
pub(crate) fn init(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(directives(&settings.level)).map_err(|error| {
        anyhow!("bad value for log.level: {:?}: {error}; write error, warn, info, debug or trace", settings.level)
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let result = match settings.format {
        LogFormat::Text => builder.with_target(true).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| anyhow!("cannot start the log: {error}"))
}

/// A plain `info` is about Forebay: the consensus library's own lines at that level are for its developers.
fn directives(level: &str) -> String {
    if level.trim().eq_ignore_ascii_case("info") { "info,openraft=error".to_owned() } else { level.to_owned() }
}
