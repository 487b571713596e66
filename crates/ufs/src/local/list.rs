//! Listings of a directory in order, with bounded memory.
//!
//! A file system gives names in no order. One pass over the directory keeps the [`WINDOW_LEN`] smallest names behind the place asked for; pages are
//! cut from that window, and the next pass begins where it ends. A directory of a million entries costs sixteen passes over its names, and never more
//! memory than one window. Windows of listings that go on are kept, a few at a time; one that was dropped costs a pass.

use super::root::{Found, OpenRoot, UPLOADS_DIR};
use super::{meta, root};
use crate::{ListCursor, ListEntry, ListKey, ListPage, ObjectKind, key};
use parking_lot::Mutex;
use rustix::fs::{self, AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::collections::{BinaryHeap, VecDeque};

/// Names of one window: 65,536 of 255 bytes at most are 16 MiB.
const WINDOW_LEN: usize = 65_536;
/// Windows kept for listings that go on.
const WINDOWS_MAX: usize = 4;

/// Windows by number, oldest first.
#[derive(Debug, Default)]
pub(super) struct Windows {
    kept: Mutex<VecDeque<(u64, Window)>>,
    last_number: std::sync::atomic::AtomicU64,
}

#[derive(Debug)]
struct Window {
    directory: Vec<u8>,
    /// In order; the first is next.
    places: VecDeque<ListKey>,
    /// The directory has more behind the window.
    more: bool,
}

impl Windows {
    /// One page of a directory.
    pub(super) fn page(
        &self,
        root: &OpenRoot,
        directory: &[u8],
        from: Option<&ListCursor>,
        limit: usize,
    ) -> Result<ListPage, Errno> {
        let mut window = match from.and_then(|cursor| self.take(directory, cursor)) {
            Some(window) => window,
            None => scan(root, directory, from.map(ListCursor::list_key), WINDOW_LEN)?,
        };
        let mut page = ListPage::default();
        let mut last = None;
        for _ in 0..limit.max(1) {
            let Some(place) = window.places.pop_front() else {
                break;
            };
            add(&mut page, root, directory, &place)?;
            last = Some(place);
        }
        if let Some(after) = last.filter(|_| window.more || !window.places.is_empty()) {
            page.next = Some(self.keep(after, window));
        }
        Ok(page)
    }

    /// The window that goes on behind a cursor, if it is still kept.
    fn take(&self, directory: &[u8], cursor: &ListCursor) -> Option<Window> {
        let number: u64 = cursor.token.as_ref()?.parse().ok()?;
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|(kept, window)| {
            *kept == number && window.directory == directory && window.places.front() > Some(&cursor.after)
        })?;
        kept.remove(at).map(|(_, window)| window)
    }

    fn keep(&self, after: ListKey, window: Window) -> ListCursor {
        if window.places.is_empty() {
            return ListCursor::after(after);
        }
        let number = 1 + self.last_number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut kept = self.kept.lock();
        if kept.len() == WINDOWS_MAX {
            kept.pop_front();
        }
        kept.push_back((number, window));
        ListCursor { after, token: Some(number.to_string()) }
    }
}

/// One pass: the first `len` names behind `from`.
fn scan(root: &OpenRoot, directory: &[u8], from: Option<&ListKey>, len: usize) -> Result<Window, Errno> {
    let fd = root.directory(directory)?;
    let mut smallest: BinaryHeap<ListKey> = BinaryHeap::new();
    let mut more = false;
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || name == UPLOADS_DIR.as_bytes() {
            continue;
        }
        let Some(kind) = kind_of(&fd, entry.file_type(), entry.file_name())? else {
            continue;
        };
        let place = ListKey::new(name, kind);
        if from.is_some_and(|from| place <= *from) {
            continue;
        }
        smallest.push(place);
        if smallest.len() > len {
            smallest.pop();
            more = true;
        }
    }
    Ok(Window { directory: directory.to_vec(), places: smallest.into_sorted_vec().into(), more })
}

/// How a name sorts: as a directory or as anything else. `None` when it went away.
fn kind_of(
    directory: &rustix::fd::OwnedFd,
    known: FileType,
    name: &std::ffi::CStr,
) -> Result<Option<ObjectKind>, Errno> {
    let file_type = match known {
        FileType::Unknown => match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error),
        },
        known => known,
    };
    Ok(Some(match file_type {
        FileType::Directory => ObjectKind::Directory,
        _ => ObjectKind::File,
    }))
}

/// Adds what lies at a place to a page, if it is still there.
fn add(page: &mut ListPage, root: &OpenRoot, directory: &[u8], place: &ListKey) -> Result<(), Errno> {
    let name = place.0.strip_suffix(b"/").unwrap_or(&place.0);
    let whole = key::join(directory, name);
    let meta = match root.find(&whole)? {
        root::Found::File(stat) => meta::file(&stat),
        root::Found::Directory(stat) => meta::directory(&stat),
        Found::Special => {
            page.skipped.add(&whole);
            return Ok(());
        }
        Found::Nothing => return Ok(()),
    };
    // A file that has become a directory since the pass, or the reverse, belongs elsewhere in the order: it is as good as new.
    if ListKey::new(name, meta.kind) == *place {
        page.entries.push(ListEntry { name: place.0.slice(..name.len()), meta });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::root::Root;

    #[test]
    fn windows_follow_one_another_without_gaps() {
        let dir = tempfile::tempdir().expect("temp dir");
        for number in 0..100 {
            std::fs::write(dir.path().join(format!("f{number:03}")), b"").expect("write");
        }
        let root = Root::new(dir.path().to_owned()).open().expect("open");
        let mut names = Vec::new();
        let mut from = None;
        loop {
            let window = scan(&root, b"", from.as_ref(), 7).expect("scan");
            names.extend(window.places.iter().cloned());
            if !window.more {
                break;
            }
            from = names.last().cloned();
        }
        assert_eq!(names.len(), 100);
        assert!(names.is_sorted());
    }

    #[test]
    fn a_window_that_was_dropped_is_made_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        for number in 0..10 {
            std::fs::write(dir.path().join(format!("f{number}")), b"").expect("write");
        }
        let root = Root::new(dir.path().to_owned()).open().expect("open");
        let windows = Windows::default();
        let first = windows.page(&root, b"", None, 4).expect("page");
        windows.kept.lock().clear();
        let second = windows.page(&root, b"", first.next.as_ref(), 100).expect("page");
        let names: Vec<_> = second.entries.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(names, ["f4", "f5", "f6", "f7", "f8", "f9"]);
        assert_eq!(second.next, None);
    }
}
