//! Handing out descriptors.

use super::Inner;
use crate::{
    FileMeta, Lease,
    chores::Chore,
    dir::Dir,
    disk,
    gate::Pass,
    geometry::{EXTENT_OVERHEAD, Geometry, bits},
    index::{ExtentKey, Handle},
    open_files::{Held, OpenFile},
    policy::Queue,
};
use forebay_base::FileId;
use std::{
    fs::File,
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering::SeqCst},
};

/// A leased file cannot be evicted, so it goes where it takes at most one in so many of the bytes.
const SHARE_OF_DIR: u64 = 4;
/// Extents looked at to find out where most of a file is.
const SAMPLE_EXTENTS: u32 = 1024;

impl Inner {
    pub(crate) fn lease(self: &Arc<Self>, file: FileId, meta: FileMeta) -> Option<Lease> {
        let geometry = Geometry::new(meta.page_size)?;
        let max = self.leases_max;
        let counted = self.leases.fetch_update(SeqCst, SeqCst, |leases| (leases < max).then_some(leases + 1));
        counted.ok()?;
        let lease = self.make_lease(file, meta, geometry);
        if lease.is_none() {
            self.leases.fetch_sub(1, SeqCst);
        }
        lease
    }

    fn make_lease(self: &Arc<Self>, id: FileId, meta: FileMeta, geometry: Geometry) -> Option<Lease> {
        self.load(id);
        for dir in self.homes(id, meta, geometry) {
            let Some(pass) = self.gates.enter(id, &dir) else {
                continue;
            };
            let Some(file) = self.file_or_new(&pass, &dir, geometry) else {
                continue;
            };
            if let Some((data, sums)) = self.open_for_client(&pass, &file) {
                file.leases.fetch_add(1, SeqCst);
                return Some(Lease { inner: self.clone(), file, data: Held::new(data), sums: Held::new(sums) });
            }
        }
        None
    }

    fn open_for_client(&self, pass: &Pass<'_>, file: &Arc<OpenFile>) -> Option<(File, File)> {
        open_read_only(file)
            .map_err(|error| {
                file.dir.note_read_error(&error);
                self.tidy(pass, file);
            })
            .ok()
    }

    /// The directories that may serve a file to a client, the best first: where it is leased already, where most of it is, where it fits.
    fn homes(&self, id: FileId, meta: FileMeta, geometry: Geometry) -> Vec<Arc<Dir>> {
        let length = meta.length.unwrap_or(0);
        let is_leased = |dir: &Arc<Dir>| self.open.get(id, dir.number).is_some_and(|file| file.is_leased());
        let fits = |dir: &Arc<Dir>| dir.could_hold(length.saturating_mul(SHARE_OF_DIR));
        let mut homes: Vec<Arc<Dir>> = Vec::new();
        homes.extend(self.dirs.iter().filter(|dir| dir.is_readable() && is_leased(dir)).cloned());
        homes.extend(self.main_dir(id, length, geometry).filter(|dir| fits(dir)).cloned());
        let by_tier = || (0..self.tier_count).flat_map(|tier| self.writable_dirs(tier, id));
        homes.extend(by_tier().filter(|dir| fits(dir)).cloned());
        homes.extend((0..self.tier_count).rev().flat_map(|tier| self.writable_dirs(tier, id)).cloned());
        homes
    }

    /// Where most of a file is.
    fn main_dir(&self, id: FileId, length: u64, geometry: Geometry) -> Option<&Arc<Dir>> {
        let mut bytes = vec![0u64; self.dirs.len()];
        let extent_bytes = geometry.extent_range(0).end;
        let extents = length.div_ceil(extent_bytes).min(SAMPLE_EXTENTS as u64) as u32;
        for extent in 0..extents {
            let key = ExtentKey { file: id, extent };
            if let Some((_, entry)) = self.index.lock(&key).find(&key) {
                bytes[entry.dir as usize] += entry.bytes as u64;
            }
        }
        let best = bytes.iter().enumerate().max_by_key(|(_, bytes)| **bytes)?;
        (*best.1 > 0).then(|| &self.dirs[best.0])
    }

    /// Ends a lease, as far as that goes without waiting; the rest is left to the keeper.
    pub(crate) fn leave_lease(&self, lease: &mut Lease) {
        self.leases.fetch_sub(1, SeqCst);
        let dir = &lease.file.dir;
        dir.leave(Chore::EndLease(lease.file.clone()));
        lease.data.leave_to(dir);
        lease.sums.leave_to(dir);
    }

    /// Ends a lease. With the last one, what was kept for it goes.
    pub(crate) fn end_lease(&self, pass: &Pass<'_>, file: &Arc<OpenFile>) {
        if file.leases.fetch_sub(1, SeqCst) != 1 || file.is_retired() {
            return;
        }
        for (extent, space) in file.take_deferred() {
            self.give_back_left(pass, file, extent, space);
        }
        self.tidy(pass, file);
    }

    /// Moves cached pages of a range into a leased file; whether all of the range is there then.
    pub(crate) fn localize(&self, file: &Arc<OpenFile>, range: Range<u64>) -> bool {
        let geometry = file.geometry();
        if range.is_empty() {
            return true;
        }
        let (Some(first), Some(last)) = (geometry.page_of(range.start), geometry.page_of(range.end - 1)) else {
            return false;
        };
        let mut all = true;
        for extent in geometry.extent_of(first)..=geometry.extent_of(last) {
            let start = first.max(geometry.page_at(extent, 0)) - geometry.page_at(extent, 0);
            let end = (last - geometry.page_at(extent, 0)).min(geometry.extent_pages() - 1) + 1;
            all &= self.localize_extent(file, extent, bits(start..end));
        }
        all && !file.is_retired()
    }

    fn localize_extent(&self, file: &Arc<OpenFile>, extent: u32, wanted: u64) -> bool {
        let key = ExtentKey { file: file.file(), extent };
        let look = || -> Option<(Handle, u8, u64, u32)> {
            let mut shard = self.index.lock(&key);
            let (handle, entry) = shard.find(&key)?;
            Some((handle, entry.dir, entry.valid, entry.bytes))
        };
        let is_here = || look().is_some_and(|(_, dir, valid, _)| dir == file.dir.number && valid & wanted == wanted);
        if is_here() {
            return true;
        }
        let Some((handle, dir, _, bytes)) = look().filter(|found| found.1 != file.dir.number) else {
            return false;
        };
        let space = bytes as u64 + EXTENT_OVERHEAD;
        if !self.dir(dir).is_readable() || !file.dir.is_writable() || !file.dir.reserve(space) {
            return false;
        }
        if self.move_extent(key, handle, &file.dir, space, Queue::Small) && self.dir(dir).tier > file.dir.tier {
            self.counters.promoted_bytes.add(bytes as u64);
        }
        is_here()
    }

    /// How many leases there are.
    #[cfg(test)]
    pub(crate) fn lease_count(&self) -> usize {
        self.leases.load(SeqCst)
    }
}

fn open_read_only(file: &OpenFile) -> io::Result<(File, File)> {
    let wait = &file.dir.at_disk();
    Ok((disk::open_read_only(wait, &file.paths.data)?, disk::open_read_only(wait, &file.paths.sums)?))
}
