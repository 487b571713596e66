//! Claiming pages and writing them.
//!
//! A page is written in the order data, record, index. Until its record is there nobody believes it; until the index has it nobody asks.

use super::{Inner, evict::How};
use crate::{
    FileMeta, Reservation,
    chores::Chore,
    dir::Dir,
    gate::Pass,
    geometry::{EXTENT_OVERHEAD, Geometry, bits, set_bits, space_of},
    index::{Entry, ExtentKey, Handle},
    open_files::OpenFile,
    policy::Queue,
    sidecar,
};
use forebay_base::{FileId, checksum::chunk_checksums};
use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// How often a claim starts again when others changed the extent meanwhile, or a directory failed.
const TRIES: usize = 4;
/// How many extents are evicted to make room for one claim.
const EVICTIONS_MAX: usize = 64;

/// The claimed pages of one extent.
pub(crate) struct Part {
    pub(crate) key: ExtentKey,
    handle: Handle,
    file: Arc<OpenFile>,
    /// Pages that are still to be written.
    pub(crate) remaining: AtomicU64,
}

/// What became of a page.
pub(crate) enum Written {
    Yes,
    No,
}

enum Claim {
    Claimed(Part),
    /// All there, or others are at it.
    Nothing,
    NoSpace,
}

/// An extent as it was when the claim was planned.
struct Plan {
    existing: Option<(Handle, u8)>,
    pages: u64,
    space: u64,
}

/// What a look at an extent says.
enum Look {
    Plan(Plan),
    Nothing,
    OtherGeometry,
    /// It lies in a directory that is out of use.
    Lost(Handle),
}

impl Inner {
    pub(crate) fn reserve(self: &Arc<Self>, file: FileId, meta: FileMeta, pages: Range<u32>) -> Option<Reservation> {
        let geometry = Geometry::new(meta.page_size)?;
        let page_count = meta.length.map(|length| length.div_ceil(geometry.page_size() as u64));
        let end = page_count.map_or(pages.end, |count| pages.end.min(count.min(u32::MAX as u64) as u32));
        let mut reservation = Reservation { inner: self.clone(), file, meta, geometry, parts: Vec::new() };
        if pages.start >= end {
            return Some(reservation);
        }
        self.load(file);
        let mut lacking = false;
        for (extent, wanted) in extents(geometry, pages.start..end) {
            match self.claim(&reservation, ExtentKey { file, extent }, wanted) {
                Claim::Claimed(part) => reservation.parts.push(part),
                Claim::Nothing => {}
                Claim::NoSpace => lacking = true,
            }
        }
        if lacking && reservation.parts.is_empty() {
            self.counters.refused.add(1);
            return None;
        }
        Some(reservation)
    }

    fn claim(self: &Arc<Self>, reservation: &Reservation, key: ExtentKey, wanted: u64) -> Claim {
        let mut failed = 0;
        for _ in 0..TRIES {
            let plan = match self.look(reservation, &key, wanted) {
                Look::Plan(plan) => plan,
                Look::Nothing => return Claim::Nothing,
                Look::OtherGeometry => {
                    self.drop_file(key.file);
                    continue;
                }
                Look::Lost(handle) => {
                    self.forget_lost(handle);
                    continue;
                }
            };
            let Some(dir) = self.space_for(key.file, &plan, failed) else {
                return Claim::NoSpace;
            };
            // None, and a directory is out of use by now: another is looked for.
            let pass = self.gates.enter(key.file, &dir);
            let file = pass.as_ref().and_then(|pass| self.file_reaching(pass, &dir, reservation.geometry, key.extent));
            match file.map(|file| self.enter_claim(&plan, &key, file)) {
                Some(Some(part)) => return Claim::Claimed(part),
                // The extent has changed since it was looked at.
                Some(None) => {}
                None => failed |= 1 << dir.number,
            }
            dir.release(plan.space);
        }
        Claim::NoSpace
    }

    fn look(&self, reservation: &Reservation, key: &ExtentKey, wanted: u64) -> Look {
        let geometry = reservation.geometry;
        let space = |pages: u64| -> u64 {
            let each = set_bits(pages).map(|slot| reservation.space_of(geometry.page_at(key.extent, slot)));
            each.sum()
        };
        let mut shard = self.index.lock(key);
        let Some((handle, entry)) = shard.find(key) else {
            return Look::Plan(Plan { existing: None, pages: wanted, space: space(wanted) + EXTENT_OVERHEAD });
        };
        if entry.page_log2 != geometry.log2() {
            return Look::OtherGeometry;
        }
        if !self.dir(entry.dir).is_readable() && entry.is_idle() {
            return Look::Lost(handle);
        }
        let pages = wanted & !entry.valid & !entry.writing;
        if pages == 0 || entry.is_moving() {
            return Look::Nothing;
        }
        Look::Plan(Plan { existing: Some((handle, entry.dir)), pages, space: space(pages) })
    }

