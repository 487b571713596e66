//! The end of a rename in an object store: deleting what it copied when it is committed, or what it wrote when it is given up.
//!
//! Each object goes only while it is the version that was recorded. What other programs put at either end stays, and is loaded when asked for.

use super::copy::object_at;
use crate::core::{Core, parse_path};
use crate::error::{Result, state_error, store_error};
use crate::metrics::names;
use crate::mounts::Mounted;
use crate::ops::purge::mark_if_empty;
use crate::ops::store_walk::{PAGE_LEN, join};
use bytes::Bytes;
use forebay_base::VersionTag;
use forebay_metastore::Read;
use forebay_namespace::command::{EndRename, ForgetCopies, RetagFiles, Retagged};
use forebay_namespace::query;
use forebay_namespace::record::{Copied, RenameIntent};
use forebay_proto::error::WireError;
use forebay_ufs::{DeleteCondition, DeleteTarget, ObjectKind, Ufs, UfsError};
use std::collections::HashMap;
use std::sync::Arc;

/// Deletes the source's objects of a committed intent and ends it; what fails is tried again in the background.
pub(super) async fn clean(core: &Core, mount: &Mounted, intent: &RenameIntent) {
    let outcome = async {
        let store = mount.store()?;
        if !store.capabilities().native_rename {
            if let Some(slash) = intent.from_key.iter().rposition(|byte| *byte == b'/') {
                mark_if_empty(core, mount, &intent.from_key[..slash]).await?;
            }
            delete_sources(core, mount, store, intent).await?;
        }
        core.propose(EndRename { intent: intent.id }).await?;
        Ok::<(), WireError>(())
    };
    if let Err(error) = outcome.await {
        metrics::counter!(names::BACKGROUND_FAILURES, "task" => "rename").increment(1);
        tracing::warn!(intent = intent.id, %error, "a rename's source cannot be deleted yet");
    }
    // What others put there meanwhile is to be seen.
    look_again(core, mount, &intent.from);
    core.work.unblocked.notify_waiters();
}

async fn delete_sources(core: &Core, mount: &Mounted, store: &Arc<dyn Ufs>, intent: &RenameIntent) -> Result<()> {
    loop {
        let copies = query::last_copied(&*core.read().await?, intent.id, PAGE_LEN).map_err(state_error)?;
        if copies.is_empty() {
            return Ok(());
        }
        retag(core, mount, intent, &copies).await?;
        // A mark that the source did not have was made at the target alone.
        let copied = copies.iter().filter(|copied| !copied.source_tag.is_empty());
        let targets = copied.map(|copied| target(&intent.from_key, copied, &copied.source_tag)).collect();
        delete(core, store, targets).await?;
        forget(core, intent, &copies).await?;
    }
}

/// Has files show the marks that their copies have, so that they stay cached and can be deleted.
async fn retag(core: &Core, mount: &Mounted, intent: &RenameIntent, copies: &[Copied]) -> Result<()> {
    let snapshot = core.glance();
    let mut parents: HashMap<&[u8], Option<u64>> = HashMap::new();
    let mut files = Vec::new();
    for copied in copies.iter().filter(|copied| copied.source_tag != copied.target_tag) {
        let (directory, name) = match copied.key.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&copied.key[..slash], &copied.key[slash + 1..]),
            None => (&b""[..], &copied.key[..]),
        };
        // Neither a mark, nor the renamed file itself, whose mark the commit has brought.
        if name.is_empty() {
            continue;
        }
        let parent = match parents.get(directory) {
            Some(parent) => *parent,
            None => {
                let found = inode_at(&*snapshot, mount, &directory_key(&intent.to_key, directory))?;
                parents.insert(directory, found);
                found
            }
        };
        files.extend(parent.map(|parent| Retagged {
            parent,
            name: Bytes::copy_from_slice(name),
            before: copied.source_tag.clone(),
            tag: copied.target_tag.clone(),
        }));
    }
    if !files.is_empty() {
        core.propose(RetagFiles { files }).await?;
    }
    Ok(())
}

fn directory_key(end: &Bytes, directory: &[u8]) -> Bytes {
    match directory {
        b"" => end.clone(),
        directory => join(end, directory),
    }
}

fn inode_at(read: &dyn Read, mount: &Mounted, key: &[u8]) -> Result<Option<u64>> {
    let Ok(path) = mount.path_of_key(key) else {
        return Ok(None);
    };
    let resolved = query::resolve(read, &path).map_err(state_error)?;
    Ok(resolved.found().map(|step| step.inode.id))
}

