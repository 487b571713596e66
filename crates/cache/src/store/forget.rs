//! Dropping files and damaged pages.

use super::Inner;
use crate::{
    disk,
    gate::Pass,
    geometry::{Geometry, bits, set_bits, space_of},
    index::ExtentKey,
    layout,
    open_files::OpenFile,
    policy::Queue,
    verify::{Fault, RecordBytes},
};
use forebay_base::{FileId, InodeId};
use std::{
    collections::HashSet,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// How often a page that has moved on meanwhile is looked for again.
const TRIES: usize = 8;

impl Inner {
    /// Forgets a file version, except in directories that are out of use: there it comes back with them, and ages.
    pub(crate) fn drop_file(&self, file: FileId) {
        for dir in &self.dirs {
            let Some(pass) = self.gates.enter(file, dir) else {
                continue;
            };
            if let Some(file) = self.file_in_for_now(&pass, dir) {
                self.retire(&pass, &file);
            }
        }
    }

    pub(crate) fn drop_inode(&self, inode: InodeId) {
        let mut versions = HashSet::new();
        for dir in self.dirs.iter().filter(|dir| dir.is_readable()) {
            let Ok(names) = disk::names_in(&dir.at_disk(), &layout::leaf_of(&dir.path, inode)) else {
                continue;
            };
            let files = names.iter().filter_map(|name| layout::parse_name(name).map(|(file, _)| file));
            versions.extend(files.filter(|file| file.inode == inode));
        }
        for file in versions {
            self.drop_file(file);
        }
    }

    pub(crate) fn drop_page(&self, file: FileId, page: u32) {
        self.load(file);
        for _ in 0..TRIES {
            let mut geometry = None;
            for dir in &self.dirs {
                // One pass over both: a file opened for one look knows of no lease that another begins.
                let Some(pass) = self.gates.enter(file, dir) else {
                    continue;
                };
                if let Some(open) = self.file_in_for_now(&pass, dir) {
                    self.drop_page_of(&pass, &open, page, 0);
                    geometry = Some(open.geometry());
                }
            }
            // Its extent may have moved from a directory that was still to come to one that had been looked at.
            let is_there = |geometry: Geometry| {
                let key = ExtentKey { file, extent: geometry.extent_of(page) };
                self.valid_pages(&key, geometry) >> geometry.slot_of(page) & 1 == 1
            };
            if !geometry.is_some_and(is_there) {
                return;
            }
        }
    }

    /// Reading a page failed: draws the conclusions.
    pub(crate) fn note_fault(&self, file: &Arc<OpenFile>, fault: Fault) {
        match &fault.error {
            Some(error) => {
                tracing::warn!(file = %file.file(), page = fault.page, dir = %file.dir.path.display(), %error, "cached page cannot be read: it is fetched anew");
                file.dir.note_read_error(error);
            }
            None => {
                tracing::warn!(file = %file.file(), page = fault.page, dir = %file.dir.path.display(), "cached page does not match its checksums: it is fetched anew");
            }
        }
        self.counters.damaged_pages.add(1);
        // A directory that is out of use keeps it, and whoever reads it when it is back finds out again.
        if let Some(pass) = self.gates.enter(file.file(), &file.dir) {
            // The reader who found out has it pinned.
            self.drop_page_of(&pass, file, fault.page, 1);
        }
    }

    /// Makes one page of a file missing. Its bytes stay where they are when there are other readers than the `own_pins`; whoever claims the page writes the right
    /// ones over them. No reader can take damaged bytes for good ones, before or after.
    fn drop_page_of(&self, pass: &Pass<'_>, file: &Arc<OpenFile>, page: u32, own_pins: u32) {
        debug_assert!(pass.file() == file.file() && pass.is_for(&file.dir));
        let geometry = file.geometry();
        let (extent, slot) = (geometry.extent_of(page), geometry.slot_of(page));
        if file.is_retired() {
            return;
        }
        let key = ExtentKey { file: file.file(), extent };
        let spaces = self.spaces_by_records(file, extent);
        let mut shard = self.index.lock(&key);
        let found = shard.find(&key).map(|(_, entry)| entry);
        let bit = 1 << slot;
        let Some(entry) = found.filter(|entry| entry.dir == file.dir.number && entry.valid & bit != 0) else {
            return;
        };
        entry.valid &= !bit;
        let mut others = set_bits(entry.valid).map(|slot| spaces[slot as usize]);
        let freed = match spaces[slot as usize] {
            // A page whose record is damaged takes what the others do not. If that is not known either, its space counts until the extent goes.
            0 => others
                .try_fold(0, |sum, space| (space > 0).then_some(sum + space))
                .map_or(0, |sum| entry.bytes.saturating_sub(sum)),
            space => space.min(entry.bytes),
        };
        entry.bytes -= freed;
        let (queue, others_read) = (entry.queue(), entry.pins > own_pins);
        drop(shard);
        if queue == Queue::Small {
            file.dir.small_bytes.fetch_sub(freed as i64, Relaxed);
        }
        file.dir.pages.fetch_sub(1, Relaxed);
        file.dir.release(freed as u64);
        // Nobody claims the page before the gate opens again.
        let blank = vec![0; geometry.record_len()];
        let blanked = file.write_sums(&blank, geometry.record_offset(page));
        let start = geometry.page_offset(page);
        let punched = blanked.and_then(|()| {
            if file.is_leased() {
                file.defer(extent, 0);
            } else if !others_read {
                file.dir.punch(&file.data, start..start + geometry.page_size() as u64)?;
            }
            Ok(())
        });
        if let Err(error) = punched {
            file.dir.note_write_error(&error);
        }
    }

    /// The space of each page of an extent by its record; a page without one counts nothing.
    fn spaces_by_records(&self, file: &Arc<OpenFile>, extent: u32) -> Vec<u32> {
        let geometry = file.geometry();
        (0..geometry.extent_pages())
            .map(|slot| {
                let page = geometry.page_at(extent, slot);
                let record = RecordBytes::read(&**file, page);
                let length = record.and_then(|record| record.decode(&file.header, page).map(|record| record.length));
                length.map_or(0, |length| space_of(length) as u32)
            })
            .collect()
    }

    /// Removes those pages of an extent that neither are in this file nor are about to be. Under the file's gate, so that no page is claimed meanwhile.
    pub(crate) fn punch_unused(&self, file: &OpenFile, extent: u32) -> io::Result<()> {
        if self.incoming.leave(file, extent) {
            return Ok(());
        }
        let (in_use, are_read) = self.pages_in_use(file, extent);
        let unused = !in_use & bits(0..file.geometry().extent_pages());
        if are_read {
            // Some may have been dropped under their readers: the bytes stay until the extent goes.
            return file.blank_pages(extent, unused);
        }
        if in_use == 0 {
            file.blank_records(extent)?;
            return file.punch(extent);
        }
        file.punch_pages(extent, unused)
    }

    /// The pages of an extent that are in this file or are about to be, and whether readers hold some of it.
    fn pages_in_use(&self, file: &OpenFile, extent: u32) -> (u64, bool) {
        let key = ExtentKey { file: file.file(), extent };
        let mut shard = self.index.lock(&key);
        let found = shard.find(&key).map(|(_, entry)| entry);
        let here = found.filter(|entry| entry.dir == file.dir.number);
        here.map_or((0, false), |entry| (entry.valid | entry.writing, entry.pins > 0))
    }

    /// Gives the space of a copy back that its extent has left. The extent may have been claimed here anew since, and is counted anew then.
    pub(crate) fn give_back_left(&self, pass: &Pass<'_>, file: &Arc<OpenFile>, extent: u32, space: u64) {
        // Before the index is asked: a copy that ends in between has its extent here.
        if self.incoming.leave(file, extent) {
            file.dir.release(space);
            return;
        }
        if !self.has_entry(file, extent) {
            return self.give_back_extent(pass, file, extent, space);
        }
        if file.is_leased() {
            // The client must not find pages that were dropped: their bytes stay for it, their records do not.
            let unused = !self.pages_in_use(file, extent).0 & bits(0..file.geometry().extent_pages());
            if let Err(error) = file.blank_pages(extent, unused) {
                file.dir.note_write_error(&error);
            }
            file.defer(extent, space);
            return;
        }
        if let Err(error) = self.punch_unused(file, extent) {
            file.dir.note_write_error(&error);
        }
        file.dir.release(space);
    }

    /// Gives the space of an extent back that no entry names: now, or when the last lease of the file ends.
    pub(crate) fn give_back_extent(&self, pass: &Pass<'_>, file: &Arc<OpenFile>, extent: u32, space: u64) {
        debug_assert!(pass.file() == file.file() && pass.is_for(&file.dir));
        if self.incoming.leave(file, extent) {
            file.dir.release(space);
            return;
        }
        // Blank records first: no valid record may name a hole.
        let blank = file.blank_records(extent);
        if file.is_leased() {
            file.defer(extent, space);
            return;
        }
        if let Err(error) = blank.and_then(|()| file.punch(extent)) {
            file.dir.note_write_error(&error);
        }
        file.dir.release(space);
    }
}
