//! The one walk over everything below a directory of a store: a page of files at a time on the way down, each directory on the way up.
//!
//! It holds one page of names for each level, however large the directories. Deleting what it gave does not disturb it. It can go on from a [`Place`], which
//! is short enough to be stored.

use crate::error::{Result, store_error};
use bytes::Bytes;
use forebay_ufs::{ListCursor, ListEntry, ListKey, ObjectKind, ObjectMeta, Ufs, UfsError};
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

/// Where a walk stands. All that comes before it has been given; up to a page of files of each level may be given again by who goes on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The key of the directory that it is in.
    pub(crate) directory: Bytes,
    /// What it has come past there; empty: nothing.
    pub(crate) after: ListKey,
}

/// One directory on the way down.
struct Frame {
    key: Bytes,
    /// Those of the last page that are still to be gone into, in the order of listings: what was passed is all that comes before.
    directories: VecDeque<Bytes>,
    cursor: Option<ListCursor>,
    /// The last that was listed.
    last: ListKey,
    ended: bool,
    empty: bool,
    marker: Option<ObjectMeta>,
    /// The first page, which has the marker, was given before.
    resumed: bool,
}

impl StoreWalk {
    /// Over what lies below `directory`, which comes last itself.
    pub(crate) fn below(directory: Bytes) -> StoreWalk {
        StoreWalk { frames: vec![Frame::new(directory)] }
    }

    /// As [`StoreWalk::below`] goes on from a place that it has stood at.
    pub(crate) fn resume(directory: Bytes, place: &Place) -> StoreWalk {
        let mut walk = StoreWalk::below(directory);
        let top_len = walk.top().len();
        let below = place.directory.get(top_len..).unwrap_or_default();
        for name in below.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let child = join(walk.top(), name);
            walk.stand_after(ListKey::new(name, ObjectKind::Directory));
            walk.frames.push(Frame::new(child));
        }
        walk.stand_after(place.after.clone());
        walk
    }

    /// The key of the directory that it is in.
    fn top(&self) -> &[u8] {
        self.frames.last().map(|frame| &frame.key[..]).unwrap_or_default()
    }

    fn stand_after(&mut self, after: ListKey) {
        if let Some(frame) = self.frames.last_mut().filter(|_| !after.0.is_empty()) {
            frame.cursor = Some(ListCursor::after(after.clone()));
            (frame.last, frame.resumed, frame.empty) = (after, true, false);
        }
    }

    /// Where it stands; none at the end.
    pub(crate) fn place(&self) -> Option<Place> {
        let frame = self.frames.last()?;
        Some(match frame.directories.front() {
            Some(next) => Place { directory: next.clone(), after: ListKey(Bytes::new()) },
            None => Place { directory: frame.key.clone(), after: frame.last.clone() },
        })
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
            let Some(Frame { key, mut marker, empty, resumed, .. }) = self.frames.pop() else {
                return Ok(None);
            };
            if resumed && marker.is_none() && !store.capabilities().real_directories {
                marker = store.stat_object(&key, ObjectKind::Directory).await.map_err(store_error)?;
            }
            return Ok(Some(Visit::Left { directory: key, marker, empty }));
        }
    }
}

impl Frame {
    fn new(key: Bytes) -> Frame {
        Frame {
            key,
            directories: VecDeque::new(),
            cursor: None,
            last: ListKey(Bytes::new()),
            ended: false,
            empty: true,
            marker: None,
            resumed: false,
        }
    }

    /// The files of the next page; its directories are kept.
    async fn fill(&mut self, store: &Arc<dyn Ufs>) -> Result<Vec<ListEntry>> {
        let page = match store.list(&self.key, self.cursor.as_ref(), PAGE_LEN).await {
            Err(UfsError::NotFound(_)) => Default::default(),
            page => page.map_err(store_error)?,
        };
        let last = page.next.as_ref().map(|next| next.list_key().clone());
        if let Some(last) = last.or_else(|| page.entries.last().map(ListEntry::list_key)) {
            self.last = last;
        }
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

    /// What is given between here and the end: files, and directories with a slash.
    async fn rest(walk: &mut StoreWalk, store: &Arc<dyn Ufs>) -> Vec<String> {
        let (mut seen, text) = (Vec::new(), |key: &[u8]| String::from_utf8_lossy(key).into_owned());
        while let Some(visit) = walk.next(store).await.expect("a visit") {
            match visit {
                Visit::Files { directory, files } => {
                    seen.extend(files.iter().map(|file| text(&join(&directory, &file.name))));
                }
                Visit::Left { directory, marker, .. } => {
                    seen.push(format!("{}/{}", text(&directory), if marker.is_some() { " marked" } else { "" }));
                }
            }
        }
        seen
    }

    #[tokio::test]
    async fn it_goes_on_from_any_place_that_it_stood_at() {
        let store = MemoryUfs::new();
        let mut keys: Vec<String> = (0..2500).map(|n| format!("d/{n:04}")).collect();
        keys.extend((0..1200).map(|n| format!("d/1500-/s/{n:04}")));
        keys.extend(
            ["d/", "d/1500-/s/", "d/0100/x", "d/1500/y", "d/1500-a/z", "d/2499/last", "d/e/f/g"].map(str::to_owned),
        );
        keys.iter().for_each(|key| drop(store.insert(key.as_bytes(), "x")));
        let store: Arc<dyn Ufs> = Arc::new(store);
        let top = Bytes::from_static(b"d");
        let mut whole = StoreWalk::below(top.clone());
        let all = rest(&mut whole, &store).await;
        assert_eq!(whole.place(), None);
        let mut walk = StoreWalk::below(top.clone());
        let mut given = Vec::new();
        while let Some(place) = walk.place() {
            let mut resumed = StoreWalk::resume(top.clone(), &place);
            let left = rest(&mut resumed, &store).await;
            let lost = all.iter().filter(|key| !given.contains(*key) && !left.contains(key));
            assert_eq!(lost.collect::<Vec<_>>(), Vec::<&String>::new(), "from {place:?}");
            let again = left.iter().filter(|key| given.contains(*key)).count();
            assert!(again <= 2 * PAGE_LEN, "{again} are given again from {place:?}");
            let once: std::collections::HashSet<&String> = left.iter().collect();
            assert_eq!(once.len(), left.len());
            match walk.next(&store).await.expect("a visit") {
                Some(Visit::Files { directory, files }) => {
                    let key = |file: &ListEntry| String::from_utf8_lossy(&join(&directory, &file.name)).into_owned();
                    given.extend(files.iter().map(key));
                }
                Some(Visit::Left { directory, marker, .. }) => {
                    let marked = if marker.is_some() { " marked" } else { "" };
                    given.push(format!("{}/{marked}", String::from_utf8_lossy(&directory)));
                }
                None => break,
            }
        }
        assert_eq!(given, all);
        assert!(all.contains(&"d/ marked".to_owned()) && all.contains(&"d/1500-/s/ marked".to_owned()));
    }

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
