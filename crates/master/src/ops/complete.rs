//! Ending a write: first the store has the object, then the namespace says so.
//!
//! A master that dies between the two leaves the write in the state; the client's repeated request finds that the
//! store has completed the upload already, and commits.

use crate::core::Core;
use crate::error::{Result, internal, invalid, state_error, store_error};
use crate::mounts::Mounted;
use crate::ops::create::{find, mount_of};
use crate::ops::entry::entry;
use forebay_base::{ErrorKind, MountId, NsPath, VersionTag};
use forebay_namespace::command::{AbandonWrite, CompleteFile};
use forebay_namespace::{Payload, Request, Write, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_ufs::{ObjectMeta, PutCondition, UfsError, UploadId, UploadedPart};
use std::sync::Arc;
use std::time::Instant;

pub(crate) async fn complete(core: Arc<Core>, id: Request, request: v1::CompleteRequest) -> Result<v1::CompleteReply> {
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(None, reply?);
    }
    let write = find(&core, request.write).await?;
    let mount = mount_of(&core, &write)?;
    let path = path_of(&core, &write)?;
    let _guard = core.locks.lock(vec![path.clone()]).await;
    // It may have ended while the lock was awaited.
    let write = find(&core, write.id).await?;
    let asked = Instant::now();
    let object = store_object(&core, &mount, &write, &request).await?;
    let command = CompleteFile {
        write: write.id,
        length: request.length,
        tag: object.tag.0,
        modified_ms: match request.modified_ms {
            0 => object.modified_ms,
            modified_ms => modified_ms,
        },
    };
    crate::fault::point("complete: stored, not committed")?;
    let reply = reply_of(Some(&path), core.propose_for(id, command).await?)?;
    core.freshness.path_compared(mount.id(), &path, asked);
    Ok(reply)
}

/// Has the store show the new content under its name.
async fn store_object(
    core: &Core,
    mount: &Mounted,
    write: &Write,
    request: &v1::CompleteRequest,
) -> Result<ObjectMeta> {
    let outcome = match (request.parts.as_slice(), request.whole_tag.as_str()) {
        ([], "") if request.length == 0 => put_empty(mount, write).await,
        ([], "") => {
            return Err(invalid(
                format!("write {} of {} bytes names no parts", write.id, request.length),
                "name the parts, or the tag of a whole one",
            ));
        }
        // The worker has put it already, under the condition in its ticket.
        ([], tag) => Ok(ObjectMeta {
            length: request.length,
            tag: VersionTag(tag.to_owned()),
            modified_ms: core.settings.clock.now().0,
            kind: forebay_ufs::ObjectKind::File,
        }),
        (parts, _) => {
            let parts = check_parts(write, request.length, parts)?;
            let upload = UploadId(write.upload.clone());
            let store = mount.store()?;
            store.complete_upload(&write.key, &upload, &parts, &condition(write)).await
        }
    };
    outcome.map_err(|error| {
        // What the store has there is news: the next asker is to see it.
        let changed = matches!(error, UfsError::VersionChanged(_) | UfsError::AlreadyExists(_));
        if changed && let Ok(path) = mount.path_of_key(&write.key) {
            core.freshness.forget(mount.id(), &path);
        }
        conflict(error)
    })
}

/// Somebody else has written the object since the write began.
fn conflict(error: UfsError) -> WireError {
    match error {
        UfsError::VersionChanged(_) | UfsError::AlreadyExists(_) => WireError::new(
            ErrorKind::Conflict,
            format!("{error}: the object was changed in the store while it was being written"),
        )
        .with_hint("look at what is there now, then write again"),
        error => store_error(error),
    }
}

/// What must be in the store for the new content to replace it.
fn condition(write: &Write) -> PutCondition {
    match (write.replaces, write.base_tag.as_str()) {
        (false, _) => PutCondition::IfAbsent,
        (true, "") => PutCondition::None,
        (true, tag) => PutCondition::IfTag(VersionTag(tag.to_owned())),
    }
}

/// Stores an object without bytes. When the condition fails since an earlier try of the same request has done so, that is it.
async fn put_empty(mount: &Mounted, write: &Write) -> std::result::Result<ObjectMeta, UfsError> {
    let store = match mount.store() {
        Ok(store) => store,
        Err(error) => {
            return Err(UfsError::Unavailable(Box::new(forebay_ufs::Failure {
                operation: "open",
                store: mount.record.spec.uri.clone(),
                key: String::new(),
                detail: error.message,
                hint: error.hint,
            })));
        }
    };
    let error = match store.put(&write.key, Vec::new(), &condition(write)).await {
        Err(error @ (UfsError::AlreadyExists(_) | UfsError::VersionChanged(_))) => error,
        outcome => return outcome,
    };
    match store.stat(&write.key).await? {
        Some(meta) if !meta.is_directory() && meta.length == 0 && meta.tag.0 != write.base_tag => Ok(meta),
        _ => Err(error),
    }
}

fn check_parts(write: &Write, length: u64, parts: &[v1::Part]) -> Result<Vec<UploadedPart>> {
    if write.upload.is_empty() {
        return Err(invalid(
            format!("write {} has parts but no upload was begun", write.id),
            "begin it with RenewWrite",
        ));
    }
    let numbered = (1..).zip(parts).all(|(number, part)| part.number == number);
    let sum: u64 = parts.iter().fold(0, |sum, part| sum.saturating_add(part.length));
    if !numbered || sum != length {
        return Err(invalid(
            format!("the {} parts of write {} hold {sum} bytes, its length is {length}", parts.len(), write.id),
            "name all parts in order from 1",
        ));
    }
    let part =
        |part: &v1::Part| UploadedPart { number: part.number, length: part.length, tag: VersionTag(part.tag.clone()) };
    Ok(parts.iter().map(part).collect())
}

fn path_of(core: &Core, write: &Write) -> Result<NsPath> {
    let snapshot = core.glance();
    let parent = forebay_base::InodeId(write.parent);
    query::path_of(&*snapshot, parent, &write.name)
        .map_err(state_error)?
        .ok_or_else(|| WireError::new(ErrorKind::NotFound, format!("the file of write {} was deleted", write.id)))
}

fn reply_of(path: Option<&NsPath>, payload: Payload) -> Result<v1::CompleteReply> {
    let Payload::Inode(reply) = payload else {
        return Err(internal(format!("complete was answered {payload:?}")));
    };
    let mount = (reply.mount != 0).then_some(MountId(reply.mount));
    let path = path.map_or_else(bytes::Bytes::new, NsPath::to_bytes);
    Ok(v1::CompleteReply { entry: Some(entry(&reply.inode, path, mount, false)) })
}

pub(crate) async fn abandon(
    core: Arc<Core>,
    id: Request,
    request: v1::AbandonWriteRequest,
) -> Result<v1::AbandonWriteReply> {
    if let Some(reply) = core.replied(&id).await? {
        reply?;
        return Ok(v1::AbandonWriteReply {});
    }
    let command = AbandonWrite { write: request.write };
    core.propose_for(id, command).await?;
    core.work.uploads.notify_one();
    Ok(v1::AbandonWriteReply {})
}
