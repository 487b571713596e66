//! The copies of a rename in an object store.
//!
//! What is about to be copied is recorded before, and the version that this gave after: so an undone rename deletes just what it wrote, and a
//! committed one just what it copied, also when the master was killed at any point. No copy replaces what it does not know; each is looked at
//! where it now lies before the rename is committed.

use crate::core::Core;
use crate::error::{Result, internal, state_error, store_error};
use crate::metrics::names;
use crate::ops::store_walk::{PAGE_LEN, StoreWalk, Visit, join};
use bytes::Bytes;
use forebay_base::{ErrorKind, VersionTag};
use forebay_metastore::Snapshot;
use forebay_namespace::command::{ForgetCopies, RecordCopies};
use forebay_namespace::query;
use forebay_namespace::record::{Copied, RenameIntent};
use forebay_proto::error::WireError;
use forebay_ufs::{Expected, ObjectKind, ObjectMeta, PutCondition, Ufs, UfsError, UfsResult};
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The copies of one rename.
pub(super) struct Copies<'a> {
    pub(super) core: &'a Core,
    pub(super) store: &'a Arc<dyn Ufs>,
    pub(super) intent: &'a RenameIntent,
    /// Whether an earlier run may have copied some already.
    pub(super) resumed: bool,
}

/// One object to copy.
struct Item {
    /// See [`Copied::key`].
    below: Bytes,
    /// The version; none for a mark that the target is to have and the source has not.
    source: Option<Expected>,
    /// What an earlier run recorded.
    before: Option<Copied>,
}

/// How one copy ended.
enum Ended {
    Copied(Copied),
    /// It is certain that nothing was written.
    NotBegun(Bytes),
    Failed {
        error: WireError,
        /// The key, when it is certain that nothing was written.
        untouched: Option<Bytes>,
    },
}

/// Which of a name's two objects a recorded key is, and the object's key at one end of the rename.
pub(super) fn object_at(end: &Bytes, below: &[u8]) -> (Bytes, ObjectKind) {
    match below {
        b"" => (end.clone(), ObjectKind::File),
        b"/" => (end.clone(), ObjectKind::Directory),
        [directory @ .., b'/'] => (join(end, directory), ObjectKind::Directory),
        file => (join(end, file), ObjectKind::File),
    }
}

