//! Mounting: checked before it is recorded, so that what is wrong is said at once.

use crate::core::{Core, parse_path};
use crate::error::{Result, internal, invalid, store_error};
use crate::mounts::{Mounted, apply_own_options, open_store, parse_interval, spec_from_wire, suggest_own};
use crate::secrets::Secrets;
use crate::sync::locate;
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::command::{AddMount, RemoveMount, UpdateMount};
use forebay_namespace::{MountSpec, Payload, Request, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use forebay_ufs::mount_options::{SECRETS, canonical};
use forebay_ufs::{Access, UfsError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

pub(crate) async fn add(core: Arc<Core>, id: Request, request: v1::AddMountRequest) -> Result<v1::AddMountReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        core.mounts_changed()?;
        return Ok(v1::AddMountReply { mount: Some(entry_of(&core, reply?)?), empty: false });
    }
    let wire = request.spec.ok_or_else(|| invalid("a mount needs a URI", "as in s3://bucket/prefix"))?;
    let secrets = check_secrets(wire.secrets.clone())?;
    let mut spec = spec_from_wire(wire)?;
    let found = check(&spec, &secrets, request.skip_check).await?;
    seal(&core, &path, &mut spec, &secrets);
    // A directory that only the outer mount's store knows is to be refused, or used, as what it is.
    locate(&core, &path, SyncMode::ByInterval).await?;
    let command = AddMount { path: path.to_bytes(), spec, mode: 0o755, ..AddMount::default() };
    let payload = core.change_mounts(id, command).await?;
    Ok(v1::AddMountReply { mount: Some(entry_of(&core, payload)?), empty: found == Found::Nothing })
}

pub(crate) fn list(core: &Core) -> v1::ListMountsReply {
    v1::ListMountsReply { mounts: core.mounts.all().iter().map(|mount| mount.entry()).collect() }
}

pub(crate) async fn update(
    core: Arc<Core>,
    id: Request,
    request: v1::UpdateMountRequest,
) -> Result<v1::UpdateMountReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        core.mounts_changed()?;
        return Ok(v1::UpdateMountReply { mount: Some(entry_of(&core, reply?)?) });
    }
    let mount = core.mounts.at(&path)?;
    let skip_check = request.skip_check;
    let (spec, secrets) = changed(&core, &mount, request)?;
    check(&spec, &secrets, skip_check).await?;
    let command = UpdateMount { mount: mount.record.id, spec, revision: mount.record.revision };
    let payload = core.change_mounts(id, command).await?;
    Ok(v1::UpdateMountReply { mount: Some(entry_of(&core, payload)?) })
}

/// The settings of a mount with the request's changes.
fn changed(core: &Core, mount: &Mounted, request: v1::UpdateMountRequest) -> Result<(MountSpec, Secrets)> {
    let mut spec = mount.record.spec.clone();
    if let Some(read_only) = request.read_only {
        spec.read_only = read_only;
    }
    if let Some(interval) = request.sync_interval {
        spec.sync_interval_ms = parse_interval(&interval)?;
    }
    let mut secrets = mount.secrets().clone();
    for name in &request.unset_options {
        if secrets.0.remove(&canonical(name)).is_some() {
            seal(core, &mount.path, &mut spec, &secrets);
            continue;
        }
        if spec.options.remove(&canonical(name)).is_none() {
            return Err(invalid(
                format!("mount {} has no option {name:?}", mount.path),
                "forebay mount list shows its options",
            ));
        }
    }
    spec.options.extend(request.set_options.into_iter().map(|(name, value)| (canonical(&name), value)));
    apply_own_options(&mut spec)?;
    if !request.set_secrets.is_empty() {
        secrets = check_secrets(request.set_secrets)?;
        seal(core, &mount.path, &mut spec, &secrets);
    }
    Ok((spec, secrets))
}

/// How long the removal of a mount waits for deletes that it has not finished.
const PURGE_WAIT: Duration = Duration::from_secs(30);

pub(crate) async fn remove(
    core: Arc<Core>,
    id: Request,
    request: v1::RemoveMountRequest,
) -> Result<v1::RemoveMountReply> {
    let path = parse_path(&request.path)?;
    if let Some(reply) = core.replied(&id).await? {
        reply?;
        core.mounts_changed()?;
        return Ok(v1::RemoveMountReply {});
    }
    let mount = core.mounts.at(&path)?;
    let _guard = core.locks.lock(vec![path.clone()]).await;
    if !request.discard {
        wait_for_deletes(&core, &mount).await?;
    }
    let command = RemoveMount { mount: mount.record.id, discard: request.discard };
    // The uploads of writes that are given up with it are aborted there.
    core.mounts.keep_removed(mount);
    core.change_mounts(id, command).await?;
    core.work.trash.notify_one();
    core.work.uploads.notify_one();
    Ok(v1::RemoveMountReply {})
}

