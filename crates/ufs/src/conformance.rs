//! The contract of [`Ufs`] as a suite that every store passes. A check panics with what was wrong.
//!
//! The suite speaks the trait only, and works in directories of its own below the root, which it empties again.

mod grants;
mod listing;
mod objects;
mod uploads;

use crate::{DeleteTarget, ListCursor, ListEntry, ObjectKind, ObjectMeta, PutCondition, Ufs, UfsError, UfsResult};
use bytes::Bytes;
use futures::TryStreamExt;
use std::sync::Arc;

/// What a store can hold at all. The suite leaves out what it cannot.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    /// `a` beside `a/b`, shown by listings.
    pub side_by_side: bool,
    /// Directories that were made and have no entries.
    pub made_directories: bool,
    /// Exactly one of several writers with [`PutCondition::IfAbsent`] wins.
    pub atomic_if_absent: bool,
    /// An upload that is over is told from a failure of the store.
    pub ended_uploads: bool,
    /// Unfinished uploads are listed by a prefix of their keys, page by page.
    pub paged_uploads: bool,
    /// Completing an upload heeds the version it may replace.
    pub completes_if_tag: bool,
    /// A delete heeds the version it may take away, alone and among others, without being asked first.
    pub deletes_if_listed: bool,
}

impl Holds {
    /// A store without gaps.
    pub const ALL: Holds = Holds {
        side_by_side: true,
        made_directories: true,
        atomic_if_absent: true,
        ended_uploads: true,
        paged_uploads: true,
        completes_if_tag: true,
        deletes_if_listed: true,
    };
}

/// Runs every check, one after the other.
pub async fn run(store: Arc<dyn Ufs>, holds: Holds) {
    let suite = Suite { store, holds };
    objects::run(&suite).await;
    grants::run(&suite).await;
    listing::run(&suite).await;
    uploads::run(&suite).await;
    suite.probe_leaves_nothing().await;
}

/// A directory of `count` entries is listed whole, in order, page by page, and never more than a page at once.
pub async fn large_listing(store: Arc<dyn Ufs>, count: usize) {
    let suite = Suite { store, holds: Holds::ALL };
    listing::large(&suite, count).await;
}

/// The store under test, and the verbs of the checks.
struct Suite {
    store: Arc<dyn Ufs>,
    holds: Holds,
}

impl Suite {
    async fn put(&self, key: &str, body: impl Into<Bytes>) -> ObjectMeta {
        self.store
            .put(key.as_bytes(), vec![body.into()], &PutCondition::None)
            .await
            .unwrap_or_else(|error| panic!("put {key}: {error}"))
    }

    async fn stat(&self, key: &str) -> Option<ObjectMeta> {
        self.store.stat(key.as_bytes()).await.unwrap_or_else(|error| panic!("stat {key}: {error}"))
    }

    async fn try_read(&self, key: &str, meta: &ObjectMeta) -> UfsResult<Vec<u8>> {
        let stream = self.store.read(key.as_bytes(), 0..meta.length, &meta.expected()).await?;
        collect(stream).await
    }

    /// The whole content, whatever its version.
    async fn content(&self, key: &str) -> Vec<u8> {
        let meta = self.stat(key).await.unwrap_or_else(|| panic!("{key} is missing"));
        self.try_read(key, &meta).await.unwrap_or_else(|error| panic!("read {key}: {error}"))
    }

    async fn list_from(&self, directory: &str, from: Option<&ListCursor>, limit: usize) -> crate::ListPage {
        let page = self.store.list(directory.as_bytes(), from, limit).await;
        let page = page.unwrap_or_else(|error| panic!("list {directory}: {error}"));
        assert!(page.entries.len() <= limit, "a page of {} for {limit}", page.entries.len());
        let places: Vec<_> = page.entries.iter().map(ListEntry::list_key).collect();
        assert!(places.is_sorted(), "the page is out of order: {places:?}");
        page
    }

    /// Every entry of a directory, read in pages of `limit`, each shown as in `ls -F`.
    async fn list(&self, directory: &str, limit: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut from = None;
        loop {
            let page = self.list_from(directory, from.as_ref(), limit).await;
            names.extend(page.entries.iter().map(shown));
            from = page.next;
            if from.is_none() {
                return names;
            }
        }
    }

    async fn delete(&self, targets: &[DeleteTarget]) {
        let results = self.store.delete(targets).await.expect("delete");
        assert_eq!(results.len(), targets.len());
        for (target, result) in targets.iter().zip(results) {
            result.unwrap_or_else(|error| panic!("delete {target:?}: {error}"));
        }
    }

    async fn delete_file(&self, key: &str) {
        self.delete(&[DeleteTarget::file(key.as_bytes().to_vec())]).await;
    }

    /// Deletes a directory and all below.
    async fn clear(&self, directory: &str) {
        let mut directories = vec![directory.to_owned()];
        let mut next = 0;
        while next < directories.len() {
            let here = directories[next].clone();
            next += 1;
            let mut from = None;
            loop {
                let page = match self.store.list(here.as_bytes(), from.as_ref(), 1000).await {
                    Err(UfsError::NotFound(_)) => break,
                    page => page.unwrap_or_else(|error| panic!("list {here}: {error}")),
                };
                let mut files = Vec::new();
                for entry in &page.entries {
                    let key = crate::key::join(here.as_bytes(), &entry.name);
                    match entry.meta.kind {
                        ObjectKind::File => files.push(DeleteTarget::file(key)),
                        ObjectKind::Directory => {
                            directories.push(String::from_utf8(key).expect("utf-8"));
                        }
                    }
                }
                self.delete(&files).await;
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        for directory in directories.iter().rev() {
            self.delete(&[DeleteTarget::directory(directory.as_bytes().to_vec())]).await;
        }
    }

    async fn probe_leaves_nothing(&self) {
        let before = self.list("", 1000).await;
        self.store.check(crate::Access::Read).await.expect("check for reading");
        self.store.check(crate::Access::ReadWrite).await.expect("check for writing");
        let after = self.list("", 1000).await;
        assert_eq!(after, before, "a check left something behind");
    }
}

async fn collect(stream: crate::ByteStream) -> UfsResult<Vec<u8>> {
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    Ok(chunks.concat())
}

fn shown(entry: &ListEntry) -> String {
    String::from_utf8_lossy(&entry.list_key().0).into_owned()
}

/// Asserts the variant of an error.
macro_rules! assert_fails {
    ($result:expr, $variant:ident, $what:expr) => {
        match $result {
            Err(crate::UfsError::$variant(_)) => {}
            Err(other) => panic!("{}: expected {}, got {other:?}", $what, stringify!($variant)),
            Ok(_) => panic!("{}: expected {}, but it succeeded", $what, stringify!($variant)),
        }
    };
}
use assert_fails;

/// Bytes that differ at every position, from a seed.
fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8).wrapping_add(seed)).collect()
}
