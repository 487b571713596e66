//! Making directories: first in the store, so that they stay when they are empty, then in the namespace.
//!
//! After a crash between the two, a comparison may find what the request has made before the request is repeated. So that it is not told that
//! the directory exists, it is noted that the request has begun.

use crate::core::{Core, parse_path};
use crate::error::{Result, internal, store_error};
use crate::freshness::SyncInterval;
use crate::mounts::Mounted;
use crate::ops::entry::entry;
use crate::ops::wait;
use crate::sync::{Located, locate};
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::command::{BeginRequest, MakeDirectory};
use forebay_namespace::{Payload, Request};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use std::sync::Arc;
use tokio::time::Instant;

pub(crate) async fn make_directory(
    core: Arc<Core>,
    id: Request,
    request: v1::MakeDirectoryRequest,
) -> Result<v1::MakeDirectoryReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(&path, reply?);
    }
    let mount = core.mount_of(&path);
    let deadline = Instant::now() + core.settings.blocked_wait;
    let _guard = wait::lock_free(&core, mount.as_ref().map(|(mount, _)| &**mount), &[&path], deadline).await?;
    let mut begun = core.has_begun(&id).await?;
    let located = locate(&core, &path, SyncMode::ByInterval).await?;
    let absent = located.resolved.found().is_none();
    // What was compared a while ago may be there by now.
    let is_known_for_ever = mount.as_ref().is_none_or(|(mount, _)| mount.interval() == SyncInterval::Never);
    if let (Some((mount, key)), true) = (&mount, absent) {
        mount.check_writable(&path)?;
        mount.check_name(&path)?;
        check_parents(&core, mount, &path, &located, request.parents).await?;
        // An existing one is no error with `parents`: whose doing it is does not matter then.
        if !begun && !request.parents {
            core.propose_for(id, BeginRequest {}).await?;
            begun = true;
        }
        core.still_leads().await?;
        mount.store()?.make_directory(key).await.map_err(store_error)?;
        crate::fault::point("mkdir: made, not committed")?;
    }
    let command = MakeDirectory {
        path: path.to_bytes(),
        parents: request.parents,
        owner: request.owner,
        group: request.group,
        mode: request.mode,
        begun,
        loaded: absent && (located.asked || is_known_for_ever),
    };
    reply_of(&path, core.propose_for(id, command).await?)
}

/// Refuses what the namespace would refuse, before the store is touched; loads parents that only the store knows.
pub(crate) async fn check_parents(
    core: &Arc<Core>,
    mount: &Mounted,
    path: &NsPath,
    located: &Located,
    make: bool,
) -> Result<()> {
    let deepest = located.resolved.deepest();
    if located.resolved.missing > 0 && !deepest.inode.is_directory() {
        return Err(WireError::new(ErrorKind::NotADirectory, format!("a file is on the way to {path}")));
    }
    if make || located.resolved.missing <= 1 {
        return Ok(());
    }
    let parent = path.parent().unwrap_or_else(NsPath::root);
    let missing = || {
        WireError::new(ErrorKind::NotFound, format!("the directory {parent} does not exist"))
            .with_hint("make it first, or ask for parents to be made")
    };
    if !parent.starts_with(&mount.path) {
        return Err(missing());
    }
    let located = locate(core, &parent, SyncMode::ByInterval).await?;
    match located.resolved.found() {
        Some(step) if step.inode.is_directory() => Ok(()),
        Some(_) => Err(WireError::new(ErrorKind::NotADirectory, format!("{parent} is a file"))),
        None => Err(missing()),
    }
}

fn reply_of(path: &NsPath, payload: Payload) -> Result<v1::MakeDirectoryReply> {
    let Payload::Inode(reply) = payload else {
        return Err(internal(format!("make directory was answered {payload:?}")));
    };
    let mount = (reply.mount != 0).then_some(MountId(reply.mount));
    Ok(v1::MakeDirectoryReply { entry: Some(entry(&reply.inode, path.to_bytes(), mount, false)) })
}
