//! What lies below a path.

use crate::core::{Core, parse_path};
use crate::error::Result;
use crate::ops::open::found;
use crate::ops::tree::Walk;
use crate::sync::locate;
use forebay_namespace::Inode;
use forebay_proto::v1;
use std::sync::Arc;

pub(crate) async fn content_summary(
    core: &Arc<Core>,
    request: v1::ContentSummaryRequest,
) -> Result<v1::ContentSummaryReply> {
    let path = parse_path(&request.path)?;
    let located = locate(core, &path, request.sync()).await?;
    let top = found(&located, &path)?.clone();
    drop(located);
    let mut summary = v1::ContentSummaryReply::default();
    add(&mut summary, &top);
    if top.is_directory() {
        let mut walk = Walk::new(core, path, top, request.sync());
        while let Some(batch) = walk.next().await? {
            let inodes = batch.entries.iter().map(|(_, inode)| inode);
            inodes.for_each(|inode| add(&mut summary, inode));
        }
    }
    Ok(summary)
}

fn add(summary: &mut v1::ContentSummaryReply, inode: &Inode) {
    if inode.is_directory() {
        summary.directories += 1;
    } else {
        summary.files += 1;
        summary.length += inode.length;
    }
}
