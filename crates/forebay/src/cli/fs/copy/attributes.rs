//! What a move keeps of a file or directory besides its bytes and its time.

use super::{source::Source, target::Target};
use forebay_client::{AttributeChanges, Client, Entry, StatOptions, SyncMode};
use std::{fs::Metadata, os::unix::fs::MetadataExt};

/// Who it belongs to, and who may use it.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    /// Empty: unknown. Local owners are numbers of one machine, which say nothing elsewhere.
    pub(super) owner: String,
    pub(super) group: String,
    pub(super) mode: Option<u32>,
}

impl Attributes {
    pub(super) fn of_entry(entry: &Entry) -> Attributes {
        Attributes { owner: entry.owner.clone(), group: entry.group.clone(), mode: Some(entry.mode) }
    }

    pub(super) fn of_local(metadata: &Metadata) -> Attributes {
        Attributes { mode: Some(metadata.mode() & 0o777), ..Attributes::default() }
    }
}

/// Gives what was moved within the tree the extended attributes that its source has.
pub(super) async fn move_xattrs(client: &Client, from: &Source, to: &Target) -> anyhow::Result<()> {
    let (Source::Tree(from), Target::Tree { path, .. }) = (from, to) else { return Ok(()) };
    // Just now the store was asked.
    let known = StatOptions { sync: SyncMode::Never, with_xattrs: true };
    let set_xattrs = client.stat_with(from, known).await?.xattrs;
    if !set_xattrs.is_empty() {
        client.set_attributes(path, AttributeChanges { set_xattrs, ..AttributeChanges::default() }).await?;
    }
    Ok(())
}