    /// Reserves the space of a plan in the directory that shall have the extent: none of those whose bits are set in `failed`.
    fn space_for(self: &Arc<Self>, file: FileId, plan: &Plan, failed: u128) -> Option<Arc<Dir>> {
        let may = |dir: &&Arc<Dir>| dir.is_writable() && failed >> dir.number & 1 == 0;
        if let Some((_, dir)) = plan.existing {
            let dir = Some(self.dir(dir)).filter(may)?;
            let fits = dir.reserve(plan.space) || self.make_room(dir, plan.space);
            return fits.then(|| dir.clone());
        }
        if !self.room_in_index(file) {
            return None;
        }
        let is_leased = |dir: &&Arc<Dir>| self.open.get(file, dir.number).is_some_and(|open| open.is_leased());
        let leased = self.dirs.iter().filter(may).filter(is_leased);
        let tier_dirs = |tier| self.writable_dirs(tier, file).into_iter().filter(may);
        // Where it fits at once: below a lease, else in the fastest tier.
        let mut candidates = leased.chain((0..self.tier_count).flat_map(tier_dirs));
        if let Some(dir) = candidates.find(|dir| dir.reserve(plan.space)) {
            self.ring_if_high(dir);
            return Some(dir.clone());
        }
        // Everything is full: the slowest tier lets go of something. The faster ones are being emptied into it in the background.
        let mut slowest_first = (0..self.tier_count).rev().flat_map(tier_dirs);
        let dir = slowest_first.find(|dir| self.make_room(dir, plan.space))?;
        Some(dir.clone())
    }

    /// Evicts until `space` bytes are reserved; whether they are.
    fn make_room(self: &Arc<Self>, dir: &Arc<Dir>, space: u64) -> bool {
        if !dir.could_hold(space) {
            return false;
        }
        dir.ring();
        for _ in 0..EVICTIONS_MAX {
            if dir.reserve(space) {
                return true;
            }
            if !self.evict_one(dir, How::Drop) {
                return false;
            }
        }
        dir.reserve(space)
    }

    /// The index is bounded too: whether it takes one more extent, after an eviction if need be.
    fn room_in_index(self: &Arc<Self>, file: FileId) -> bool {
        let is_full = || self.index.len() >= self.settings.extents_max;
        if !is_full() {
            return true;
        }
        let tiers = (0..self.tier_count).rev();
        let mut dirs = tiers.flat_map(|tier| self.writable_dirs(tier, file));
        dirs.any(|dir| self.evict_one(dir, How::Drop) && !is_full())
    }

    /// The file, its checksum file long enough for an extent: so that whoever retires the file finds all claims.
    pub(crate) fn file_reaching(
        &self,
        pass: &Pass<'_>,
        dir: &Arc<Dir>,
        geometry: Geometry,
        extent: u32,
    ) -> Option<Arc<OpenFile>> {
        let file = self.file_or_new(pass, dir, geometry)?;
        let reach = file.reach(extent);
        if let Err(error) = &reach {
            dir.note_write_error(error);
        }
        reach.is_ok().then_some(file)
    }

    /// Enters a claim into the index. None when the extent has changed since it was planned.
    fn enter_claim(&self, plan: &Plan, key: &ExtentKey, file: Arc<OpenFile>) -> Option<Part> {
        let dir = &file.dir;
        let queue = match plan.existing {
            Some(_) => Queue::Small,
            None => dir.policy.lock().queue_for(key.fingerprint()),
        };
        let mut shard = self.index.lock(key);
        let handle = match (plan.existing, shard.find(key)) {
            (Some((handle, _)), Some((now, entry))) if now == handle => {
                if entry.is_moving() || (entry.valid | entry.writing) & plan.pages != 0 {
                    return None;
                }
                entry.writing |= plan.pages;
                handle
            }
            (None, None) => {
                let mut entry = Entry::new(*key, dir.number, file.geometry().log2(), queue);
                entry.writing = plan.pages;
                shard.insert(entry)
            }
            _ => return None,
        };
        drop(shard);
        if plan.existing.is_none() {
            dir.extents.fetch_add(1, Relaxed);
            dir.policy.lock().push(queue, handle.to_u64());
        }
        Some(Part { key: *key, handle, file, remaining: AtomicU64::new(plan.pages) })
    }

