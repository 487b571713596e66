//! What is cached where, in memory: one entry of 64 bytes for each extent.
//!
//! Entries lie in slabs, found through hash tables of 4-byte places, in shards with a lock each. Nobody does I/O, or takes the lock of another
//! shard, while holding one. A [`Handle`] names an entry for as long as it is the same: when an extent goes or moves to another
//! directory its handles are void.

use crate::{hash, policy::FREQUENCY_MAX, policy::Queue};
use forebay_base::FileId;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const SHARDS: u32 = 32;
const SLAB_CHUNK: usize = 256;

/// One extent of one file version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExtentKey {
    pub(crate) file: FileId,
    pub(crate) extent: u32,
}

impl ExtentKey {
    pub(crate) fn hash(&self) -> u64 {
        hash::of_extent(self.file, self.extent)
    }

    /// How the ghost table knows it.
    pub(crate) fn fingerprint(&self) -> u32 {
        (self.hash() >> 32) as u32
    }
}

/// What is known of an extent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    inode: u64,
    version: u64,
    /// Pages that can be read.
    pub(crate) valid: u64,
    /// Pages claimed by reservations.
    pub(crate) writing: u64,
    /// Pages that have been read since they came.
    touched: u64,
    extent: u32,
    /// Space of the valid pages.
    pub(crate) bytes: u32,
    /// Readers that hold a part of it.
    pub(crate) pins: u32,
    generation: u32,
    pub(crate) dir: u8,
    pub(crate) page_log2: u8,
    last_slot: u8,
    state: u8,
}

const _: () = assert!(size_of::<Entry>() == 64);

const FREQUENCY_BITS: u8 = 0b11;
const IN_MAIN: u8 = 0b100;
const MOVING: u8 = 0b1000;
const LIVE: u8 = 0b1_0000;

impl Entry {
    /// An extent without pages.
    pub(crate) fn new(key: ExtentKey, dir: u8, page_log2: u8, queue: Queue) -> Entry {
        let mut entry = Entry {
            inode: key.file.inode.0,
            version: key.file.version,
            valid: 0,
            writing: 0,
            touched: 0,
            extent: key.extent,
            bytes: 0,
            pins: 0,
            generation: 0,
            dir,
            page_log2,
            last_slot: 0,
            state: LIVE,
        };
        entry.requeue(queue, 0);
        entry
    }

    pub(crate) fn key(&self) -> ExtentKey {
        ExtentKey {
            file: FileId { inode: forebay_base::InodeId(self.inode), version: self.version },
            extent: self.extent,
        }
    }

    fn is(&self, key: &ExtentKey) -> bool {
        self.inode == key.file.inode.0 && self.version == key.file.version && self.extent == key.extent
    }

    pub(crate) fn queue(&self) -> Queue {
        match self.state & IN_MAIN {
            0 => Queue::Small,
            _ => Queue::Main,
        }
    }

    pub(crate) fn frequency(&self) -> u8 {
        self.state & FREQUENCY_BITS
    }

    /// Notes in which queue it is, and how often it was read again.
    pub(crate) fn requeue(&mut self, queue: Queue, frequency: u8) {
        self.state &= !(IN_MAIN | FREQUENCY_BITS);
        self.state |= frequency.min(FREQUENCY_MAX);
        if queue == Queue::Main {
            self.state |= IN_MAIN;
        }
    }

    /// It is being copied to another directory: it can be read, but takes no new pages.
    pub(crate) fn is_moving(&self) -> bool {
        self.state & MOVING != 0
    }

    pub(crate) fn set_moving(&mut self, moving: bool) {
        self.state &= !MOVING;
        if moving {
            self.state |= MOVING;
        }
    }

    /// Whether nothing holds it where it is.
    pub(crate) fn is_idle(&self) -> bool {
        self.pins == 0 && self.writing == 0 && !self.is_moving()
    }

