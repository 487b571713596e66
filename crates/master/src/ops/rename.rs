//! Renaming: atomic in the namespace, by an intent that survives a crash.
//!
//! `BeginRename` records the intent and blocks both keys. The store then moves the objects: at once where it can, else copies.
//! `CommitRename` makes the new name visible, with the client's request id, and `EndRename` follows when the source's objects are deleted.
//! An intent that a restart finds goes on from where it was; the repeated request joins it.
//! Copies that lead to no commit are deleted again, but never over what stood at the target before.

use crate::core::{Core, parse_path};
use crate::error::{Refused, Result, internal, not_found, state_error, store_error};
use crate::metrics::names;
use crate::mounts::Mounted;
use crate::ops::open::found;
use crate::ops::purge::{delete_below, delete_marker, join, mark_if_empty};
use crate::ops::wait;
use crate::sync::{load_entries, locate};
use bytes::Bytes;
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::command::{BeginRename, CommitRename, EndRename, Rename};
use forebay_namespace::record::{IntentPhase, RenameIntent};
use forebay_namespace::{Payload, Reason, Request, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use forebay_ufs::{DeleteTarget, ListCursor, ObjectKind, ObjectMeta, PutCondition, Ufs, UfsError};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Entries of one page of the store.
const PAGE_LEN: usize = 1000;
/// The pause before an intent is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn rename(core: Arc<Core>, id: Request, request: v1::RenameRequest) -> Result<v1::RenameReply> {
    let (from, to) = (parse_path(&request.from)?, parse_path(&request.to)?);
    let _guard = core.locks.lock(vec![from.clone(), to.clone()]).await;
    if let Some(reply) = core.replied(&id).await? {
        return reply_of(reply?);
    }
    if let Some(intent) = intent_of(&core, &id).await? {
        return reply_of(drive(&core, intent, Some(id)).await?);
    }
    let mount = core.mount_of(&from).map(|(mount, _)| mount);
    let Some(mount) = mount else {
        return reply_of(plain(&core, id, &request).await?);
    };
    mount.check_writable(&from)?;
    wait::until_free(&core, &mount, &from).await?;
    wait::until_free(&core, &mount, &to).await?;
    prepare(&core, &from, &to).await?;
    mount.check_name(&to)?;
    if from == to || core.mount_of(&to).is_none_or(|(other, _)| other.id() != mount.id()) {
        // Nothing to move, or refused: the state machine says which.
        return reply_of(plain(&core, id, &request).await?);
    }
    let command = BeginRename {
        from: from.to_bytes(),
        to: to.to_bytes(),
        no_replace: request.no_replace,
        client: id.client,
        sequence: id.sequence,
    };
    let intent = begin(&core, &mount, &from, command).await?;
    reply_of(drive(&core, intent, Some(id)).await?)
}

/// Records the intent; waits for objects below either path that are still being deleted.
async fn begin(core: &Core, mount: &Mounted, from: &NsPath, command: BeginRename) -> Result<RenameIntent> {
    let deadline = Instant::now() + core.settings.blocked_wait;
    loop {
        let mut bell = std::pin::pin!(core.work.unblocked.notified());
        bell.as_mut().enable();
        let refused = match core.propose(command.clone()).await {
            Ok(Payload::Intent(intent)) => return Ok(intent),
            Ok(other) => return Err(internal(format!("begin rename was answered {other:?}"))),
            Err(refused) => refused,
        };
        core.work.trash.notify_one();
        if refused.reason != Reason::Blocked || timeout_at(deadline, bell).await.is_err() {
            return Err(refused.error);
        }
        wait::until_free(core, mount, from).await?;
    }
}

/// A rename that concerns no store.
async fn plain(core: &Core, id: Request, request: &v1::RenameRequest) -> Result<Payload> {
    let command = Rename {
        from: request.from.clone(),
        to: request.to.clone(),
        no_replace: request.no_replace,
        ..Rename::default()
    };
    let command =
        Rename { from: parse_path(&command.from)?.to_bytes(), to: parse_path(&command.to)?.to_bytes(), ..command };
    Ok(core.propose_for(id, command).await?)
}

