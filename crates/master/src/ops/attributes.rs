//! Changing attributes: of one path, or of all below it in batches. They are the namespace's alone; no store is touched.

use crate::core::{Core, parse_path};
use crate::error::{Refused, Result, internal, invalid};
use crate::ops::entry::entry;
use crate::ops::open::found;
use crate::ops::tree::{Batch, Walk};
use crate::sync::locate;
use forebay_base::{MountId, NsPath};
use forebay_namespace::command::{AttributeChanges, SetAttributes, Target};
use forebay_namespace::record::Xattr;
use forebay_namespace::{BATCH_MAX, Payload, Request};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use std::sync::Arc;

pub(crate) async fn set_attributes(
    core: Arc<Core>,
    id: Request,
    request: v1::SetAttributesRequest,
) -> Result<v1::SetAttributesReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(&path, reply?);
    }
    let located = locate(&core, &path, SyncMode::ByInterval).await?;
    let top = found(&located.resolved, &path)?.clone();
    drop(located);
    let recursive = request.recursive;
    let changes = changes(request)?;
    if recursive && top.is_directory() {
        let mut walk = Walk::new(&core, path.clone(), top, SyncMode::ByInterval);
        while let Some(batch) = walk.next().await? {
            change_batch(&core, batch, &changes).await?;
        }
    }
    // Last, so that the request's reply says that all of it is done.
    let command = SetAttributes { path: path.to_bytes(), targets: Vec::new(), changes };
    reply_of(&path, core.propose_for(id, command).await?)
}

async fn change_batch(core: &Core, batch: Batch, changes: &AttributeChanges) -> Result<()> {
    let parent = batch.directory.id;
    let targets: Vec<Target> = batch
        .entries
        .into_iter()
        .map(|(name, inode)| Target { parent, name: name.to_bytes(), inode: inode.id })
        .collect();
    for part in targets.chunks(BATCH_MAX) {
        let command = SetAttributes { path: bytes::Bytes::new(), targets: part.to_vec(), changes: changes.clone() };
        core.propose(command).await?;
    }
    Ok(())
}

fn changes(request: v1::SetAttributesRequest) -> Result<AttributeChanges> {
    if let Some(mode) = request.mode.filter(|mode| *mode > 0o7777) {
        return Err(invalid(format!("mode {mode:o} has bits beyond the permissions"), "give at most 7777"));
    }
    let changes = AttributeChanges {
        owner: request.owner,
        group: request.group,
        mode: request.mode,
        modified_ms: request.modified_ms,
        accessed_ms: request.accessed_ms,
        set_xattrs: request
            .set_xattrs
            .into_iter()
            .map(|xattr| Xattr { name: xattr.name, value: xattr.value })
            .collect(),
        remove_xattrs: request.remove_xattrs,
    };
    changes.check().map_err(Refused::from).map_err(WireError::from)?;
    Ok(changes)
}

fn reply_of(path: &NsPath, payload: Payload) -> Result<v1::SetAttributesReply> {
    let Payload::Inode(reply) = payload else {
        return Err(internal(format!("set attributes was answered {payload:?}")));
    };
    let mount = (reply.mount != 0).then_some(MountId(reply.mount));
    Ok(v1::SetAttributesReply { entry: Some(entry(&reply.inode, path.to_bytes(), mount, true)) })
}
