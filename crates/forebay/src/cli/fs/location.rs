//! `forebay fs location`.

use super::{Staleness, expand_all, explain};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::ByteSize;
use forebay_client::{Client, Location as Held};
use serde_json::json;
use std::ffi::OsString;

/// Shows which workers hold which parts.
#[derive(Debug, Args)]
pub(crate) struct Location {
    /// Files of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object a file.
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: Location, client: &Client) -> anyhow::Result<()> {
    let failures = Failures::default();
    for path in expand_all(client, &args.paths, &failures).await {
        let held = explain(client, &path, client.location(&path).await).await;
        let Some(held) = failures.take(held) else { continue };
        if args.json {
            let mut value = output::path_json(&path);
            output::merge(&mut value, json!({ "workers": held.iter().map(held_json).collect::<Vec<_>>() }));
            output::line(value);
            continue;
        }
        output::named_line("", path.as_bytes(), ":");
        for Held { worker, ranges } in &held {
            for range in ranges {
                let (offset, end) = (range.offset, range.offset + range.length);
                let tier = &range.tier;
                output::line(format_args!("  {} {tier:4} {offset}..{end} ({})", worker.data, ByteSize(range.length)));
            }
        }
        if held.iter().all(|held| held.ranges.is_empty()) {
            output::line("  not cached");
        }
    }
    failures.end()
}

fn held_json(held: &Held) -> serde_json::Value {
    let ranges = held.ranges.iter().map(|r| json!({ "offset": r.offset, "length": r.length, "tier": r.tier }));
    json!({ "worker": format!("{:016x}", held.worker.id.0), "address": held.worker.data, "ranges": ranges.collect::<Vec<_>>() })
}