    /// Notes a read of the pages `slots` (a word of bits), from the middle of the first one or from its start. A page that is read piece by piece counts as
    /// read once, as does a new page: else every sequential reader would look like many.
    pub(crate) fn touch(&mut self, slots: u64, from_page_start: bool) {
        let mut again = self.touched & slots;
        if !from_page_start && slots.trailing_zeros() == self.last_slot as u32 {
            again &= !(1 << self.last_slot);
        }
        self.touched |= slots;
        self.last_slot = 63 - slots.leading_zeros() as u8;
        if again != 0 && self.frequency() < FREQUENCY_MAX {
            self.state += 1;
        }
    }
}

/// Names an entry. Never comes back for another one (before 2^32 changes of its place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    place: u32,
    generation: u32,
}

impl Handle {
    pub(crate) fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.place as u64
    }

    pub(crate) fn from_u64(word: u64) -> Handle {
        Handle { place: word as u32, generation: (word >> 32) as u32 }
    }
}

/// All entries.
pub(crate) struct Index {
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
}

/// A part of the entries. `number` is the low part of the places in its handles.
pub(crate) struct Shard {
    number: u32,
    table: HashTable<u32>,
    slab: Vec<Box<[Entry; SLAB_CHUNK]>>,
    /// Vacant slots, linked through `extent`.
    vacant: Option<u32>,
    used: u32,
}

/// The lock of a shard.
pub(crate) struct Guard<'a> {
    shard: MutexGuard<'a, Shard>,
    len: &'a AtomicUsize,
}

impl Index {
    pub(crate) fn new() -> Index {
        let shard =
            |number| Mutex::new(Shard { number, table: HashTable::new(), slab: Vec::new(), vacant: None, used: 0 });
        Index { shards: (0..SHARDS).map(shard).collect(), len: AtomicUsize::new(0) }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    fn guard(&self, shard: u32) -> Guard<'_> {
        Guard { shard: self.shards[shard as usize].lock(), len: &self.len }
    }

    /// Locks the shard of a key.
    pub(crate) fn lock(&self, key: &ExtentKey) -> Guard<'_> {
        // Bits from the middle: the table uses both ends of the hash.
        self.guard((key.hash() >> 40) as u32 % SHARDS)
    }

    /// Locks the shard of a handle.
    pub(crate) fn lock_handle(&self, handle: Handle) -> Guard<'_> {
        self.guard(handle.place % SHARDS)
    }

    /// Whether the handle's entry is still there.
    pub(crate) fn is_live(&self, handle: Handle) -> bool {
        self.lock_handle(handle).get(handle).is_some()
    }
}

impl Shard {
    fn entry(&mut self, slot: u32) -> &mut Entry {
        &mut self.slab[slot as usize / SLAB_CHUNK][slot as usize % SLAB_CHUNK]
    }

    fn take_slot(&mut self) -> u32 {
        if let Some(slot) = self.vacant {
            let next = self.entry(slot).extent;
            self.vacant = (next != u32::MAX).then_some(next);
            return slot;
        }
        let slot = self.used;
        assert!(slot < u32::MAX / SHARDS, "the index holds 2^32 extents");
        if slot as usize == self.slab.len() * SLAB_CHUNK {
            let blank = ExtentKey { file: FileId { inode: forebay_base::InodeId(0), version: 0 }, extent: 0 };
            let mut vacant = Entry::new(blank, 0, 0, Queue::Small);
            vacant.state = 0;
            self.slab.push(Box::new([vacant; SLAB_CHUNK]));
        }
        self.used += 1;
        slot
    }

    fn handle(&mut self, slot: u32) -> Handle {
        Handle { place: slot * SHARDS + self.number, generation: self.entry(slot).generation }
    }

    fn find_slot(&self, key: &ExtentKey) -> Option<u32> {
        let slab = &self.slab;
        let is_it = |slot: &u32| slab[*slot as usize / SLAB_CHUNK][*slot as usize % SLAB_CHUNK].is(key);
        self.table.find(key.hash(), is_it).copied()
    }
}

