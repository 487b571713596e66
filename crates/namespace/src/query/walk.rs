//! Walking a whole subtree with bounded memory.

use super::{Result, Step};
use crate::{Inode, Kind, keys};
use bytes::Bytes;
use forebay_base::InodeId;
use forebay_metastore::Read;
use std::collections::VecDeque;

/// Entries read at once: a walk holds so many for each directory on its way down.
const PAGE: usize = 256;

/// One inode of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// It, and where it lies.
    pub step: Step,
    /// How far below the top; the top's own entries have 1.
    pub depth: usize,
}

/// All that lies below a directory. In pre-order a directory comes before its entries, in post-order after them; siblings come by name.
/// Memory: one page of entries for each level.
pub struct Walk<'a> {
    read: &'a dyn Read,
    levels: Vec<Level>,
    /// The names from the top down to the last level, with slashes between them.
    path: Vec<u8>,
    is_post_order: bool,
}

/// A directory on the way down.
struct Level {
    directory: InodeId,
    /// The directory itself, to be given when its entries are through (post-order); none for the top.
    itself: Option<Step>,
    /// How long [`Walk::path`] is without this level's name.
    path_len_above: usize,
    page: VecDeque<(Bytes, Inode)>,
    /// The last name read; none when there is nothing after the page.
    next_after: Option<Bytes>,
}

impl<'a> Walk<'a> {
    /// Directories before their entries.
    pub fn pre_order(read: &'a dyn Read, top: InodeId) -> Walk<'a> {
        Walk { read, levels: vec![Level::new(top, None, 0)], path: Vec::new(), is_post_order: false }
    }

    /// Directories after their entries.
    pub fn post_order(read: &'a dyn Read, top: InodeId) -> Walk<'a> {
        Walk { is_post_order: true, ..Walk::pre_order(read, top) }
    }

    /// The path from the top down to the directory that the next entry lies in: names with slashes between them, empty for the top.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    fn enter(&mut self, itself: Step) {
        let path_len_above = self.path.len();
        if path_len_above > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&itself.name);
        self.levels.push(Level::new(itself.inode.inode_id(), Some(itself), path_len_above));
    }

    fn leave(&mut self) -> Option<Step> {
        let level = self.levels.pop()?;
        self.path.truncate(level.path_len_above);
        level.itself
    }

    fn step(&mut self) -> Result<Option<Walked>> {
        loop {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else {
                return Ok(None);
            };
            let parent = level.directory;
            match level.next(self.read)? {
                None => {
                    if let Some(step) = self.leave().filter(|_| self.is_post_order) {
                        let depth = depth - 1;
                        return Ok(Some(Walked { step, depth }));
                    }
                }
                Some((name, inode)) => {
                    let step = Step { parent, name, inode };
                    let is_directory = step.inode.is_directory();
                    if is_directory {
                        self.enter(step.clone());
                    }
                    if !(is_directory && self.is_post_order) {
                        return Ok(Some(Walked { step, depth }));
                    }
                }
            }
        }
    }
}

impl Level {
    fn new(directory: InodeId, itself: Option<Step>, path_len_above: usize) -> Level {
        Level { directory, itself, path_len_above, page: VecDeque::new(), next_after: Some(Bytes::new()) }
    }

    fn next(&mut self, read: &dyn Read) -> Result<Option<(Bytes, Inode)>> {
        if self.page.is_empty()
            && let Some(after) = self.next_after.take()
        {
            self.page = keys::inode::entries(read, self.directory.0, &after).take(PAGE).collect::<Result<_>>()?;
            if self.page.len() == PAGE {
                self.next_after = self.page.back().map(|(name, _)| name.clone());
            }
        }
        Ok(self.page.pop_front())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Walked>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if let Some(Err(_)) = step {
            self.levels.clear();
        }
        step
    }
}

/// What lies in a subtree, its top counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSummary {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of the files.
    pub length: u64,
}

impl ContentSummary {
    /// Counts an inode.
    pub fn add(&mut self, inode: &Inode) {
        match inode.kind() {
            Kind::File => self.files += 1,
            Kind::Directory => self.directories += 1,
        }
        self.length = self.length.saturating_add(inode.length);
    }
}

/// Sums up a subtree. Takes as long as the subtree is large: run it where that may block, or [`Walk`] in pieces.
pub fn content_summary(read: &dyn Read, top: &Inode) -> Result<ContentSummary> {
    let mut summary = ContentSummary::default();
    summary.add(top);
    if top.is_directory() {
        for walked in Walk::pre_order(read, top.inode_id()) {
            summary.add(&walked?.step.inode);
        }
    }
    Ok(summary)
}