/// Loads what the rules of rename look at: both paths, and the entries of a directory that is to be replaced.
async fn prepare(core: &Arc<Core>, from: &NsPath, to: &NsPath) -> Result<()> {
    let located = locate(core, from, SyncMode::ByInterval).await?;
    found(&located, from)?;
    let located = locate(core, to, SyncMode::ByInterval).await?;
    let target = located.resolved.found().map(|step| &step.inode);
    if target.is_some_and(|inode| inode.is_directory()) {
        // The store is asked now: what a minute-old listing does not know would be mixed with what moves in.
        load_entries(core, to, &located, SyncMode::Now).await?;
    } else if let Some(parent) = to.parent() {
        locate(core, &parent, SyncMode::ByInterval).await?;
    }
    Ok(())
}

async fn intent_of(core: &Core, id: &Request) -> Result<Option<RenameIntent>> {
    let intents = query::rename_intents(&*core.read().await?).map_err(state_error)?;
    let own = |intent: &RenameIntent| intent.client == id.client && intent.sequence == id.sequence;
    Ok(intents.into_iter().find(own))
}

/// Brings an intent to its end. The caller holds the locks of both paths.
async fn drive(core: &Arc<Core>, intent: RenameIntent, id: Option<Request>) -> Result<Payload> {
    let id = id.unwrap_or(Request { client: intent.client, sequence: intent.sequence, acked_below: 0 });
    let mount = core
        .mounts
        .get(MountId(intent.mount))
        .ok_or_else(|| WireError::new(ErrorKind::NotFound, format!("the mount of rename {} was removed", intent.id)))?;
    let reply = match intent.phase() {
        IntentPhase::Copying => move_and_commit(core, &mount, &intent, id).await?,
        // Committed before: the reply is the request's.
        IntentPhase::Cleaning => match core.replied(&id).await? {
            Some(reply) => reply?,
            None => Payload::Done(Default::default()),
        },
    };
    crate::fault::point("rename: committed, not cleaned")?;
    clean(core, &mount, &intent).await;
    Ok(reply)
}

async fn move_and_commit(core: &Arc<Core>, mount: &Mounted, intent: &RenameIntent, id: Request) -> Result<Payload> {
    let replaces = target_exists(core, intent)?;
    let moved = match move_objects(core, mount, intent).await {
        Ok(moved) => moved,
        Err(error) => {
            undo(core, mount, intent, replaces).await;
            return Err(error);
        }
    };
    crate::fault::point("rename: moved, not committed")?;
    let command = CommitRename {
        intent: intent.id,
        tag: moved.as_ref().map_or_else(String::new, |meta| meta.tag.0.clone()),
        modified_ms: 0,
    };
    match core.propose_for(id, command).await {
        Ok(payload) => Ok(payload),
        Err(refused) => {
            if is_certain(&refused) {
                undo(core, mount, intent, replaces).await;
            }
            Err(refused.error)
        }
    }
}

