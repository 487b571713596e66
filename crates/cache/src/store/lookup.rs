//! Finding and pinning what is cached.

use super::Inner;
use crate::{
    Access, FileMeta, Run, disk,
    geometry::{Geometry, bits, set_bits},
    index::{Entry, ExtentKey, Handle},
    open_files::OpenFile,
    pinned::{Pin, PinnedRange},
};
use forebay_base::FileId;
use std::{ops::Range, sync::Arc};

/// A hit that has been read again so often moves to the top tier, when its reader asks for that.
const PROMOTE_FREQUENCY: u8 = 2;

/// Whether a lookup may touch a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Never,
    ForDisk,
}

/// What one extent has of a range.
struct Found {
    handle: Handle,
    dir: u8,
    file: Option<Arc<OpenFile>>,
    pages: u32,
    promote: bool,
}

impl Inner {
    pub(crate) fn lookup(
        self: &Arc<Self>,
        file: FileId,
        meta: FileMeta,
        range: Range<u64>,
        access: Access,
        wait: Wait,
    ) -> Option<Vec<Run>> {
        let end = clip(&range, meta).end;
        let (mut at, mut runs) = (range.start, Vec::new());
        while at < end {
            let run = self.first_run(file, meta, at..end, access, wait)?;
            at = match &run {
                Run::Present(pinned) => pinned.range().end,
                Run::Missing { range, .. } => range.end,
            };
            runs.push(run);
        }
        Some(runs)
    }

    pub(crate) fn first_run(
        self: &Arc<Self>,
        file: FileId,
        meta: FileMeta,
        range: Range<u64>,
        access: Access,
        wait: Wait,
    ) -> Option<Run> {
        let range = clip(&range, meta);
        let geometry = Geometry::new(meta.page_size);
        let pages = geometry.and_then(|geometry| pages_of(geometry, &range));
        let (Some(geometry), Some(pages)) = (geometry, pages) else {
            // A layout that cannot be cached.
            return Some(Run::Missing { range, pages: 0..0 });
        };
        for _ in 0..2 {
            let key = extent_key(file, geometry, pages.start);
            if let Some(found) = self.find(&key, geometry, &pages, range.start, access, wait) {
                let run = self.present(key, geometry, found, &range, wait);
                match run {
                    Present::Run(pinned) => {
                        self.count_hit(access, &pinned.range());
                        return Some(Run::Present(pinned));
                    }
                    Present::NotOpen => return None,
                    Present::Gone => continue,
                }
            }
            if !self.may_be_unloaded(file) {
                break;
            }
            if wait == Wait::Never {
                return None;
            }
            self.load(file);
        }
        let missing = self.missing(file, geometry, range, pages);
        if let Run::Missing { range, .. } = &missing
            && access != Access::Peek
        {
            self.counters.missed_bytes.add(range.end - range.start);
        }
        Some(missing)
    }

    fn count_hit(&self, access: Access, range: &Range<u64>) {
        if access != Access::Peek {
            self.counters.hit_bytes.add(range.end - range.start);
        }
    }

    /// Finds and pins the cached pages from the first of `pages` on, in its extent.
    fn find(
        &self,
        key: &ExtentKey,
        geometry: Geometry,
        pages: &Range<u32>,
        start: u64,
        access: Access,
        wait: Wait,
    ) -> Option<Found> {
        let slot = geometry.slot_of(pages.start);
        let wanted = (pages.end - pages.start).min(geometry.extent_pages() - slot);
        let mut shard = self.index.lock(key);
        let (handle, entry) = shard.find(key)?;
        if entry.page_log2 != geometry.log2() || !self.dir(entry.dir).is_readable() {
            return None;
        }
        let cached = (!(entry.valid >> slot)).trailing_zeros().min(wanted);
        if cached == 0 {
            return None;
        }
        entry.pins = entry.pins.checked_add(1)?;
        // Under the shard's lock: a file is taken from the open ones only after its entries.
        let file = self.open.get(key.file, entry.dir);
        // Who may not wait for the file asks again: that is one read, not two.
        if access != Access::Peek && (file.is_some() || wait == Wait::ForDisk) {
            entry.touch(bits(slot..slot + cached), start == geometry.page_offset(pages.start));
        }
        let promote = access == Access::ReadPromote && entry.frequency() >= PROMOTE_FREQUENCY;
        Some(Found { handle, dir: entry.dir, file, pages: cached, promote: promote && self.dir(entry.dir).tier > 0 })
    }

    fn present(
        self: &Arc<Self>,
        key: ExtentKey,
        geometry: Geometry,
        found: Found,
        range: &Range<u64>,
        wait: Wait,
    ) -> Present {
        let pin = Pin { inner: self.clone(), handle: found.handle };
        let file = match found.file {
            Some(file) => file,
            None if wait == Wait::Never => return Present::NotOpen,
            None => match self.open_pinned(key, found.handle, found.dir) {
                Some(file) => file,
                None => return Present::Gone,
            },
        };
        if found.promote {
            self.promote(key.file, found.handle);
        }
        let first = geometry.page_of(range.start).expect("its page was found");
        let end = range.end.min(geometry.page_offset(first) + found.pages as u64 * geometry.page_size() as u64);
        Present::Run(PinnedRange::new(pin, file, range.start..end))
    }