impl Copies<'_> {
    /// Copies the file; the version at its new place.
    pub(super) async fn file(&self) -> Result<String> {
        let intent = self.intent;
        let source = match intent.source_tag.as_str() {
            "" => self.found(&intent.from_key, ObjectKind::File).await?.map(|found| found.expected()),
            tag => Some(Expected { tag: VersionTag(tag.to_owned()), length: intent.source_length }),
        };
        let source = source.ok_or_else(|| self.changed(&intent.from))?;
        self.page(vec![Item { below: Bytes::new(), source: Some(source), before: None }]).await?;
        let copied = query::copied(&*self.core.glance(), intent.id, b"").map_err(state_error)?;
        copied
            .map(|copied| copied.target_tag)
            .ok_or_else(|| internal(format!("the copy of rename {} is lost", intent.id)))
    }

    /// Copies everything below the directory, and the objects that mark directories.
    pub(super) async fn tree(&self) -> Result<()> {
        let from = &self.intent.from_key;
        let mut items = Vec::new();
        // Some tools mark a directory by an empty object of its bare name.
        let bare = self.found(from, ObjectKind::File).await?;
        if let Some(bare) = bare.filter(|bare| bare.length == 0) {
            items.push(Item { below: Bytes::new(), source: Some(bare.expected()), before: None });
        }
        let mut walk = StoreWalk::below(from.clone());
        while let Some(visit) = walk.next(self.store).await? {
            match visit {
                Visit::Files { directory, files } => {
                    let below = self.below(&directory);
                    items.extend(files.into_iter().map(|file| Item {
                        below: join(&below, &file.name),
                        source: Some(file.meta.expected()),
                        before: None,
                    }));
                }
                Visit::Left { directory, marker, empty } => {
                    // The renamed directory itself is to stay when its last entry goes, as in a file system.
                    if marker.is_some() || empty || directory == *from {
                        let below = [&self.below(&directory)[..], b"/"].concat().into();
                        items.push(Item { below, source: marker.map(|marker| marker.expected()), before: None });
                    }
                }
            }
            while items.len() >= PAGE_LEN {
                let rest = items.split_off(PAGE_LEN);
                self.page(std::mem::replace(&mut items, rest)).await?;
            }
        }
        self.page(items).await
    }

    fn below(&self, key: &Bytes) -> Bytes {
        let from_len = self.intent.from_key.len();
        key.slice((from_len + 1).min(key.len())..)
    }

    /// Copies some objects, at most a page of them, several at a time.
    async fn page(&self, mut items: Vec<Item>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.recall(&mut items)?;
        let planned = items.iter().filter(|item| !item.is_done()).map(Item::planned).collect();
        self.record(planned).await?;
        let failed = AtomicBool::new(false);
        let copies = items.iter().map(|item| self.one(item, &failed)).collect::<Vec<_>>();
        let at_once = self.core.settings.rename_copies.max(1);
        let ended: Vec<Ended> = stream::iter(copies).buffer_unordered(at_once).collect().await;
        let (mut done, mut untouched, mut failure) = (Vec::new(), Vec::new(), None);
        for ended in ended {
            match ended {
                Ended::Copied(copied) => done.push(copied),
                Ended::NotBegun(below) => untouched.push(below),
                Ended::Failed { error, untouched: none } => {
                    untouched.extend(none);
                    failure.get_or_insert(error);
                }
            }
        }
        self.record(done).await?;
        if !untouched.is_empty() {
            self.core.propose(ForgetCopies { intent: self.intent.id, keys: untouched }).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn record(&self, copies: Vec<Copied>) -> Result<()> {
        if !copies.is_empty() {
            self.core.propose(RecordCopies { intent: self.intent.id, copies }).await?;
        }
        Ok(())
    }

    /// Finds what an earlier run recorded.
    fn recall(&self, items: &mut [Item]) -> Result<()> {
        if !self.resumed {
            return Ok(());
        }
        let snapshot = self.core.glance();
        for item in items {
            item.before = query::copied(&*snapshot, self.intent.id, &item.below).map_err(state_error)?;
        }
        Ok(())
    }

    async fn one(&self, item: &Item, failed: &AtomicBool) -> Ended {
        if failed.load(Ordering::Relaxed) {
            // What an earlier run wrote stays recorded.
            return match &item.before {
                Some(before) => Ended::Copied(before.clone()),
                None => Ended::NotBegun(item.below.clone()),
            };
        }
        match self.copy(item).await {
            Ok(Some(copy)) => Ended::Copied(Copied { target_tag: copy.tag.0, ..item.planned() }),
            Ok(None) => Ended::NotBegun(item.below.clone()),
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                let untouched = item.before.is_none() && is_certain(&error);
                let error = match error {
                    UfsError::VersionChanged(_) | UfsError::AlreadyExists(_) | UfsError::NotFound(_) => {
                        self.changed_because(&error)
                    }
                    error => store_error(error),
                };
                Ended::Failed { error, untouched: untouched.then(|| item.below.clone()) }
            }
        }
    }

    /// Copies one object and looks at the copy; none when others' mark will do and nothing was written.
    async fn copy(&self, item: &Item) -> UfsResult<Option<ObjectMeta>> {
        let (to, kind) = object_at(&self.intent.to_key, &item.below);
        let found = match self.resumed || self.may_replace(item) {
            true => self.store.stat_object(&to, kind).await?,
            false => None,
        };
        if let (Some(found), Some(before)) = (&found, &item.before)
            && item.is_done()
            && found.tag.0 == before.target_tag
        {
            return Ok(Some(found.clone()));
        }
        let Some(source) = &item.source else {
            return self.make_marker(item, &to).await;
        };
        let (from, _) = object_at(&self.intent.from_key, &item.below);
        let condition = self.condition(item, found.as_ref());
        let made = match kind {
            ObjectKind::File => self.store.copy(&from, &to, source, &condition).await,
            ObjectKind::Directory => self.store.copy_marker(&from, &to, source, &condition).await,
        };
        let made = made?;
        metrics::counter!(names::RENAME_COPIES).increment(1);
        let at_target = self.store.stat_object(&to, kind).await?;
        match at_target {
            Some(copy) if copy.tag == made.tag && copy.length == made.length => Ok(Some(copy)),
            _ => Err(UfsError::VersionChanged(Box::new(forebay_ufs::Failure {
                operation: "copy to",
                store: self.store.uri().to_owned(),
                key: String::from_utf8_lossy(&to).into_owned(),
                detail: "what is there now is not the copy".to_owned(),
                hint: String::new(),
            }))),
        }
    }

    /// Marks a directory at the target that had no mark at the source. A mark that stands there already is not ours, and stays when the rename
    /// is undone.
    async fn make_marker(&self, item: &Item, to: &Bytes) -> UfsResult<Option<ObjectMeta>> {
        if item.before.is_none() && self.store.stat_object(to, ObjectKind::Directory).await?.is_some() {
            return Ok(None);
        }
        self.store.make_directory(to).await?;
        let made = self.store.stat_object(to, ObjectKind::Directory).await?;
        // Some gateways over file systems have the directory and show no mark.
        Ok(Some(made.unwrap_or_else(ObjectMeta::directory)))
    }

    /// Whether something may stand at the target by right.
    fn may_replace(&self, item: &Item) -> bool {
        self.intent.replaces && matches!(&item.below[..], b"" | b"/")
    }

    /// What the copy may replace: what the rename replaces, and what an earlier run of it wrote.
    fn condition(&self, item: &Item, found: Option<&ObjectMeta>) -> PutCondition {
        let Some(found) = found else {
            return PutCondition::IfAbsent;
        };
        let replaced = self.may_replace(item)
            && (self.intent.directory || ["", found.tag.0.as_str()].contains(&self.intent.replaced_tag.as_str()));
        let ours = item.before.as_ref().is_some_and(|before| match before.target_tag.as_str() {
            // It was killed between the copy and its record: an object of these bytes, or at least of this length and not known to have others.
            "" => item.source.as_ref().is_none_or(|source| may_be_copy(source, found)),
            tag => tag == found.tag.0,
        });
        match replaced || ours {
            true => PutCondition::IfTag(found.tag.clone()),
            false => PutCondition::IfAbsent,
        }
    }

    async fn found(&self, key: &Bytes, kind: ObjectKind) -> Result<Option<ObjectMeta>> {
        self.store.stat_object(key, kind).await.map_err(store_error)
    }

    fn changed(&self, path: &[u8]) -> WireError {
        let path = String::from_utf8_lossy(path);
        self.conflict(format!("{path} was changed in its store while it was being renamed"))
    }

    fn changed_because(&self, error: &UfsError) -> WireError {
        self.conflict(format!("{error}: it was changed in the store while it was being renamed"))
    }

    fn conflict(&self, message: String) -> WireError {
        WireError::new(ErrorKind::Conflict, message).with_hint("look at what is there now, then rename again")
    }
}

