//! Deleting: one command for the caller; the store's objects and the inodes go in the background.

use crate::core::{Core, parse_path};
use crate::error::{Result, internal};
use crate::ops::open::found;
use crate::ops::wait;
use crate::sync::{load_entries, locate};
use forebay_namespace::command::Delete;
use forebay_namespace::{Payload, Request};
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use std::sync::Arc;
use std::time::Instant;

pub(crate) async fn delete(core: Arc<Core>, id: Request, request: v1::DeleteRequest) -> Result<v1::DeleteReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(&core, reply?);
    }
    let mount = core.mount_of(&path).map(|(mount, _)| mount);
    if let (Some(mount), false) = (&mount, request.namespace_only) {
        mount.check_writable(&path)?;
    }
    let deadline = tokio::time::Instant::now() + core.settings.blocked_wait;
    let _guard = wait::lock_free(&core, mount.as_deref(), &[&path], deadline).await?;
    let mode = match (request.namespace_only, request.expected_inode) {
        (true, _) => SyncMode::Never,
        (false, 0) => SyncMode::ByInterval,
        // Which version there is, or that a directory is empty, is the store's to say, and a minute-old answer will not do.
        (false, _) => SyncMode::Now,
    };
    let located = locate(&core, &path, mode).await?;
    if found(&located.resolved, &path)?.is_directory() && !request.recursive {
        // Whether it is empty is the store's to say.
        load_entries(&core, &path, &located, mode).await?;
    }
    drop(located);
    let command = Delete {
        path: path.to_bytes(),
        recursive: request.recursive,
        namespace_only: request.namespace_only,
        expected_inode: request.expected_inode,
        expected_version: request.expected_version,
    };
    let reply = reply_of(&core, core.propose_for(id, command).await?)?;
    if request.namespace_only
        && let Some((mount, _)) = core.mount_of(&path)
    {
        // Loaded again when asked for: nothing there counts as compared.
        core.freshness.forget_mount(mount.id(), Instant::now());
    }
    Ok(reply)
}

fn reply_of(core: &Core, payload: Payload) -> Result<v1::DeleteReply> {
    let Payload::Deleted(deleted) = payload else {
        return Err(internal(format!("delete was answered {payload:?}")));
    };
    core.work.trash.notify_one();
    if deleted.abandoned.is_some() {
        core.work.uploads.notify_one();
    }
    Ok(v1::DeleteReply {})
}
