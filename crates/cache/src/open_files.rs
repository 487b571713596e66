//! Cached files that are open, so that a hot read opens none.
//!
//! At most one [`OpenFile`] exists for a cached file: who needs it finds it here or opens it under the file's gate. It stays open while anyone holds
//! it; beyond the bound those that nobody holds are closed, in the order of a clock.

use crate::{
    chores::Chore,
    dir::Dir,
    disk,
    geometry::{BLOCK, Geometry, runs},
    hash,
    layout::Paths,
    sidecar::Header,
    verify::Source,
};
use forebay_base::FileId;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};

const SHARDS: usize = 16;
/// How many are looked at to find one to close.
const LOOKED_AT_MAX: usize = 32;

/// A descriptor that the keeper can close in place of its holder: where it is the last one of an unlinked file, closing it gives all its space back,
/// which may take the disk long.
pub(crate) struct Held(Option<File>);

impl Held {
    pub(crate) fn new(file: File) -> Held {
        Held(Some(file))
    }

    /// Leaves it to the directory's keeper. For who is being dropped: it must not be used any more.
    pub(crate) fn leave_to(&mut self, dir: &Dir) {
        if let Some(file) = self.0.take() {
            dir.leave(Chore::Close(file));
        }
    }
}

impl std::ops::Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        self.0.as_ref().expect("there until its holder is dropped")
    }
}

/// A cached file version in one directory: data and checksum file, open.
pub(crate) struct OpenFile {
    pub(crate) header: Header,
    pub(crate) dir: Arc<Dir>,
    pub(crate) data: Held,
    pub(crate) sums: Held,
    pub(crate) paths: Paths,
    /// Leases that hold it: as long as there are any, nothing is punched.
    pub(crate) leases: AtomicU32,
    /// Unlinked: the names may belong to another file by now.
    retired: AtomicBool,
    /// Space that is taken though no entry counts it. Given back when the file is closed, if it is retired by then.
    pub(crate) orphaned: AtomicU64,
    /// Extents of which something left while the file was leased, with its space: to be punched when the last lease ends.
    deferred: Mutex<BTreeMap<u32, u64>>,
}

impl OpenFile {
    pub(crate) fn new(header: Header, dir: Arc<Dir>, paths: Paths, data: File, sums: File) -> OpenFile {
        OpenFile {
            header,
            dir,
            data: Held::new(data),
            sums: Held::new(sums),
            paths,
            leases: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            orphaned: AtomicU64::new(0),
            deferred: Mutex::default(),
        }
    }

    pub(crate) fn file(&self) -> FileId {
        self.header.file
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.header.geometry
    }

    pub(crate) fn is_leased(&self) -> bool {
        self.leases.load(SeqCst) > 0
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(SeqCst)
    }

    pub(crate) fn set_retired(&self) {
        self.retired.store(true, SeqCst);
    }

    /// Leaves what is unused of an extent where it is until the last lease ends, with `space` that counts so long.
    pub(crate) fn defer(&self, extent: u32, space: u64) {
        *self.deferred.lock().entry(extent).or_default() += space;
    }

    /// Takes the space of an extent out of what is deferred, but no more than this, and leaves the extent there.
    pub(crate) fn uncount_deferred(&self, extent: u32, at_most: u64) -> u64 {
        let mut deferred = self.deferred.lock();
        let Some(space) = deferred.get_mut(&extent) else {
            return 0;
        };
        let taken = at_most.min(*space);
        *space -= taken;
        taken
    }

    /// What was deferred, which is the caller's to give back.
    pub(crate) fn take_deferred(&self) -> BTreeMap<u32, u64> {
        std::mem::take(&mut *self.deferred.lock())
    }

    pub(crate) fn write_data(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        disk::write_at(&self.dir.at_disk(), &self.paths.data, &self.data, bytes, offset)
    }

    pub(crate) fn write_sums(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        disk::write_at(&self.dir.at_disk(), &self.paths.sums, &self.sums, bytes, offset)
    }

    /// Makes the pages of an extent invalid, for us and for clients.
    pub(crate) fn blank_records(&self, extent: u32) -> io::Result<()> {
        let records = self.geometry().records_range(extent);
        let end = records.end.min(self.sums_len()?);
        let len = end.saturating_sub(records.start) as usize;
        if len > 0 {
            self.write_sums(&vec![0; len], records.start)?;
        }
        Ok(())
    }

    /// Makes the records of some pages of an extent blank. They may be valid though no entry names the page: of one that was dropped while its extent was
    /// being copied here.
    pub(crate) fn blank_pages(&self, extent: u32, slots: u64) -> io::Result<()> {
        let geometry = self.geometry();
        let records = geometry.records_range(extent);
        let len = records.end.min(self.sums_len()?).saturating_sub(records.start);
        let mut bytes = vec![0; len as usize];
        if self.read_sums(&mut bytes, records.start).is_err() {
            // Whatever they are.
            bytes.fill(0xff);
        }
        for (slot, record) in bytes.chunks_mut(geometry.record_len()).enumerate() {
            if slots >> slot & 1 == 1 && record.iter().any(|byte| *byte != 0) {
                record.fill(0);
                self.write_sums(record, geometry.record_offset(geometry.page_at(extent, slot as u32)))?;
            }
        }
        Ok(())
    }

    /// Removes pages of an extent that no entry names and nobody reads. Their records first: no valid record may name a hole.
    pub(crate) fn punch_pages(&self, extent: u32, slots: u64) -> io::Result<()> {
        self.blank_pages(extent, slots)?;
        let geometry = self.geometry();
        let offset = |slot| geometry.extent_range(extent).start + u64::from(slot) * u64::from(geometry.page_size());
        runs(slots).try_for_each(|run| self.dir.punch(&self.data, offset(run.start)..offset(run.end)))
    }