impl Guard<'_> {
    /// Finds the entry of a key.
    pub(crate) fn find(&mut self, key: &ExtentKey) -> Option<(Handle, &mut Entry)> {
        let slot = self.shard.find_slot(key)?;
        let handle = self.shard.handle(slot);
        Some((handle, self.shard.entry(slot)))
    }

    /// The entry of a handle, when it is still the same.
    pub(crate) fn get(&mut self, handle: Handle) -> Option<&mut Entry> {
        let entry = self.shard.entry(handle.place / SHARDS);
        (entry.state & LIVE != 0 && entry.generation == handle.generation).then_some(entry)
    }

    /// Adds an entry; its key must have none.
    pub(crate) fn insert(&mut self, entry: Entry) -> Handle {
        let key = entry.key();
        debug_assert!(self.shard.find_slot(&key).is_none());
        let slot = self.shard.take_slot();
        let place = self.shard.entry(slot);
        *place = Entry { generation: place.generation, ..entry };
        let Shard { table, slab, .. } = &mut *self.shard;
        table.insert_unique(key.hash(), slot, |slot| {
            slab[*slot as usize / SLAB_CHUNK][*slot as usize % SLAB_CHUNK].key().hash()
        });
        self.len.fetch_add(1, Relaxed);
        self.shard.handle(slot)
    }

    /// Removes the entry of a live handle and returns what it was.
    pub(crate) fn remove(&mut self, handle: Handle) -> Entry {
        let slot = handle.place / SHARDS;
        let removed = *self.get(handle).expect("the caller holds the lock and has seen the entry");
        let found = self.shard.table.find_entry(removed.key().hash(), |other| *other == slot);
        found.expect("each live entry is in the table").remove();
        let next = self.shard.vacant.replace(slot).unwrap_or(u32::MAX);
        let vacant = self.shard.entry(slot);
        vacant.state = 0;
        vacant.generation = vacant.generation.wrapping_add(1);
        vacant.extent = next;
        self.len.fetch_sub(1, Relaxed);
        removed
    }

    /// Gives a live entry a new handle and voids the old.
    pub(crate) fn renew(&mut self, handle: Handle) -> Handle {
        let entry = self.get(handle).expect("the caller holds the lock and has seen the entry");
        entry.generation = entry.generation.wrapping_add(1);
        Handle { generation: entry.generation, ..handle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::InodeId;

    fn key(inode: u64, extent: u32) -> ExtentKey {
        ExtentKey { file: FileId { inode: InodeId(inode), version: 1 }, extent }
    }

    fn insert(index: &Index, key: ExtentKey) -> Handle {
        index.lock(&key).insert(Entry::new(key, 0, 20, Queue::Small))
    }

    #[test]
    fn finds_what_was_put_in_and_voids_handles() {
        let index = Index::new();
        let handles: Vec<Handle> = (0..10_000).map(|i| insert(&index, key(i / 3, (i % 3) as u32))).collect();
        assert_eq!(index.len(), 10_000);
        for i in (0..10_000u64).step_by(2) {
            index.lock_handle(handles[i as usize]).remove(handles[i as usize]);
        }
        for i in 0..10_000u64 {
            let key = key(i / 3, (i % 3) as u32);
            let found = index.lock(&key).find(&key).map(|(handle, _)| handle);
            assert_eq!(found, (i % 2 == 1).then_some(handles[i as usize]));
            assert_eq!(index.is_live(handles[i as usize]), i % 2 == 1);
        }
        let again = insert(&index, key(0, 0));
        assert!(!handles.contains(&again), "a slot used again has another handle");
        let renewed = index.lock_handle(again).renew(again);
        assert!(index.is_live(renewed) && !index.is_live(again));
        assert_eq!(Handle::from_u64(renewed.to_u64()), renewed);
    }

    #[test]
    fn only_a_second_reading_counts() {
        let mut entry = Entry::new(key(1, 0), 0, 20, Queue::Small);
        // One sequential reader in pieces.
        for slot in 0..16 {
            entry.touch(1 << slot, true);
            (0..10).for_each(|_| entry.touch(1 << slot, false));
        }
        assert_eq!(entry.frequency(), 0);
        // Another one, in whole pages.
        entry.touch(0b11, true);
        assert_eq!(entry.frequency(), 1);
        // Random reads.
        entry.touch(1 << 9, false);
        entry.touch(1 << 3, false);
        entry.touch(1 << 9, false);
        assert_eq!(entry.frequency(), FREQUENCY_MAX);
        entry.requeue(Queue::Main, 1);
        assert_eq!((entry.queue(), entry.frequency()), (Queue::Main, 1));
    }
}
