//! Stat and open.

use crate::core::{Core, parse_path};
use crate::error::{Result, not_found};
use crate::ops::entry::entry;
use crate::ops::tickets::{self, Signed};
use crate::sync::locate;
use forebay_base::{ErrorKind, NsPath};
use forebay_namespace::Inode;
use forebay_namespace::query::Resolved;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::sync::Arc;

pub(crate) async fn stat(core: &Arc<Core>, request: v1::StatRequest) -> Result<v1::StatReply> {
    let path = parse_path(&request.path)?;
    let located = locate(core, &path, request.sync()).await?;
    let inode = found(&located.resolved, &path)?;
    Ok(stat_reply(&located.resolved, inode, &path, &request))
}

/// Without the index.
pub(crate) fn stat_reply(
    resolved: &Resolved,
    inode: &Inode,
    path: &NsPath,
    request: &v1::StatRequest,
) -> v1::StatReply {
    let entry = entry(inode, path.to_bytes(), resolved.mount(), request.with_xattrs);
    v1::StatReply { entry: Some(entry), index: 0 }
}

pub(crate) async fn open(core: &Arc<Core>, request: v1::OpenRequest) -> Result<v1::OpenReply> {
    let path = parse_path(&request.path)?;
    let located = locate(core, &path, request.sync()).await?;
    let inode = found_file(&located.resolved, &path)?;
    let (mount, key) = match &located.mount {
        Some((mount, key)) => (mount.record.id, key.clone()),
        None => (0, bytes::Bytes::new()),
    };
    let signed = tickets::for_reading(&core.settings, &core.keys, inode, mount, key);
    let reply = open_reply(&located.resolved, inode, &path, signed);
    Ok(v1::OpenReply { workers_epoch: core.registry.epoch(), ..reply })
}

/// Without what the caller alone knows: the index, and the workers.
pub(crate) fn open_reply(resolved: &Resolved, inode: &Inode, path: &NsPath, signed: Signed) -> v1::OpenReply {
    v1::OpenReply {
        entry: Some(entry(inode, path.to_bytes(), resolved.mount(), false)),
        ticket: signed.ticket,
        ticket_expires_ms: signed.expires_ms,
        ..v1::OpenReply::default()
    }
}

/// As [`found`], of a file.
pub(crate) fn found_file<'a>(resolved: &'a Resolved, path: &NsPath) -> Result<&'a Inode> {
    let inode = found(resolved, path)?;
    match inode.is_directory() {
        true => Err(WireError::new(ErrorKind::IsADirectory, format!("{path} is a directory"))),
        false => Ok(inode),
    }
}

/// The inode of a path; says what is there instead.
pub(crate) fn found<'a>(resolved: &'a Resolved, path: &NsPath) -> Result<&'a Inode> {
    if let Some(step) = resolved.found() {
        return Ok(&step.inode);
    }
    let deepest = resolved.deepest();
    if deepest.inode.is_directory() {
        return Err(not_found(path));
    }
    let file = path.ancestors_and_self().nth(resolved.steps.len() - 1).unwrap_or_else(NsPath::root);
    Err(WireError::new(ErrorKind::NotADirectory, format!("{file} is a file, so there is no {path}")))
}