/// Takes away what a given up intent wrote, and ends it. When that fails the background goes on with it.
pub(super) async fn undo(core: &Core, mount: &Mounted, intent: &RenameIntent) {
    let outcome = async {
        let store = mount.store()?;
        match store.capabilities().native_rename {
            true => undo_at_once(core, store, intent).await?,
            false => delete_copies(core, store, intent).await?,
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

async fn delete_copies(core: &Core, store: &Arc<dyn Ufs>, intent: &RenameIntent) -> Result<()> {
    loop {
        let copies = query::last_copied(&*core.read().await?, intent.id, PAGE_LEN).map_err(state_error)?;
        if copies.is_empty() {
            return Ok(());
        }
        let mut targets = Vec::with_capacity(copies.len());
        for copied in copies.iter().filter(|copied| !is_replacement(intent, copied)) {
            let tag = written_tag(store, intent, copied).await?;
            targets.extend(tag.map(|tag| target(&intent.to_key, copied, &tag)));
        }
        delete(core, store, targets).await?;
        forget(core, intent, &copies).await?;
    }
}

/// Whether a copy stands in the place of what the target had: then its name stays, with the content that it got.
fn is_replacement(intent: &RenameIntent, copied: &Copied) -> bool {
    intent.replaces && matches!(&copied.key[..], b"" | b"/")
}

/// The version that a copy gave at the target. Where that was not recorded any more, the source's, if it is there: then the bytes are the same.
async fn written_tag(store: &Arc<dyn Ufs>, intent: &RenameIntent, copied: &Copied) -> Result<Option<String>> {
    if !copied.target_tag.is_empty() {
        return Ok(Some(copied.target_tag.clone()));
    }
    let (key, kind) = object_at(&intent.to_key, &copied.key);
    let found = store.stat_object(&key, kind).await.map_err(store_error)?;
    let is_empty_mark = |length| kind == ObjectKind::Directory && length == 0;
    let ours = found.filter(|found| found.tag.0 == copied.source_tag || is_empty_mark(found.length));
    Ok(ours.map(|found| found.tag.0))
}

/// Renames back what was renamed, when the source is gone and the target is what it was.
async fn undo_at_once(core: &Core, store: &Arc<dyn Ufs>, intent: &RenameIntent) -> Result<()> {
    let source = store.stat(&intent.from_key).await.map_err(store_error)?;
    let target = store.stat(&intent.to_key).await.map_err(store_error)?;
    let moved = target.is_some_and(|target| super::is_moved(intent, &target));
    if source.is_none() && moved {
        core.still_leads().await?;
        store.rename(&intent.to_key, &intent.from_key).await.map_err(store_error)?;
    }
    Ok(())
}

fn target(end: &Bytes, copied: &Copied, tag: &str) -> DeleteTarget {
    let (key, kind) = object_at(end, &copied.key);
    DeleteTarget { key, kind, condition: DeleteCondition::IfTag(VersionTag(tag.to_owned())) }
}

/// Files first, then marks, the deepest first: gateways over file systems keep the mark of a directory that has entries.
async fn delete(core: &Core, store: &Arc<dyn Ufs>, mut targets: Vec<DeleteTarget>) -> Result<()> {
    let depth = |target: &DeleteTarget| match target.kind {
        ObjectKind::File => usize::MAX,
        ObjectKind::Directory => target.key.iter().filter(|byte| **byte == b'/').count(),
    };
    targets.sort_by_key(|target| std::cmp::Reverse(depth(target)));
    for together in targets.chunk_by(|a, b| depth(a) == depth(b)) {
        core.still_leads().await?;
        for outcome in store.delete(together).await.map_err(store_error)? {
            match outcome {
                Ok(()) | Err(UfsError::VersionChanged(_) | UfsError::NotEmpty(_)) => {}
                Err(error) => return Err(store_error(error)),
            }
        }
    }
    Ok(())
}

async fn forget(core: &Core, intent: &RenameIntent, copies: &[Copied]) -> Result<()> {
    let keys = copies.iter().map(|copied| copied.key.clone()).collect();
    core.propose(ForgetCopies { intent: intent.id, keys }).await?;
    Ok(())
}

fn look_again(core: &Core, mount: &Mounted, path: &[u8]) {
    let Ok(path) = parse_path(path) else { return };
    core.freshness.forget(mount.id(), &path);
    if let Some(parent) = path.parent() {
        core.freshness.forget(mount.id(), &parent);
    }
}