    /// Opens the file of a pinned extent. One that cannot be opened loses the extent.
    fn open_pinned(&self, key: ExtentKey, handle: Handle, dir: u8) -> Option<Arc<OpenFile>> {
        let dir = self.dir(dir);
        let pass = self.gates.enter(key.file, dir)?;
        if !self.index.is_live(handle) {
            return None;
        }
        let file = self.file_in(&pass, dir);
        let sums = crate::layout::paths(&dir.path, key.file).sums;
        if file.is_none() && dir.is_readable() && matches!(disk::exists(&dir.at_disk(), &sums), Ok(false)) {
            self.forget_vanished(handle);
        }
        file
    }

    /// Takes out an entry whose file is not there any more.
    pub(crate) fn forget_vanished(&self, handle: Handle) {
        let mut shard = self.index.lock_handle(handle);
        if shard.get(handle).is_some() {
            let entry = shard.remove(handle);
            drop(shard);
            self.dir(entry.dir).release(self.uncount(&entry));
        }
    }

    /// Takes out an entry that nobody holds and whose directory is out of use.
    pub(crate) fn forget_lost(&self, handle: Handle) {
        let mut shard = self.index.lock_handle(handle);
        if shard.get(handle).is_some_and(|entry| entry.is_idle() && !self.dir(entry.dir).is_readable()) {
            let entry = shard.remove(handle);
            drop(shard);
            self.dir(entry.dir).release(self.uncount(&entry));
        }
    }

    fn promote(&self, file: FileId, handle: Handle) {
        if let Some(dir) = self.writable_dirs(0, file).first() {
            dir.ask_promotion(file, handle);
        }
    }

    /// How far nothing is cached.
    fn missing(&self, file: FileId, geometry: Geometry, range: Range<u64>, pages: Range<u32>) -> Run {
        let mut page = pages.start + 1;
        while page < pages.end {
            let slot = geometry.slot_of(page);
            let left = (geometry.extent_pages() - slot).min(pages.end - page);
            let valid = self.valid_pages(&extent_key(file, geometry, page), geometry) >> slot;
            let empty = valid.trailing_zeros().min(left);
            page += empty;
            if empty < left {
                break;
            }
        }
        Run::Missing { range: range.start..range.end.min(geometry.page_offset(page)), pages: pages.start..page }
    }

    /// The pages of an extent that can be read.
    pub(crate) fn valid_pages(&self, key: &ExtentKey, geometry: Geometry) -> u64 {
        let mut shard = self.index.lock(key);
        let readable = |entry: &&mut Entry| entry.page_log2 == geometry.log2() && self.dir(entry.dir).is_readable();
        let found = shard.find(key).map(|(_, entry)| entry).filter(readable);
        found.map_or(0, |entry| entry.valid)
    }

    pub(crate) fn read_verified(
        self: &Arc<Self>,
        file: FileId,
        meta: FileMeta,
        offset: u64,
        buf: &mut [u8],
        access: Access,
    ) -> usize {
        let end = offset.saturating_add(buf.len() as u64);
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let run = self.first_run(file, meta, at..end, access, Wait::ForDisk);
            let Some(Run::Present(pinned)) = run else {
                break;
            };
            let len = (pinned.range().end - at) as usize;
            if pinned.read_verified(at, &mut buf[done..done + len]).is_err() {
                break;
            }
            done += len;
        }
        done
    }

    pub(crate) fn cached_ranges(&self, file: FileId, meta: FileMeta) -> Vec<Range<u64>> {
        let Some(geometry) = Geometry::new(meta.page_size) else {
            return Vec::new();
        };
        self.load(file);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for extent in 0..self.extents_of(file, geometry) {
            let key = ExtentKey { file, extent };
            for slot in set_bits(self.valid_pages(&key, geometry)) {
                let start = geometry.page_offset(geometry.page_at(extent, slot));
                let range = clip(&(start..start + geometry.page_size() as u64), meta);
                match ranges.last_mut().filter(|last| last.end == range.start) {
                    Some(last) => last.end = range.end,
                    None => ranges.push(range),
                }
            }
        }
        ranges.retain(|range| !range.is_empty());
        ranges
    }

    /// How many extents of a file may be cached anywhere.
    fn extents_of(&self, file: FileId, geometry: Geometry) -> u32 {
        let files = self.dirs.iter().filter_map(|dir| self.file_in_for_now(&self.gates.enter(file, dir)?, dir));
        let same = files.filter(|file| file.geometry() == geometry);
        same.filter_map(|file| file.extents().ok()).max().unwrap_or(0)
    }
}

enum Present {
    Run(PinnedRange),
    NotOpen,
    Gone,
}

fn clip(range: &Range<u64>, meta: FileMeta) -> Range<u64> {
    let end = meta.length.map_or(range.end, |length| range.end.min(length));
    range.start..end.max(range.start)
}

/// The pages of a range; none when it is empty or cannot be named.
fn pages_of(geometry: Geometry, range: &Range<u64>) -> Option<Range<u32>> {
    let last = range.end.checked_sub(1).filter(|last| *last >= range.start)?;
    Some(geometry.page_of(range.start)?..geometry.page_of(last)?.checked_add(1)?)
}

fn extent_key(file: FileId, geometry: Geometry, page: u32) -> ExtentKey {
    ExtentKey { file, extent: geometry.extent_of(page) }
}
