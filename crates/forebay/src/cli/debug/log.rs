//! `forebay debug log`: the entries of the log.

use super::{Place, log_error};
use crate::cli::output;
use crate::config::Settings;
use clap::Args;
use forebay_consensus::{LogEntry, LogEntryKind, inspect_log};
use forebay_namespace::Command;
use prost::Message;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Characters of a command on a line of text.
const DETAIL_MAX: usize = 160;

/// The entries of the log, oldest first.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Begins with this entry.
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    from: u64,
    /// Shows so many entries at most.
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// Shows the last N entries; where the log is damaged, the last ones before that.
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "limit"])]
    last: Option<usize>,
    #[command(flatten)]
    place: Place,
}

/// Shows them; what the files are like comes last.
pub(super) fn run(args: &Log, settings: &Settings) -> anyhow::Result<()> {
    let directory = args.place.directory(settings)?.join("log");
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut newest = VecDeque::new();
    let outcome = inspect_log(&directory, args.from, |entry| {
        if left == 0 {
            return false;
        }
        left -= 1;
        match args.last {
            None => show(&entry, args.place.json),
            Some(last) => {
                newest.push_back(entry);
                if newest.len() > last {
                    newest.pop_front();
                }
            }
        }
        left > 0
    });
    newest.iter().for_each(|entry| show(entry, args.place.json));
    let files = outcome.map_err(log_error)?;
    if !args.place.json {
        for file in files {
            let torn = match file.torn_bytes {
                0 => String::new(),
                bytes => format!(", {bytes} bytes at its end are no whole record: on their way, or torn by a crash"),
            };
            let (first, next) = (file.first_index, file.next_index);
            output::line(format_args!(
                "{}: entries from {first} to before {next}, {} bytes{torn}",
                file.path.display(),
                file.bytes
            ));
        }
    }
    Ok(())
}

fn show(entry: &LogEntry, as_json: bool) {
    match as_json {
        true => output::line(to_json(entry)),
        false => output::line(line_of(entry)),
    }
}

/// The command of an entry: its name and all of it. One that cannot be read is told so.
fn described(entry: &LogEntry) -> (Option<Command>, String) {
    match entry.kind {
        LogEntryKind::Blank => (None, String::new()),
        LogEntryKind::Members => (None, String::from_utf8_lossy(&entry.payload).into_owned()),
        LogEntryKind::Command => match Command::decode(entry.payload.clone()) {
            Ok(command) => {
                let detail = command
                    .action
                    .as_ref()
                    .map_or("an action of a newer version".to_owned(), |action| format!("{action:?}"));
                (Some(command), detail)
            }
            Err(error) => (None, format!("a command that cannot be read: {error}")),
        },
    }
}

fn kind_of(entry: &LogEntry) -> &'static str {
    match entry.kind {
        LogEntryKind::Blank => "blank",
        LogEntryKind::Command => "command",
        LogEntryKind::Members => "members",
    }
}

fn line_of(entry: &LogEntry) -> String {
    let (_, detail) = described(entry);
    let mut line = format!("{} term {} {}", entry.index, entry.term, kind_of(entry));
    if !detail.is_empty() {
        let cut: String = output::printable(&detail).chars().take(DETAIL_MAX).collect();
        line += &format!(" {cut}");
    }
    line
}

fn to_json(entry: &LogEntry) -> Value {
    let (command, detail) = described(entry);
    let action = detail.split_once('(').map(|(name, _)| name).filter(|_| command.is_some());
    let request = command.as_ref().and_then(|command| command.request);
    json!({
        "index": entry.index,
        "term": entry.term,
        "kind": kind_of(entry),
        "bytes": entry.payload.len(),
        "time_ms": command.as_ref().map(|command| command.time_ms),
        "client": request.map(|request| format!("{:016x}", request.client)),
        "sequence": request.map(|request| request.sequence),
        "action": action,
        "detail": detail,
    })
}