/// Whether a command was refused for sure, rather than perhaps carried out.
fn is_certain(refused: &Refused) -> bool {
    !matches!(refused.error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}

fn target_exists(core: &Core, intent: &RenameIntent) -> Result<bool> {
    let to = parse_path(&intent.to)?;
    let resolved = query::resolve(&*core.glance(), &to).map_err(state_error)?;
    Ok(resolved.found().is_some())
}

/// Has the store show the objects at the target. For a file the store's metadata of it there.
async fn move_objects(core: &Arc<Core>, mount: &Mounted, intent: &RenameIntent) -> Result<Option<ObjectMeta>> {
    let store = mount.store()?;
    let (from, to) = (&intent.from_key, &intent.to_key);
    if store.capabilities().native_rename {
        rename_at_once(store, intent).await?;
    } else if intent.directory {
        copy_below(core, store, from, to).await?;
    } else {
        let meta = store.stat(from).await.map_err(store_error)?;
        let meta = meta.ok_or_else(|| missing(intent))?;
        copy_file(store, from.clone(), to.clone(), &meta).await?;
    }
    if intent.directory {
        return Ok(None);
    }
    let meta = store.stat(to).await.map_err(store_error)?;
    meta.map(Some).ok_or_else(|| missing(intent))
}

fn missing(intent: &RenameIntent) -> WireError {
    parse_path(&intent.from).map_or_else(|error| error, |path| not_found(&path))
}

/// Where the store renames by itself. After a restart it may have done so already.
async fn rename_at_once(store: &Arc<dyn Ufs>, intent: &RenameIntent) -> Result<()> {
    match store.rename(&intent.from_key, &intent.to_key).await {
        Err(UfsError::NotFound(failure)) => {
            let moved = store.stat(&intent.to_key).await.map_err(store_error)?;
            match moved {
                Some(meta) if meta.is_directory() == intent.directory => Ok(()),
                _ => Err(store_error(UfsError::NotFound(failure))),
            }
        }
        outcome => outcome.map_err(store_error),
    }
}

async fn copy_file(store: &Arc<dyn Ufs>, from: Bytes, to: Bytes, meta: &ObjectMeta) -> Result<()> {
    store.copy(&from, &to, &meta.expected(), &PutCondition::None).await.map_err(store_error)?;
    metrics::counter!(names::RENAME_COPIES).increment(1);
    Ok(())
}

/// One directory on the way down.
struct Frame {
    from: Bytes,
    to: Bytes,
    directories: Vec<Bytes>,
    cursor: Option<ListCursor>,
    ended: bool,
    empty: bool,
}

impl Frame {
    fn new(from: Bytes, to: Bytes) -> Frame {
        Frame { from, to, directories: Vec::new(), cursor: None, ended: false, empty: true }
    }

    fn below(&self, name: &[u8]) -> Frame {
        Frame::new(join(&self.from, name), join(&self.to, name))
    }

    /// The files of the next page; its directories are kept. None at the end.
    async fn fill(&mut self, store: &Arc<dyn Ufs>) -> Result<Option<Vec<(Bytes, ObjectMeta)>>> {
        if self.ended {
            return Ok(None);
        }
        let page = match store.list(&self.from, self.cursor.as_ref(), PAGE_LEN).await {
            Err(UfsError::NotFound(_)) => Default::default(),
            page => page.map_err(store_error)?,
        };
        self.ended = page.next.is_none();
        self.cursor = page.next;
        self.empty &= page.entries.is_empty();
        let mut files = Vec::new();
        for entry in page.entries {
            match entry.meta.kind {
                ObjectKind::Directory => self.directories.push(entry.name),
                ObjectKind::File => files.push((entry.name, entry.meta)),
            }
        }
        // What a file of the same name hides moves along.
        let hidden = page.hidden.into_iter();
        let hidden = hidden.filter(|hidden| hidden.kind == ObjectKind::Directory);
        self.directories.extend(hidden.map(|hidden| hidden.name));
        Ok(Some(files))
    }
}

/// Copies everything below a directory, several objects at a time; empty directories get markers.
async fn copy_below(core: &Core, store: &Arc<dyn Ufs>, from: &Bytes, to: &Bytes) -> Result<()> {
    let mut frames = vec![Frame::new(from.clone(), to.clone())];
    while let Some(frame) = frames.last_mut() {
        if let Some(name) = frame.directories.pop() {
            let below = frame.below(&name);
            frames.push(below);
            continue;
        }
        let Some(files) = frame.fill(store).await? else {
            if frame.empty || frame.to == *to {
                store.make_directory(&frame.to).await.map_err(store_error)?;
            }
            frames.pop();
            continue;
        };
        let (from, to) = (frame.from.clone(), frame.to.clone());
        stream::iter(files)
            .map(|(name, meta)| {
                let (from, to) = (join(&from, &name), join(&to, &name));
                async move { copy_file(store, from, to, &meta).await }
            })
            .buffer_unordered(core.settings.rename_copies.max(1))
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

/// Deletes the source's objects of a committed intent and ends it; what fails is tried again in the background.
async fn clean(core: &Arc<Core>, mount: &Mounted, intent: &RenameIntent) {
    let outcome = async {
        let store = mount.store()?;
        if !store.capabilities().native_rename {
            if let Some(slash) = intent.from_key.iter().rposition(|byte| *byte == b'/') {
                mark_if_empty(core, mount, &intent.from_key[..slash]).await?;
            }
            delete_all(core, store, &intent.from_key, intent.directory).await?;
        }
        core.propose(EndRename { intent: intent.id }).await?;
        Ok::<(), WireError>(())
    };
    if let Err(error) = outcome.await {
        metrics::counter!(names::BACKGROUND_FAILURES, "task" => "rename").increment(1);
        tracing::warn!(intent = intent.id, %error, "a rename's source cannot be deleted yet");
    }
    core.work.unblocked.notify_waiters();
}

async fn delete_all(core: &Arc<Core>, store: &Arc<dyn Ufs>, key: &Bytes, directory: bool) -> Result<()> {
    if directory {
        delete_below(core, store, key).await?;
        return delete_marker(store, key).await;
    }
    for outcome in store.delete(&[DeleteTarget::file(key.clone())]).await.map_err(store_error)? {
        outcome.map_err(store_error)?;
    }
    Ok(())
}

/// Gives up an intent that was not committed: takes copies away where nothing stood before, then ends it. When that fails the background
/// tries the rename itself again.
async fn undo(core: &Arc<Core>, mount: &Mounted, intent: &RenameIntent, replaces: bool) {
    let outcome = async {
        let store = mount.store()?;
        if store.capabilities().native_rename {
            undo_at_once(store, intent).await?;
        } else if intent.directory {
            delete_copies(store, &intent.from_key, &intent.to_key, replaces).await?;
        } else if !replaces {
            delete_all(core, store, &intent.to_key, false).await?;
        }
        core.propose(EndRename { intent: intent.id }).await?;
        Ok::<(), WireError>(())
    };
    if let Err(error) = outcome.await {
        metrics::counter!(names::BACKGROUND_FAILURES, "task" => "rename").increment(1);
        tracing::warn!(intent = intent.id, %error, "a rename cannot be undone yet");
    }
    // Both places are to be looked at again.
    core.freshness.forget_mount(mount.id(), std::time::Instant::now());
    core.work.unblocked.notify_waiters();
}

/// Deletes the copies of what the source still has, and nothing else; with `keep_top` the target directory itself stays.
async fn delete_copies(store: &Arc<dyn Ufs>, from: &Bytes, to: &Bytes, keep_top: bool) -> Result<()> {
    let mut frames = vec![Frame::new(from.clone(), to.clone())];
    while let Some(frame) = frames.last_mut() {
        if let Some(name) = frame.directories.pop() {
            let below = frame.below(&name);
            frames.push(below);
            continue;
        }
        let targets: Vec<DeleteTarget> = match frame.fill(store).await? {
            Some(files) => files.iter().map(|(name, _)| DeleteTarget::file(join(&frame.to, name))).collect(),
            None => {
                let to = frames.pop().map(|frame| frame.to);
                let keep = keep_top && frames.is_empty();
                let to = to.filter(|_| !keep);
                to.map(DeleteTarget::directory).into_iter().collect()
            }
        };
        for outcome in store.delete(&targets).await.map_err(store_error)? {
            outcome.map_err(store_error)?;
        }
    }
    Ok(())
}

/// Renames back what was renamed, when the source is gone and the target there.
async fn undo_at_once(store: &Arc<dyn Ufs>, intent: &RenameIntent) -> Result<()> {
    let source = store.stat(&intent.from_key).await.map_err(store_error)?;
    let target = store.stat(&intent.to_key).await.map_err(store_error)?;
    if source.is_none() && target.is_some_and(|meta| meta.is_directory() == intent.directory) {
        store.rename(&intent.to_key, &intent.from_key).await.map_err(store_error)?;
    }
    Ok(())
}

fn reply_of(payload: Payload) -> Result<v1::RenameReply> {
    match payload {
        Payload::Renamed(_) | Payload::Done(_) => Ok(v1::RenameReply {}),
        other => Err(internal(format!("rename was answered {other:?}"))),
    }
}

/// Brings intents to their end that a crash or a failing store has left, until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        if let Err(error) = resume(&core).await {
            tracing::warn!(%error, "unfinished renames cannot be looked at for now");
        }
        if stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await.is_none() {
            return;
        }
    }
}

async fn resume(core: &Arc<Core>) -> Result<()> {
    let intents = query::rename_intents(&*core.read().await?).map_err(state_error)?;
    for intent in intents {
        let (from, to) = (parse_path(&intent.from)?, parse_path(&intent.to)?);
        // Whoever drives it now holds these.
        let _guard = core.locks.lock(vec![from, to]).await;
        let intents = query::rename_intents(&*core.read().await?).map_err(state_error)?;
        let Some(intent) = intents.into_iter().find(|other| other.id == intent.id) else {
            continue;
        };
        if let Err(error) = drive(core, intent, None).await {
            metrics::counter!(names::BACKGROUND_FAILURES, "task" => "rename").increment(1);
            tracing::warn!(%error, "an unfinished rename goes on later");
        }
    }
    Ok(())
}
