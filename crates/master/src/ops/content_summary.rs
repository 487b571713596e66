//! What lies below a path.

use crate::core::{Core, parse_path};
use crate::error::Result;
use crate::ops::open::found;
use crate::ops::tree::{Source, Walk};
use crate::sync::locate;
use forebay_base::NsPath;
use forebay_namespace::Inode;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use std::sync::Arc;

pub(crate) async fn content_summary(
    core: &Arc<Core>,
    request: v1::ContentSummaryRequest,
) -> Result<v1::ContentSummaryReply> {
    let path = parse_path(&request.path)?;
    let located = locate(core, &path, request.sync()).await?;
    let top = found(&located.resolved, &path)?.clone();
    drop(located);
    sum(core, path, top, request.sync()).await
}

/// All at and below `top`, without the index.
pub(crate) async fn sum<S: Source + Clone>(
    source: &S,
    path: NsPath,
    top: Inode,
    mode: SyncMode,
) -> Result<v1::ContentSummaryReply> {
    let mut summary = v1::ContentSummaryReply::default();
    add(&mut summary, &top);
    if top.is_directory() {
        let mut walk = Walk::new(source, path, top, mode);
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
