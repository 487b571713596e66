//! Beginning to write a file, and keeping a write alive.

use crate::core::{Core, parse_path};
use crate::error::{Result, internal, invalid, state_error, store_error};
use crate::mounts::{Mounted, check_sizes};
use crate::ops::directory::check_parents;
use crate::ops::entry::entry;
use crate::ops::{tickets, wait};
use crate::sync::locate;
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::command::{CreateFile, RenewWrite, SetUpload};
use forebay_namespace::{Payload, Request, Write, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use forebay_ufs::UploadId;
use std::sync::Arc;
use tokio::time::Instant;

pub(crate) async fn create(core: Arc<Core>, id: Request, request: v1::CreateRequest) -> Result<v1::CreateReply> {
    let path = parse_path(&request.path)?;
    let mount = mount_for_files(&core, &path)?;
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(&core, &mount, &path, reply?);
    }
    mount.check_writable(&path)?;
    mount.check_name(&path)?;
    check_sizes(request.block_size, u64::from(request.page_size))?;
    wait::until_free(&core, &mount, &path, Instant::now() + core.settings.blocked_wait).await?;
    let located = locate(&core, &path, SyncMode::ByInterval).await?;
    check_parents(&core, &mount, &path, &located, request.parents).await?;
    drop(located);
    let command = CreateFile {
        write_type: request.write_type,
        path: path.to_bytes(),
        overwrite: request.overwrite,
        parents: request.parents,
        owner: request.owner,
        group: request.group,
        mode: request.mode,
        block_size: request.block_size,
        page_size: request.page_size,
        lease_ms: core.settings.write_lease.as_millis() as u64,
    };
    reply_of(&core, &mount, &path, core.propose_for(id, command).await?)
}

/// The mount that a file of that path is stored in.
fn mount_for_files(core: &Core, path: &NsPath) -> Result<Arc<Mounted>> {
    match core.mount_of(path) {
        Some((mount, key)) if !key.is_empty() => Ok(mount),
        Some(_) => Err(WireError::new(ErrorKind::IsADirectory, format!("{path} is a directory"))),
        None => Err(invalid(
            format!("{path} lies in no mount, so there is no store for a file"),
            "write below a mount; forebay mount list shows them, forebay mount add makes one",
        )),
    }
}

fn reply_of(core: &Core, mount: &Mounted, path: &NsPath, payload: Payload) -> Result<v1::CreateReply> {
    let Payload::Created(created) = payload else {
        return Err(internal(format!("create was answered {payload:?}")));
    };
    if created.abandoned.is_some() {
        core.work.uploads.notify_one();
    }
    let write = &created.write;
    let part_size = tickets::part_size(core, mount, write.block_size, write.page_size);
    let signed = tickets::for_writing(core, write, part_size);
    let parts_max = mount.store().map_or(0, |store| store.capabilities().parts_max);
    let mount = (write.mount != 0).then_some(MountId(write.mount));
    Ok(v1::CreateReply {
        entry: Some(entry(&created.inode, path.to_bytes(), mount, false)),
        write: write.id,
        ticket: signed.ticket,
        ticket_expires_ms: signed.expires_ms,
        part_size,
        lease_ms: core.settings.write_lease.as_millis() as u64,
        workers_epoch: core.registry.epoch(),
        parts_max,
    })
}

pub(crate) async fn renew(core: Arc<Core>, request: v1::RenewWriteRequest) -> Result<v1::RenewWriteReply> {
    let lease_ms = core.settings.write_lease.as_millis() as u64;
    let command = RenewWrite { writes: vec![request.write], lease_ms };
    match core.propose(command).await? {
        Payload::Renewed(renewed) if renewed.gone.is_empty() => {}
        Payload::Renewed(_) => return Err(gone(request.write)),
        other => return Err(internal(format!("renew was answered {other:?}"))),
    }
    let mut write = find(&core, request.write).await?;
    let mount = mount_of(&core, &write)?;
    if request.start_upload && write.upload.is_empty() {
        write = start_upload(&core, &mount, write).await?;
    }
    let part_size = tickets::part_size(&core, &mount, write.block_size, write.page_size);
    let signed = tickets::for_writing(&core, &write, part_size);
    Ok(v1::RenewWriteReply { ticket: signed.ticket, ticket_expires_ms: signed.expires_ms, lease_ms })
}

/// A write that is going on.
pub(crate) async fn find(core: &Core, write: u64) -> Result<Write> {
    let snapshot = core.read().await?;
    let found = query::write(&*snapshot, write).map_err(state_error)?;
    found.filter(|write| !write.abandoned).ok_or_else(|| gone(write))
}

fn gone(write: u64) -> WireError {
    WireError::new(
        ErrorKind::Conflict,
        format!("write {write} has ended: another writer took its path, it was abandoned, or its lease ended"),
    )
    .with_hint("write the file again; if writers are silent for longer than their lease, raise master.write_lease")
}

/// The mount that a write goes to.
pub(crate) fn mount_of(core: &Core, write: &Write) -> Result<Arc<Mounted>> {
    core.mounts
        .get(MountId(write.mount))
        .ok_or_else(|| WireError::new(ErrorKind::NotFound, format!("the mount of write {} was removed", write.id)))
}

/// Begins the upload of a write, once: of two at a time the first recorded counts, and the other one is aborted.
async fn start_upload(core: &Core, mount: &Mounted, write: Write) -> Result<Write> {
    let store = mount.store()?;
    let upload = store.begin_upload(&write.key).await.map_err(store_error)?;
    let command = SetUpload { write: write.id, upload: upload.0.clone() };
    let outcome = core.propose(command).await;
    let counts = matches!(&outcome, Ok(Payload::Write(write)) if write.upload == upload.0);
    // A command whose outcome is not known may have been recorded: then the upload stays, and is aborted with the write.
    let unknown = matches!(&outcome, Err(refused) if refused.error.kind == ErrorKind::Unavailable);
    if !counts && !unknown {
        abort(mount, &write.key, &upload).await;
    }
    match outcome? {
        Payload::Write(write) => Ok(write),
        other => Err(internal(format!("set upload was answered {other:?}"))),
    }
}

/// Aborts an upload that nobody knows; a failure leaves parts in the store, which is worth a warning.
async fn abort(mount: &Mounted, key: &[u8], upload: &UploadId) {
    let Ok(store) = mount.store() else { return };
    if let Err(error) = store.abort_upload(key, upload).await {
        tracing::warn!(mount = %mount.path, %upload, %error, "an upload could not be aborted");
    }
}
