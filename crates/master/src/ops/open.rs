//! Stat and open.

use crate::core::{Core, parse_path};
use crate::error::{Result, not_found};
use crate::ops::entry::entry;
use crate::ops::tickets;
use crate::sync::{Located, locate};
use forebay_base::{ErrorKind, NsPath};
use forebay_namespace::Inode;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::sync::Arc;

pub(crate) async fn stat(core: &Arc<Core>, request: v1::StatRequest) -> Result<v1::StatReply> {
    let path = parse_path(&request.path)?;
    let located = locate(core, &path, request.sync()).await?;
    let inode = found(&located, &path)?;
    Ok(v1::StatReply { entry: Some(entry(inode, path.to_bytes(), located.resolved.mount(), request.with_xattrs)) })
}

pub(crate) async fn open(core: &Arc<Core>, request: v1::OpenRequest) -> Result<v1::OpenReply> {
    let path = parse_path(&request.path)?;
    let located = locate(core, &path, request.sync()).await?;
    let inode = found(&located, &path)?;
    if inode.is_directory() {
        return Err(WireError::new(ErrorKind::IsADirectory, format!("{path} is a directory")));
    }
    let (mount, key) = match &located.mount {
        Some((mount, key)) => (mount.record.id, key.clone()),
        None => (0, bytes::Bytes::new()),
    };
    let signed = tickets::for_reading(core, inode, mount, key);
    Ok(v1::OpenReply {
        entry: Some(entry(inode, path.to_bytes(), located.resolved.mount(), false)),
        ticket: signed.ticket,
        ticket_expires_ms: signed.expires_ms,
        workers_epoch: core.registry.epoch(),
    })
}

/// The inode of a path; says what is there instead.
pub(crate) fn found<'a>(located: &'a Located, path: &NsPath) -> Result<&'a Inode> {
    if let Some(step) = located.resolved.found() {
        return Ok(&step.inode);
    }
    let deepest = located.resolved.deepest();
    if deepest.inode.is_directory() {
        return Err(not_found(path));
    }
    let file = path.ancestors_and_self().nth(located.resolved.steps.len() - 1).unwrap_or_else(NsPath::root);
    Err(WireError::new(ErrorKind::NotADirectory, format!("{file} is a file, so there is no {path}")))
}