impl Item {
    /// Whether an earlier run has copied this version.
    fn is_done(&self) -> bool {
        let tag = self.source.as_ref().map_or("", |source| source.tag.0.as_str());
        self.before.as_ref().is_some_and(|before| !before.target_tag.is_empty() && before.source_tag == tag)
    }

    /// The record before the copy: with what an earlier run left at the target.
    fn planned(&self) -> Copied {
        Copied {
            key: self.below.clone(),
            source_tag: self.source.as_ref().map_or_else(String::new, |source| source.tag.0.clone()),
            target_tag: self.before.as_ref().map_or_else(String::new, |before| before.target_tag.clone()),
        }
    }
}

/// Whether a copy that ended so has written nothing, or nothing that is there now.
fn is_certain(error: &UfsError) -> bool {
    !error.is_retryable() && !matches!(error, UfsError::Protocol(_))
}

/// Whether an object can be a copy of a version: the marks of equal bytes are equal where they are checksums, and say nothing elsewhere.
fn may_be_copy(source: &Expected, found: &ObjectMeta) -> bool {
    let is_checksum = |tag: &str| tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let both = is_checksum(&source.tag.0) && is_checksum(&found.tag.0);
    found.length == source.length && (!both || source.tag == found.tag)
}

/// Takes out some of what was recorded of renames that are over: their mount was removed before they were. The intents are those of the snapshot.
pub(super) async fn forget_leftovers(core: &Core, snapshot: &Snapshot, intents: &[RenameIntent]) -> Result<()> {
    let mut from = 0;
    while let Some(intent) = query::next_copied_intent(&**snapshot, from).map_err(state_error)? {
        from = intent + 1;
        if intents.iter().all(|known| known.id != intent) {
            let copies = query::last_copied(&**snapshot, intent, PAGE_LEN).map_err(state_error)?;
            let keys = copies.into_iter().map(|copied| copied.key).collect();
            core.propose(ForgetCopies { intent, keys }).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_keys_name_objects() {
        let check = |end: &'static str, below: &str, key: &str, kind| {
            assert_eq!(
                object_at(&Bytes::from(end), below.as_bytes()),
                (Bytes::from(key.to_owned()), kind),
                "{below:?}"
            );
        };
        check("a/b", "", "a/b", ObjectKind::File);
        check("a/b", "/", "a/b", ObjectKind::Directory);
        check("a/b", "c/", "a/b/c", ObjectKind::Directory);
        check("a/b", "c/d", "a/b/c/d", ObjectKind::File);
    }
}
