//! `forebay fs stat`.

use super::{Staleness, expand_all, explain, sync_mode};
use crate::cli::{failure::Failures, output};
use clap::Args;
use forebay_base::ByteSize;
use forebay_client::{Client, Entry, StatOptions};
use std::ffi::OsString;

/// Shows all attributes.
#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// Paths of the tree; patterns are allowed.
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Asks the store now, whatever the mount's sync interval.
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    pub(super) staleness: Staleness,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: Stat, client: &Client) -> anyhow::Result<()> {
    let failures = Failures::default();
    for path in expand_all(client, &args.paths, &failures).await {
        let options = StatOptions { sync: sync_mode(args.sync), with_xattrs: true };
        let entry = explain(client, &path, client.stat_with(&path, options).await).await;
        match failures.take(entry) {
            Some(entry) if args.json => output::line(output::entry_json(&entry)),
            Some(entry) => print(&entry),
            None => {}
        }
    }
    failures.end()
}

fn print(entry: &Entry) {
    let row = |name: &str, value: &dyn std::fmt::Display| {
        output::line(format_args!("{name:>12}: {}", output::printable(&value.to_string())));
    };
    output::named_line(format_args!("{:>12}: ", "path"), entry.path.as_bytes(), "");
    row("kind", &if entry.is_directory() { "directory" } else { "file" });
    if entry.is_file() {
        row("length", &format!("{} ({})", entry.length, ByteSize(entry.length)));
        row("state", &state(entry));
        row("version", &entry.version);
        row("version tag", &entry.version_tag);
        row("block size", &ByteSize(entry.block_size));
        row("page size", &ByteSize(entry.page_size.into()));
    }
    row("mode", &format!("{} ({:04o})", output::mode(entry), entry.mode));
    row("owner", &format!("{}:{}", output::or_dash(&entry.owner), output::or_dash(&entry.group)));
    row("modified", &output::time(entry.modified));
    let accessed = Some(entry.accessed).filter(|time| time.0 > 0).map(output::time);
    row("accessed", &output::or_dash(accessed.as_deref().unwrap_or_default()));
    row("changed", &output::time(entry.changed));
    row("inode", &entry.inode);
    row("mount", &format!("{}{}", entry.mount, if entry.mount_point { " (mounted here)" } else { "" }));
    for xattr in &entry.xattrs {
        let value = String::from_utf8_lossy(&xattr.value).into_owned();
        row("xattr", &format!("{}={value:?}", String::from_utf8_lossy(&xattr.name)));
    }
}

fn state(entry: &Entry) -> &'static str {
    match (entry.complete, entry.persisted) {
        (false, _) => "being written",
        (true, true) => "persisted",
        (true, false) => "not persisted",
    }
}
