//! The one walk over everything below a directory of a store: a page of files at a time on the way down, each directory on the way up.
//!
//! It holds one page of names for each level, however large the directories. Deleting what it gave does not disturb it.

use crate::error::{Result, store_error};
use bytes::Bytes;
use forebay_ufs::{ListCursor, ListEntry, ObjectMeta, Ufs, UfsError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries of one page: what S3 gives at most.
pub(crate) const PAGE_LEN: usize = 1000;

/// What the walk comes by.
pub(crate) enum Visit {
    /// Files of a directory, a page of them; also such as share their name with a directory that is shown instead.
    Files {
        /// The directory's key.
        directory: Bytes,
        /// The files; may be none.
        files: Vec<ListEntry>,
    },
    /// All that lies below a directory has been given.
    Left {
        /// The directory's key.
        directory: Bytes,
        /// The object that marks it, in an object store.
        marker: Option<ObjectMeta>,
        /// Whether it had no entries.
        empty: bool,
    },
}

/// A walk under way.
pub(crate) struct StoreWalk {
    frames: Vec<Frame>,
}

/// One directory on the way down.
struct Frame {
    key: Bytes,
    /// Those of the last page that are still to be gone into, in the order of listings: what was passed is all that comes before.
    directories: VecDeque<Bytes>,
    cursor: Option<ListCursor>,
    ended: bool,
    empty: bool,
    marker: Option<ObjectMeta>,
}

impl StoreWalk {
    /// Over what lies below `directory`, which comes last itself.
    pub(crate) fn below(directory: Bytes) -> StoreWalk {
        StoreWalk { frames: vec![Frame::new(directory)] }
    }

    /// The next that it comes by; none at the end.
    pub(crate) async fn next(&mut self, store: &Arc<dyn Ufs>) -> Result<Option<Visit>> {
        loop {
            let Some(frame) = self.frames.last_mut() else {
                return Ok(None);
            };
            if let Some(directory) = frame.directories.pop_front() {
                self.frames.push(Frame::new(directory));
                continue;
            }
            if !frame.ended {
                let files = frame.fill(store).await?;
                return Ok(Some(Visit::Files { directory: frame.key.clone(), files }));
            }
            let Some(Frame { key, marker, empty, .. }) = self.frames.pop() else {
                return Ok(None);
            };
            return Ok(Some(Visit::Left { directory: key, marker, empty }));
        }
    }
}

impl Frame {
    fn new(key: Bytes) -> Frame {
        Frame { key, directories: VecDeque::new(), cursor: None, ended: false, empty: true, marker: None }
    }

    /// The files of the next page; its directories are kept.
    async fn fill(&mut self, store: &Arc<dyn Ufs>) -> Result<Vec<ListEntry>> {
        let page = match store.list(&self.key, self.cursor.as_ref(), PAGE_LEN).await {
            Err(UfsError::NotFound(_)) => Default::default(),
            page => page.map_err(store_error)?,
        };
        self.ended = page.next.is_none();
        self.cursor = page.next;
        self.marker = page.marker.or(self.marker.take());
        let hidden = page.hidden.into_iter().map(|hidden| ListEntry { name: hidden.name, meta: hidden.meta });
        let (mut files, mut directories) = (Vec::with_capacity(page.entries.len()), Vec::new());
        for entry in page.entries.into_iter().chain(hidden) {
            self.empty = false;
            match entry.meta.is_directory() {
                true => directories.push(entry.list_key()),
                false => files.push(entry),
            }
        }
        // Those that share their name with a file come last in the page.
        directories.sort();
        let keys = directories.iter().map(|key| join(&self.key, key.0.strip_suffix(b"/").unwrap_or(&key.0)));
        self.directories = keys.collect();
        Ok(files)
    }
}

/// The key of an entry of a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Bytes {
    match directory {
        b"" => Bytes::copy_from_slice(name),
        directory => [directory, b"/", name].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_ufs::memory::MemoryUfs;

    #[tokio::test]
    async fn everything_is_visited_once_and_directories_after_what_they_hold() {
        let store = MemoryUfs::new();
        for key in ["d/a", "d/b/c", "d/b/d/e", "d/f", "d/f/g", "d/h", "d-not", "x"] {
            store.insert(key.as_bytes(), key.to_owned());
        }
        store.insert(b"d/h", "");
        store.insert(b"d/h/i", "below an empty file of its name");
        store.insert(b"d/empty/", "");
        let store: Arc<dyn Ufs> = Arc::new(store);
        let (mut walk, mut seen) = (StoreWalk::below(Bytes::from_static(b"d")), Vec::new());
        while let Some(visit) = walk.next(&store).await.expect("a visit") {
            match visit {
                Visit::Files { directory, files } => {
                    let key = |file: &ListEntry| String::from_utf8_lossy(&join(&directory, &file.name)).into_owned();
                    seen.extend(files.iter().map(key));
                }
                Visit::Left { directory, marker, empty } => {
                    let directory = String::from_utf8_lossy(&directory).into_owned();
                    assert_eq!((marker.is_some(), empty), (directory == "d/empty", directory == "d/empty"));
                    seen.push(format!("{directory}/"));
                }
            }
        }
        let place = |key: &str| seen.iter().position(|other| other == key).expect(key);
        assert!(place("d/b/d/e") < place("d/b/d/") && place("d/b/d/") < place("d/b/") && place("d/b/") < place("d/"));
        let mut sorted = seen.clone();
        sorted.sort();
        let wanted = [
            "d/", "d/a", "d/b/", "d/b/c", "d/b/d/", "d/b/d/e", "d/empty/", "d/f", "d/f/", "d/f/g", "d/h", "d/h/",
            "d/h/i",
        ];
        assert_eq!(sorted, wanted);
    }
}
