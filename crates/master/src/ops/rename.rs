//! Renaming: atomic in the namespace, by an intent that survives a crash.
//!
//! `BeginRename` records the intent and blocks both keys. The store then moves the objects: at once where it can, else copies.
//! `CommitRename` makes the new name visible, with the client's request id, and `EndRename` follows when the source's objects are deleted.
//! An intent that a restart finds goes on from where it was; the repeated request joins it. One that fails is given up by `UndoRename` before
//! its client hears of it: from then on it can only be undone.

mod copy;
mod finish;

use self::copy::Copies;
use crate::core::{Core, parse_path};
use crate::error::{Refused, Result, internal, not_found, state_error, store_error};
use crate::mounts::Mounted;
use crate::ops::lanes::Lanes;
use crate::ops::open::found;
use crate::ops::wait;
use crate::path_locks::PathGuard;
use crate::sync::{load_entries, locate};
use forebay_base::{ErrorKind, MountId, NsPath, VersionTag};
use forebay_namespace::command::{BeginRename, CommitRename, Rename, UndoRename};
use forebay_namespace::record::{IntentPhase, RenameIntent};
use forebay_namespace::{Payload, Reason, Request, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::SyncMode;
use forebay_ufs::local::is_renamed;
use forebay_ufs::{ObjectMeta, Ufs, UfsError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The pause before intents are looked at again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Whether an intent was begun just now, or may have been worked on before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    First,
    Again,
}

pub(crate) async fn rename(core: Arc<Core>, id: Request, request: v1::RenameRequest) -> Result<v1::RenameReply> {
    let (from, to) = (parse_path(&request.from)?, parse_path(&request.to)?);
    let renaming = Renaming {
        deadline: Instant::now() + core.settings.blocked_wait,
        core,
        id,
        from,
        to,
        no_replace: request.no_replace,
    };
    let mut prepared = false;
    loop {
        let mut bell = std::pin::pin!(renaming.core.work.unblocked.notified());
        bell.as_mut().enable();
        let blocked = match renaming.attempt(&mut prepared).await? {
            Attempt::Ended => return Ok(v1::RenameReply {}),
            Attempt::Blocked(error) => error,
        };
        renaming.core.work.trash.notify_one();
        if timeout_at(renaming.deadline, bell).await.is_err() {
            return Err(blocked);
        }
    }
}

/// One request to rename.
struct Renaming {
    core: Arc<Core>,
    id: Request,
    from: NsPath,
    to: NsPath,
    no_replace: bool,
    deadline: Instant,
}

/// How an attempt to rename ended.
enum Attempt {
    Ended,
    /// Objects below either path are still being deleted or renamed. The locks are given back: whoever renames there needs them to end.
    Blocked(WireError),
}

impl Renaming {
    async fn attempt(&self, prepared: &mut bool) -> Result<Attempt> {
        let core = &self.core;
        let mount = core.mount_of(&self.from).map(|(mount, _)| mount);
        let _guard = self.lock(mount.as_deref()).await?;
        if let Some(reply) = core.replied(&self.id).await? {
            return ended(reply?);
        }
        if let Some(intent) = intent_of(core, &self.id).await? {
            return ended(drive(core, intent, Some(self.id), Run::Again).await?);
        }
        let Some(mount) = mount else {
            return ended(self.plain().await?);
        };
        mount.check_writable(&self.from)?;
        if !*prepared {
            prepare(core, &self.from, &self.to).await?;
            *prepared = true;
        }
        mount.check_name(&self.to)?;
        if self.from == self.to || core.mount_of(&self.to).is_none_or(|(other, _)| other.id() != mount.id()) {
            // Nothing to move, or refused: the state machine says which.
            return ended(self.plain().await?);
        }
        self.begin().await
    }

    async fn lock(&self, mount: Option<&Mounted>) -> Result<PathGuard> {
        // An intent of its own is what blocks the paths, and is gone on with.
        let mount = match intent_of(&self.core, &self.id).await? {
            Some(_) => None,
            None => mount,
        };
        wait::lock_free(&self.core, mount, &[&self.from, &self.to], self.deadline).await
    }

    /// Records the intent and carries it out.
    async fn begin(&self) -> Result<Attempt> {
        let command = BeginRename {
            from: self.from.to_bytes(),
            to: self.to.to_bytes(),
            no_replace: self.no_replace,
            client: self.id.client,
            sequence: self.id.sequence,
        };
        match self.core.propose(command).await {
            Ok(Payload::Intent(intent)) => ended(drive(&self.core, intent, Some(self.id), Run::First).await?),
            Ok(other) => Err(internal(format!("begin rename was answered {other:?}"))),
            Err(refused) if refused.reason == Reason::Blocked => Ok(Attempt::Blocked(refused.error)),
            Err(refused) => Err(refused.error),
        }
    }

    /// A rename that concerns no store.
    async fn plain(&self) -> Result<Payload> {
        let command = Rename {
            from: self.from.to_bytes(),
            to: self.to.to_bytes(),
            no_replace: self.no_replace,
            ..Rename::default()
        };
        Ok(self.core.propose_for(self.id, command).await?)
    }
}

/// Loads what the rules of rename look at: both paths, and the entries of a directory that is to be replaced. What moves and what is replaced
/// are told by their versions, so the store is asked now: what a minute-old answer does not know would be lost.
async fn prepare(core: &Arc<Core>, from: &NsPath, to: &NsPath) -> Result<()> {
    let located = locate(core, from, SyncMode::ByInterval).await?;
    if !found(&located.resolved, from)?.is_directory() {
        let located = locate(core, from, SyncMode::Now).await?;
        found(&located.resolved, from)?;
    }
    let located = locate(core, to, SyncMode::Now).await?;
    let target = located.resolved.found().map(|step| &step.inode);
    if target.is_some_and(|inode| inode.is_directory()) {
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
async fn drive(core: &Arc<Core>, intent: RenameIntent, id: Option<Request>, run: Run) -> Result<Payload> {
    let id = id.unwrap_or(Request { client: intent.client, sequence: intent.sequence, acked_below: 0 });
    let mount = core
        .mounts
        .get(MountId(intent.mount))
        .ok_or_else(|| WireError::new(ErrorKind::NotFound, format!("the mount of rename {} was removed", intent.id)))?;
    let reply = match (intent.phase(), core.replied(&id).await?) {
        (IntentPhase::Undoing, _) => {
            finish::undo(core, &mount, &intent).await;
            return Err(WireError::new(
                ErrorKind::Unavailable,
                format!("the rename of {} failed and was undone", String::from_utf8_lossy(&intent.from)),
            )
            .with_hint("send it again"));
        }
        // Its client was told that it failed, or will be.
        (IntentPhase::Copying, Some(Err(refused))) => {
            return Err(give_up(core, &mount, &intent, refused.error).await);
        }
        (IntentPhase::Copying, _) => move_and_commit(core, &mount, &intent, id, run).await?,
        // Committed before: the reply is the request's.
        (IntentPhase::Cleaning, Some(reply)) => reply?,
        (IntentPhase::Cleaning, None) => Payload::Done(Default::default()),
    };
    crate::fault::point("rename: committed, not cleaned")?;
    finish::clean(core, &mount, &intent).await;
    Ok(reply)
}

async fn move_and_commit(
    core: &Arc<Core>,
    mount: &Mounted,
    intent: &RenameIntent,
    id: Request,
    run: Run,
) -> Result<Payload> {
    let tag = match move_objects(core, mount, intent, run).await {
        Ok(tag) => tag,
        Err(error) => return Err(give_up(core, mount, intent, error).await),
    };
    crate::fault::point("rename: moved, not committed")?;
    if intent.directory {
        // What was compared below the target was another directory. Nothing there is compared again before the intent is committed.
        for path in [&intent.from, &intent.to] {
            core.freshness.forget_tree(mount.id(), &parse_path(path)?, std::time::Instant::now());
        }
    }
    let command = CommitRename { intent: intent.id, tag, modified_ms: 0 };
    match core.propose_for(id, command).await {
        Ok(payload) => Ok(payload),
        Err(refused) if is_certain(&refused) => Err(give_up(core, mount, intent, refused.error).await),
        Err(refused) => Err(refused.error),
    }
}

/// Whether a command was refused for sure, rather than perhaps carried out.
fn is_certain(refused: &Refused) -> bool {
    !matches!(refused.error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}

/// Gives up an intent that failed; the error for its client. Before anybody hears of a failure, it is recorded that the rename does not happen any more.
async fn give_up(core: &Arc<Core>, mount: &Mounted, intent: &RenameIntent, error: WireError) -> WireError {
    match core.propose(UndoRename { intent: intent.id }).await {
        Ok(Payload::Intent(intent)) => {
            if crate::fault::point("rename: given up, not undone").is_ok() {
                finish::undo(core, mount, &intent).await;
            }
            error
        }
        outcome => {
            tracing::warn!(intent = intent.id, ?outcome, "a failed rename could not be given up yet");
            let path = String::from_utf8_lossy(&intent.from);
            WireError::new(ErrorKind::Unavailable, format!("whether {path} is renamed is not known yet: {error}"))
                .with_hint("send the same request again")
        }
    }
}

/// Has the store show the objects at the target. For a file its version there.
async fn move_objects(core: &Core, mount: &Mounted, intent: &RenameIntent, run: Run) -> Result<String> {
    let store = mount.store()?;
    if store.capabilities().native_rename {
        core.still_leads().await?;
        rename_at_once(store, intent, run).await?;
        if intent.directory {
            return Ok(String::new());
        }
        let meta = store.stat(&intent.to_key).await.map_err(store_error)?;
        return meta.map(|meta| meta.tag.0).ok_or_else(|| missing(intent));
    }
    let copies = Copies { core, store, intent, resumed: run == Run::Again };
    match intent.directory {
        true => copies.tree().await.map(|()| String::new()),
        false => copies.file().await,
    }
}

fn missing(intent: &RenameIntent) -> WireError {
    parse_path(&intent.from).map_or_else(|error| error, |path| not_found(&path))
}

/// Where the store renames by itself. An earlier run, before a restart, may have done so already.
async fn rename_at_once(store: &Arc<dyn Ufs>, intent: &RenameIntent, run: Run) -> Result<()> {
    match store.rename(&intent.from_key, &intent.to_key).await {
        Err(UfsError::NotFound(failure)) if run == Run::Again => {
            let found = store.stat(&intent.to_key).await.map_err(store_error)?;
            match found.is_some_and(|found| is_moved(intent, &found)) {
                true => Ok(()),
                false => Err(store_error(UfsError::NotFound(failure))),
            }
        }
        outcome => outcome.map_err(store_error),
    }
}

/// Whether what lies at the target can be what was to be moved there.
fn is_moved(intent: &RenameIntent, found: &ObjectMeta) -> bool {
    match intent.directory {
        true => found.is_directory(),
        false if intent.source_tag.is_empty() => !found.is_directory() && found.length == intent.source_length,
        false => !found.is_directory() && is_renamed(&VersionTag(intent.source_tag.clone()), &found.tag),
    }
}

fn ended(payload: Payload) -> Result<Attempt> {
    match payload {
        Payload::Renamed(_) | Payload::Done(_) => Ok(Attempt::Ended),
        other => Err(internal(format!("rename was answered {other:?}"))),
    }
}

/// Brings intents to their end that a crash or a failing store has left, until told to stop.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut lanes = Lanes::new("rename");
    loop {
        if let Err(error) = begin_passes(&core, &mut lanes).await {
            tracing::warn!(%error, "unfinished renames cannot be looked at for now");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = lanes.ended() => {}
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
}

/// Begins a pass for each mount that has intents.
async fn begin_passes(core: &Arc<Core>, lanes: &mut Lanes) -> Result<()> {
    let snapshot = core.read().await?;
    let intents = query::rename_intents(&*snapshot).map_err(state_error)?;
    copy::forget_leftovers(core, &snapshot, &intents).await?;
    drop(snapshot);
    for intent in &intents {
        let mount = MountId(intent.mount);
        if lanes.is_free(mount) {
            let own = intents.iter().filter(|other| other.mount == intent.mount).cloned().collect();
            lanes.begin(mount, resume(Arc::clone(core), own));
        }
    }
    Ok(())
}

async fn resume(core: Arc<Core>, intents: Vec<RenameIntent>) -> Result<()> {
    let mut failed = None;
    for intent in intents {
        let (from, to) = (parse_path(&intent.from)?, parse_path(&intent.to)?);
        // Whoever drives it now holds these.
        let _guard = core.locks.lock(vec![from, to]).await;
        let intents = query::rename_intents(&*core.read().await?).map_err(state_error)?;
        let Some(intent) = intents.into_iter().find(|other| other.id == intent.id) else {
            continue;
        };
        let id = intent.id;
        match intent.phase() {
            IntentPhase::Undoing => {
                if let Some(mount) = core.mounts.get(MountId(intent.mount)) {
                    finish::undo(&core, &mount, &intent).await;
                }
            }
            _ => failed = drive(&core, intent, None, Run::Again).await.err().or(failed),
        }
        let intents = query::rename_intents(&*core.glance()).map_err(state_error)?;
        if intents.iter().any(|other| other.id == id) {
            failed.get_or_insert_with(|| WireError::new(ErrorKind::Unavailable, format!("rename {id} is not over")));
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn what_stands_at_the_target_is_not_taken_for_what_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("target"), "old bytes").unwrap();
        let uri = format!("file://{}", dir.path().display());
        let store = forebay_ufs::open(&uri, &forebay_ufs::OpenOptions::default()).unwrap();
        let tag = store.stat(b"target").await.unwrap().unwrap().tag.0;
        let intent = |source_tag: &str| RenameIntent {
            from_key: Bytes::from_static(b"gone"),
            to_key: Bytes::from_static(b"target"),
            source_tag: source_tag.to_owned(),
            ..RenameIntent::default()
        };
        let not_found = |outcome: Result<()>| outcome.unwrap_err().kind == ErrorKind::NotFound;
        assert!(not_found(rename_at_once(&store, &intent(&tag), Run::First).await));
        assert!(not_found(rename_at_once(&store, &intent("another"), Run::Again).await));
        rename_at_once(&store, &intent(&tag), Run::Again).await.unwrap();
        let directory = RenameIntent { directory: true, ..intent("") };
        assert!(not_found(rename_at_once(&store, &directory, Run::Again).await));
    }
}