/// What users deleted must be gone from the store before nobody knows of it any more.
async fn wait_for_deletes(core: &Core, mount: &Mounted) -> Result<()> {
    let deadline = Instant::now() + PURGE_WAIT.min(core.settings.blocked_wait);
    loop {
        let mut bell = std::pin::pin!(core.work.unblocked.notified());
        bell.as_mut().enable();
        if !has_deletes(core, mount.id()).await? {
            return Ok(());
        }
        core.work.trash.notify_one();
        if timeout_at(deadline, bell).await.is_err() {
            return Err(WireError::new(
                ErrorKind::Unavailable,
                format!("deleted files of {} are not removed from their store yet", mount.path),
            )
            .with_hint("try again later, or remove with --discard and leave them in the store"));
        }
    }
}

async fn has_deletes(core: &Core, mount: MountId) -> Result<bool> {
    let snapshot = core.read().await?;
    let mut after = 0;
    loop {
        let page = query::trash(&*snapshot, after, 1000).map_err(crate::error::state_error)?;
        let Some(last) = page.last() else {
            return Ok(false);
        };
        after = last.id;
        if page.iter().any(|entry| entry.mount == mount.0 && entry.purge_store) {
            return Ok(true);
        }
    }
}

/// What a check saw of a store's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Something, or it is not known.
    Perhaps,
}

/// Opens the store and asks it, so that what is wrong is said now.
async fn check(spec: &MountSpec, secrets: &Secrets, skip: bool) -> Result<Found> {
    let store = open_store(spec, secrets).map_err(|error| suggest_own(spec, error))?;
    if skip {
        return Ok(Found::Perhaps);
    }
    let access = match spec.read_only {
        true => Access::Read,
        false => Access::ReadWrite,
    };
    store.check(access).await.map_err(|error| match error {
        UfsError::RootMissing(_) => WireError { kind: ErrorKind::NotFound, ..store_error(error) },
        error => unusable(store_error(error)),
    })?;
    // A prefix with a slip of the pen is as empty as a new one: users are told. Nothing of this is remembered.
    match timeout_at(Instant::now() + LOOK_MAX, store.list(b"", None, 1)).await {
        Ok(Ok(page)) if page.entries.is_empty() && page.next.is_none() => Ok(Found::Nothing),
        _ => Ok(Found::Perhaps),
    }
}

/// How long the look into a new mount may take.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A store that does not answer now may be a wrong address: said at once, where the client would ask again for long.
fn unusable(error: WireError) -> WireError {
    match error.kind {
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
            let hint = if error.hint.is_empty() { "check its address" } else { error.hint.as_str() };
            let hint = format!("{hint}; --skip-check mounts it all the same");
            WireError::new(ErrorKind::Unavailable, error.message).with_hint(hint).as_last_word()
        }
        _ => error,
    }
}

fn check_secrets(secrets: HashMap<String, String>) -> Result<Secrets> {
    let secrets = secrets.into_iter().map(|(name, value)| (canonical(&name), value)).collect();
    let secrets = Secrets(secrets);
    match secrets.0.keys().find(|name| !SECRETS.contains(&name.as_str())) {
        Some(name) => {
            Err(invalid(format!("unknown secret {name:?}"), format!("known secrets: {}", SECRETS.join(", "))))
        }
        None => Ok(secrets),
    }
}

fn seal(core: &Core, path: &NsPath, spec: &mut MountSpec, secrets: &Secrets) {
    spec.sealed_secrets = match secrets.0.is_empty() {
        true => bytes::Bytes::new(),
        false => core.mounts.sealer().seal(path.as_bytes(), secrets).into(),
    };
}

fn entry_of(core: &Core, payload: Payload) -> Result<v1::MountEntry> {
    let Payload::Mount(record) = payload else {
        return Err(internal(format!("a mount command was answered {payload:?}")));
    };
    let mount = core.mounts.get(MountId(record.id));
    mount
        .map(|mount| mount.entry())
        .ok_or_else(|| WireError::new(ErrorKind::NotFound, format!("mount {} was removed in the meantime", record.id)))
}