    /// Gives the space of an extent back. Only what no valid record names, and no reader has pinned.
    pub(crate) fn punch(&self, extent: u32) -> io::Result<()> {
        self.dir.punch(&self.data, self.geometry().extent_range(extent))?;
        // Whole blocks of blank records; what shares a block with other records stays.
        let records = self.geometry().records_range(extent);
        let blocks = records.start.next_multiple_of(BLOCK)..records.end / BLOCK * BLOCK;
        if blocks.start < blocks.end {
            self.dir.punch(&self.sums, blocks)?;
        }
        Ok(())
    }

    /// Makes the checksum file long enough for an extent.
    pub(crate) fn reach(&self, extent: u32) -> io::Result<()> {
        let end = self.geometry().records_range(extent).end;
        let wait = &self.dir.at_disk();
        if disk::len(wait, &self.sums)? < end {
            disk::set_len(wait, &self.paths.sums, &self.sums, end)?;
        }
        Ok(())
    }

    fn sums_len(&self) -> io::Result<u64> {
        disk::len(&self.dir.at_disk(), &self.sums)
    }

    /// How many extents its records reach over.
    pub(crate) fn extents(&self) -> io::Result<u32> {
        let records = self.geometry().records_range(0);
        let len = self.sums_len()?.saturating_sub(records.start);
        Ok(len.div_ceil(records.end - records.start) as u32)
    }
}

impl Source for OpenFile {
    fn header(&self) -> &Header {
        &self.header
    }

    fn read_data(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        disk::read_at(&self.dir.at_disk(), &self.paths.data, &self.data, buf, offset)
    }

    fn read_sums(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        disk::read_at(&self.dir.at_disk(), &self.paths.sums, &self.sums, buf, offset)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.is_retired() {
            let deferred: u64 = self.deferred.get_mut().values().sum();
            self.dir.release(*self.orphaned.get_mut() + deferred);
            self.data.leave_to(&self.dir);
            self.sums.leave_to(&self.dir);
        }
    }
}

/// What of a file can be read without waiting for the disk.
pub(crate) struct InMemory<'a>(pub(crate) &'a OpenFile);

impl InMemory<'_> {
    fn read(&self, path: &Path, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self.0.dir.is_in_memory() {
            true => disk::read_memory(path, file, buf, offset),
            false => disk::read_now(path, file, buf, offset),
        }
    }
}

impl Source for InMemory<'_> {
    fn header(&self) -> &Header {
        &self.0.header
    }

    fn read_data(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(&self.0.paths.data, &self.0.data, buf, offset)
    }

    fn read_sums(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(&self.0.paths.sums, &self.0.sums, buf, offset)
    }
}

type Key = (FileId, u8);

struct Slot {
    file: Arc<OpenFile>,
    used: bool,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Key, Slot>,
    clock: VecDeque<Key>,
}

/// The open files.
pub(crate) struct OpenFiles {
    shards: Box<[Mutex<Shard>]>,
    shard_max: usize,
}

impl OpenFiles {
    /// Keeps about `files_max` files open.
    pub(crate) fn new(files_max: usize) -> OpenFiles {
        OpenFiles {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_max: files_max.div_ceil(SHARDS).max(1),
        }
    }

    fn shard(&self, file: FileId) -> &Mutex<Shard> {
        &self.shards[(hash::of_file(file) >> 32) as usize % SHARDS]
    }

    /// The open file of a directory, if it is open.
    pub(crate) fn get(&self, file: FileId, dir: u8) -> Option<Arc<OpenFile>> {
        let mut shard = self.shard(file).lock();
        let slot = shard.slots.get_mut(&(file, dir))?;
        slot.used = true;
        Some(slot.file.clone())
    }

    /// Adds a file that was just opened, under its gate.
    pub(crate) fn insert(&self, file: &Arc<OpenFile>) {
        let key = (file.file(), file.dir.number);
        let closed = {
            let mut shard = self.shard(file.file()).lock();
            let slot = Slot { file: file.clone(), used: true };
            let before = shard.slots.insert(key, slot);
            debug_assert!(before.is_none(), "opened twice");
            shard.clock.push_back(key);
            shard.shrink(self.shard_max)
        };
        // Closing takes system calls: not under the lock.
        drop(closed);
    }

    /// Forgets a file, under its gate; holders keep it open.
    pub(crate) fn remove(&self, file: &OpenFile) {
        let key = (file.file(), file.dir.number);
        let removed = {
            let mut shard = self.shard(file.file()).lock();
            shard.clock.retain(|other| *other != key);
            shard.slots.remove(&key)
        };
        drop(removed);
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().slots.len()).sum()
    }
}

impl Shard {
    fn shrink(&mut self, max: usize) -> Vec<Slot> {
        let mut closed = Vec::new();
        for _ in 0..LOOKED_AT_MAX {
            if self.slots.len() <= max {
                break;
            }
            let Some(key) = self.clock.pop_front() else {
                break;
            };
            let slot = self.slots.get_mut(&key).expect("the clock names what is there");
            // Nobody can come to hold it meanwhile: it is only handed out under this lock. What it counts must not be forgotten.
            let counts = !slot.file.deferred.lock().is_empty() || slot.file.orphaned.load(SeqCst) != 0;
            let idle = Arc::strong_count(&slot.file) == 1 && !counts;
            if idle && !std::mem::take(&mut slot.used) {
                closed.extend(self.slots.remove(&key));
            } else {
                self.clock.push_back(key);
            }
        }
        closed
    }
}
