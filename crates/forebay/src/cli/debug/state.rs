//! `forebay debug state`: what the state has.

use super::{Place, apply_error};
use crate::cli::output;
use crate::config::Settings;
use clap::Args;
use forebay_base::{ByteSize, TimestampMs};
use forebay_namespace::census::{Census, KindCount, census};
use serde_json::json;

/// What the state has, by kind; reads all of it.
#[derive(Debug, Args)]
pub(crate) struct State {
    #[command(flatten)]
    place: Place,
}

/// Reads every row and shows how many there are.
pub(super) fn run(args: &State, settings: &Settings) -> anyhow::Result<()> {
    let state = args.place.state(settings)?;
    let position = state.position()?;
    let Census { summary, kinds, digest } = census(state.read()).map_err(apply_error)?;
    let (term, index) = (position.map(|at| at.term), position.map(|at| at.index));
    if args.place.json {
        output::line(json!({
            "term": term,
            "index": index,
            "inodes": summary.inodes,
            "trash_entries": summary.trash_entries,
            "writes": summary.writes,
            "rename_intents": summary.rename_intents,
            "log_time_ms": summary.log_time_ms,
            "cluster_version": summary.cluster_version,
            "digest": format!("{digest:08x}"),
            "kinds": kinds.iter().map(|kind| json!({
                "kind": kind.kind.to_string(), "what": kind.what, "rows": kind.rows,
                "key_bytes": kind.key_bytes, "value_bytes": kind.value_bytes,
            })).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    let at = index
        .map_or("before the first entry".to_owned(), |index| format!("at entry {index} of term {}", term.unwrap_or(0)));
    output::line(format_args!("state on disk {at}, log time {}", output::time(TimestampMs(summary.log_time_ms))));
    output::line(format_args!(
        "  {} inodes, {} deletes, {} writes and {} renames under way",
        summary.inodes, summary.trash_entries, summary.writes, summary.rename_intents
    ));
    output::line(format_args!("  cluster version {}, digest {digest:08x}", summary.cluster_version));
    kinds.iter().for_each(|kind| output::line(line_of(kind)));
    Ok(())
}

fn line_of(kind: &KindCount) -> String {
    let KindCount { kind, what, rows, key_bytes, value_bytes } = kind;
    format!("  {kind} {rows} rows, {} of keys, {} of values: {what}", ByteSize(*key_bytes), ByteSize(*value_bytes))
}
