//! Making directories: first in the store, so that they stay when they are empty, then in the namespace.

use crate::core::{Core, parse_path};
use crate::error::{Result, internal, store_error};
use crate::mounts::Mounted;
use crate::ops::entry::entry;
use crate::ops::wait;
use crate::sync::{Located, locate};
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::command::MakeDirectory;
use forebay_namespace::{Payload, Request};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use std::sync::Arc;

pub(crate) async fn make_directory(
    core: Arc<Core>,
    id: Request,
    request: v1::MakeDirectoryRequest,
) -> Result<v1::MakeDirectoryReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(&path, reply?);
    }
    let _guard = core.locks.lock(vec![path.clone()]).await;
    let mount = core.mount_of(&path);
    if let Some((mount, _)) = &mount {
        wait::until_free(&core, mount, &path).await?;
    }
    let located = locate(&core, &path, SyncMode::ByInterval).await?;
    let absent = located.resolved.found().is_none();
    if let (Some((mount, key)), true) = (&mount, absent) {
        mount.check_writable(&path)?;
        mount.check_name(&path)?;
        check_parents(&core, mount, &path, &located, request.parents).await?;
        mount.store()?.make_directory(key).await.map_err(store_error)?;
    }
    let command = MakeDirectory {
        path: path.to_bytes(),
        parents: request.parents,
        owner: request.owner,
        group: request.group,
        mode: request.mode,
        loaded: absent,
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