    /// Writes a claimed page whose right to be written has been taken.
    pub(crate) fn write_page(
        &self,
        reservation: &Reservation,
        part: &Part,
        page: u32,
        bytes: &[u8],
        checksums: Option<&[u32]>,
    ) -> Written {
        let file = &part.file;
        let chunks = bytes.len().div_ceil(forebay_base::checksum::CHECKSUM_CHUNK);
        let made: Vec<u32>;
        let checksums = match checksums {
            Some(given) if given.len() == chunks => given,
            _ => {
                made = chunk_checksums(bytes).collect();
                &made
            }
        };
        let geometry = file.geometry();
        let record = sidecar::encode_record(&file.header, page, bytes.len() as u32, checksums);
        let written = file
            .write_data(bytes, geometry.page_offset(page))
            .and_then(|()| file.write_sums(&record, geometry.record_offset(page)));
        let bit = 1 << geometry.slot_of(page);
        if let Err(error) = written {
            file.dir.note_write_error(&error);
            self.undo(part, page, reservation);
            return Written::No;
        }
        self.commit(part, bit, space_of(bytes.len() as u32), reservation.space_of(page))
    }

    /// Ends the claim of a page that was written in part, or without its record. What it has taken on the disk is punched, or counts until the
    /// file goes. It was never valid, and is claimed still; but a client with a lease may have checked chunks of an earlier copy, which was damaged
    /// elsewhere: under it their bytes stay until the lease ends.
    fn undo(&self, part: &Part, page: u32, reservation: &Reservation) {
        let (file, geometry) = (&part.file, reservation.geometry);
        // Leases begin within the gate.
        let pass = self.gates.enter(part.key.file, &file.dir);
        if let Err(error) = self.punch_undone(pass.as_ref(), part, page) {
            tracing::warn!(file = %file.file(), page, dir = %file.dir.path.display(), %error, "the space of a page that was not written stays taken");
            let space = reservation.space_of(page);
            file.dir.found(space);
            file.orphaned.fetch_add(space, Relaxed);
        }
        drop(pass);
        self.give_back(part, 1 << geometry.slot_of(page), reservation);
    }

    fn punch_undone(&self, pass: Option<&Pass<'_>>, part: &Part, page: u32) -> io::Result<()> {
        let file = &part.file;
        if pass.is_none() {
            // The directory is out of use: its keeper does it when it is back.
            let chore = Chore::GiveBack { file: file.clone(), extent: part.key.extent, space: 0 };
            file.dir.leave(chore);
            return Ok(());
        }
        if file.is_leased() {
            file.defer(part.key.extent, 0);
            return Ok(());
        }
        file.punch_pages(part.key.extent, 1 << file.geometry().slot_of(page))
    }

    /// Makes a written page readable; `space` of the `reserved` bytes are taken.
    fn commit(&self, part: &Part, bit: u64, space: u64, reserved: u64) -> Written {
        let dir = &part.file.dir;
        let mut shard = self.index.lock_handle(part.handle);
        let Some(entry) = shard.get(part.handle) else {
            // The file was dropped meanwhile: the bytes are in an unlinked file, and go with it.
            part.file.orphaned.fetch_add(reserved, Relaxed);
            return Written::No;
        };
        entry.writing &= !bit;
        entry.valid |= bit;
        entry.bytes += space as u32;
        if entry.queue() == Queue::Small {
            dir.small_bytes.fetch_add(space as i64, Relaxed);
        }
        drop(shard);
        dir.pages.fetch_add(1, Relaxed);
        dir.release(reserved - space);
        self.counters.stored_bytes.add(space);
        Written::Yes
    }

    /// Ends the claim of the pages `pages` of a part: they were not written. Never waits: an empty file is the keeper's to unlink.
    pub(crate) fn give_back(&self, part: &Part, pages: u64, reservation: &Reservation) {
        let geometry = reservation.geometry;
        let each = set_bits(pages).map(|slot| reservation.space_of(geometry.page_at(part.key.extent, slot)));
        part.file.dir.release(each.sum());
        let mut shard = self.index.lock_handle(part.handle);
        let Some(entry) = shard.get(part.handle) else {
            return;
        };
        entry.writing &= !pages;
        if entry.valid != 0 || !entry.is_idle() {
            return;
        }
        let entry = shard.remove(part.handle);
        drop(shard);
        part.file.dir.release(self.uncount(&entry));
        part.file.dir.leave(Chore::Tidy(part.file.clone()));
    }
}

/// The extents of a range of pages, and which of their pages.
fn extents(geometry: Geometry, pages: Range<u32>) -> impl Iterator<Item = (u32, u64)> {
    let per_extent = geometry.extent_pages();
    let last = geometry.extent_of(pages.end - 1);
    (geometry.extent_of(pages.start)..=last).map(move |extent| {
        let first = extent * per_extent;
        let start = pages.start.max(first) - first;
        let end = (pages.end - first).min(per_extent);
        (extent, bits(start..end))
    })
}
