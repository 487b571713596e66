//! Moving an extent to another directory: copy, switch, remove.
//!
//! Until the switch the old copy is read, from then on the new one; the old one is removed when nobody can read it any more. A crash
//! leaves both, and the next scan removes one.
//!
//! A directory may have something left of an extent that is being copied into it: from before the start, or since the extent has just moved away from it.
//! While the copy is made nothing of the extent is removed there ([`Incoming`]), and at its end what the copy has not replaced.

use super::Inner;
use crate::{
    chores::Chore,
    dir::Dir,
    gate::Pass,
    geometry::{EXTENT_OVERHEAD, set_bits, space_of},
    index::{self, ExtentKey, Handle},
    open_files::OpenFile,
    policy::Queue,
    verify::{self, Fault, RecordBytes},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, hash_map::Entry},
    ptr,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// How long the switch waits for readers of the old copy.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often who waits for a move looks whether the disks answer.
const LOOK_AGAIN_FOR_DISKS: Duration = Duration::from_millis(50);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A copy of an extent that nobody reads yet.
struct Copy {
    from: Arc<OpenFile>,
    to: Arc<OpenFile>,
    /// The pages that could be copied.
    pages: u64,
    /// Their space.
    bytes: u64,
}

/// Extents that are being copied into a directory (by its number).
#[derive(Default)]
pub(crate) struct Incoming {
    copies: Mutex<HashMap<(ExtentKey, u8), Arriving>>,
}

/// A copy that is being made.
struct Arriving {
    /// When this is retired, another file of the name has nothing to do with it.
    file: Arc<OpenFile>,
    /// Somebody has wanted to remove something of the extent there meanwhile.
    left: bool,
}

/// What the switch to a copy has left to do.
struct Switched {
    /// Space of the old copy.
    freed: u64,
    /// Whether pages that were copied had been dropped meanwhile: their records are still in the new copy.
    dropped: bool,
}

impl Incoming {
    /// A copy begins. To be called under the file's gate in that directory, so that nobody is removing something of it. False when one is under way already.
    fn begin(&self, key: ExtentKey, file: &Arc<OpenFile>) -> bool {
        let mut copies = self.copies.lock();
        let place = copies.entry((key, file.dir.number));
        let fresh = matches!(place, Entry::Vacant(_));
        place.or_insert_with(|| Arriving { file: file.clone(), left: false });
        fresh
    }

    /// A copy has ended; whether there may be something to remove.
    fn end(&self, key: ExtentKey, dir: u8) -> bool {
        let ended = self.copies.lock().remove(&(key, dir));
        ended.is_some_and(|arriving| arriving.left)
    }

    /// Whether an extent is being copied into a file: then who wants to remove something of it there leaves that to the one who copies. To be asked under the
    /// file's gate, and before the index is.
    pub(crate) fn leave(&self, file: &OpenFile, extent: u32) -> bool {
        let key = ExtentKey { file: file.file(), extent };
        let mut copies = self.copies.lock();
        let arriving = copies.get_mut(&(key, file.dir.number)).filter(|arriving| ptr::eq(&*arriving.file, file));
        arriving.map(|arriving| arriving.left = true).is_some()
    }
}

impl Inner {
    /// Moves an extent to `to`, where `reserved` bytes are reserved for it (and given back when it stays where it is). Must not be called
    /// with a gate held. Whether it has moved.
    pub(crate) fn move_extent(
        &self,
        key: ExtentKey,
        handle: Handle,
        to: &Arc<Dir>,
        reserved: u64,
        queue: Queue,
    ) -> bool {
        let Some((pages, from)) = self.start_move(handle, to, reserved) else {
            to.release(reserved);
            return false;
        };
        let Some(copy) = self.copy_extent(&key, pages, &from, to, reserved) else {
            self.end_move(handle);
            return false;
        };
        // What was reserved is still enough: no page is added while an extent moves.
        let switched = self.switch(handle, &copy, queue);
        let left = self.incoming.end(key, to.number);
        match switched {
            Some(switched) => {
                to.release(reserved.saturating_sub(copy.bytes + EXTENT_OVERHEAD));
                // Bytes that were kept there for a lease are those of the copy now, and count as such.
                to.release(copy.to.uncount_deferred(key.extent, copy.bytes + EXTENT_OVERHEAD));
                if left || switched.dropped {
                    self.remove_copy(&key, &copy.to, 0);
                }
                self.remove_copy(&key, &copy.from, switched.freed);
                true
            }
            None => {
                self.end_move(handle);
                self.remove_failed(&key, &copy.to, reserved);
                false
            }
        }
    }

    /// Removes a copy that nobody will read.
    fn remove_failed(&self, key: &ExtentKey, to: &Arc<OpenFile>, reserved: u64) {
        // Under a lease it stays, in the place of what stayed before.
        to.dir.release(to.uncount_deferred(key.extent, reserved));
        self.remove_copy(key, to, reserved);
    }

    /// Like [`Inner::move_extent`] on a thread of its own, so that a keeper does not wait for the disk of another. A move that is left behind ends
    /// when that disk has answered; meanwhile the directory is out of use, so there are no more of them than directories.
    pub(crate) fn move_beside(
        self: &Arc<Self>,
        key: ExtentKey,
        handle: Handle,
        from: &Arc<Dir>,
        to: &Arc<Dir>,
        reserved: u64,
        queue: Queue,
    ) -> bool {
        let (tell, told) = mpsc::channel();
        let (inner, target) = (self.clone(), to.clone());
        let work = move || {
            let moved = inner.move_extent(key, handle, &target, reserved, queue);
            // Before the keeper is told: it may be about to end, and with it the store.
            drop((inner, target));
            let _ = tell.send(moved);
        };
        if let Err(error) = std::thread::Builder::new().name("cache-move".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread to move cached pages with");
            to.release(reserved);
            return false;
        }
        loop {
            match told.recv_timeout(LOOK_AGAIN_FOR_DISKS) {
                Ok(moved) => return moved,
                Err(RecvTimeoutError::Timeout) if from.is_readable() && to.is_readable() => {}
                Err(_) => return false,
            }
        }
    }

    fn start_move(&self, handle: Handle, to: &Dir, reserved: u64) -> Option<(u64, Arc<Dir>)> {
        let mut shard = self.index.lock_handle(handle);
        let entry = shard.get(handle)?;
        let may = !entry.is_moving()
            && entry.writing == 0
            && entry.valid != 0
            && entry.dir != to.number
            // Pages may have come since the space was reserved.
            && entry.bytes as u64 + EXTENT_OVERHEAD <= reserved;
        may.then(|| {
            entry.set_moving(true);
            (entry.valid, self.dir(entry.dir).clone())
        })
    }

    fn end_move(&self, handle: Handle) {
        if let Some(entry) = self.index.lock_handle(handle).get(handle) {
            entry.set_moving(false);
        }
    }

    /// Copies an extent; none, and what was reserved given back, when nothing could be copied.
    fn copy_extent(&self, key: &ExtentKey, pages: u64, from: &Arc<Dir>, to: &Arc<Dir>, reserved: u64) -> Option<Copy> {
        let Some((from, to)) = self.open_both(key, from, to) else {
            to.release(reserved);
            return None;
        };
        let mut copy = Copy { from, to, pages: 0, bytes: 0 };
        let copied = self.copy_pages(key, pages, &mut copy).is_ok() && copy.pages != 0;
        if !copied {
            self.incoming.end(*key, copy.to.dir.number);
            self.remove_failed(key, &copy.to, reserved);
        }
        copied.then_some(copy)
    }

    fn open_both(&self, key: &ExtentKey, from: &Arc<Dir>, to: &Arc<Dir>) -> Option<(Arc<OpenFile>, Arc<OpenFile>)> {
        let from = self.file_in(&self.gates.enter(key.file, from)?, from)?;
        let pass = self.gates.enter(key.file, to)?;
        let to = self.file_reaching(&pass, to, from.geometry(), key.extent)?;
        self.incoming.begin(*key, &to).then_some((from, to))
    }

    /// Copies the pages whose bytes match their checksums; the others are lost. Data first, then the records.
    fn copy_pages(&self, key: &ExtentKey, pages: u64, copy: &mut Copy) -> Result<(), ()> {
        let geometry = copy.from.geometry();
        let mut records = Vec::new();
        for slot in set_bits(pages) {
            let page = geometry.page_at(key.extent, slot);
            match self.copy_page_data(copy, page)? {
                Some((record, length)) => {
                    records.push((page, record));
                    copy.pages |= 1 << slot;
                    copy.bytes += space_of(length);
                }
                None => self.counters.damaged_pages.add(1),
            }
            if self.is_stopped() {
                return Err(());
            }
        }
        for (page, record) in records {
            let written = copy.to.write_sums(record.as_slice(), geometry.record_offset(page));
            written.map_err(|error| copy.to.dir.note_write_error(&error))?;
        }
        Ok(())
    }

    /// Copies one page's bytes; none when they are damaged.
    fn copy_page_data(&self, copy: &Copy, page: u32) -> Result<Option<(RecordBytes, u32)>, ()> {
        let (from, to) = (&copy.from, &copy.to);
        let read_error = |fault: Fault| {
            if let Some(error) = fault.error {
                from.dir.note_read_error(&error);
            }
        };
        let record = match RecordBytes::read(&**from, page) {
            Ok(record) => record,
            Err(fault) => {
                read_error(fault);
                return Ok(None);
            }
        };
        let length = match record.decode(&from.header, page) {
            Ok(decoded) => decoded.length,
            Err(_) => return Ok(None),
        };
        let start = from.geometry().page_offset(page);
        let mut buf = vec![0; COPY_BYTES.min(length as usize)];
        let mut done = 0;
        while done < length as usize {
            let piece = &mut buf[..COPY_BYTES.min(length as usize - done)];
            let at = start + done as u64;
            if let Err(fault) = verify::read_verified(&**from, at, piece) {
                read_error(fault);
                return Ok(None);
            }
            to.write_data(piece, at).map_err(|error| to.dir.note_write_error(&error))?;
            done += piece.len();
        }
        Ok(Some((record, length)))
    }

    /// Makes the copy the one that is read, once nobody reads the old one.
    fn switch(&self, handle: Handle, copy: &Copy, queue: Queue) -> Option<Switched> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let mut shard = self.index.lock_handle(handle);
                let entry = shard.get(handle)?;
                if copy.to.is_retired() || entry.valid & copy.pages == 0 {
                    return None;
                }
                if entry.pins == 0 {
                    let old = *entry;
                    // A page that was dropped as damaged meanwhile stays dropped; its space counts until the extent goes.
                    entry.valid &= copy.pages;
                    entry.bytes = copy.bytes as u32;
                    entry.dir = copy.to.dir.number;
                    entry.set_moving(false);
                    entry.requeue(queue, 0);
                    let valid = entry.valid;
                    let renewed = shard.renew(handle);
                    drop(shard);
                    let freed = self.count_move(&old, valid, copy, queue, renewed);
                    return Some(Switched { freed, dropped: valid != copy.pages });
                }
            }
            if Instant::now() >= deadline || self.is_stopped() {
                return None;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn count_move(&self, old: &index::Entry, valid: u64, copy: &Copy, queue: Queue, renewed: Handle) -> u64 {
        let to = &copy.to.dir;
        to.extents.fetch_add(1, Relaxed);
        to.pages.fetch_add(valid.count_ones() as i64, Relaxed);
        if queue == Queue::Small {
            to.small_bytes.fetch_add(copy.bytes as i64, Relaxed);
        }
        to.policy.lock().push(queue, renewed.to_u64());
        self.uncount(old)
    }

    /// Removes a copy of an extent, of `space` bytes, that no entry names.
    fn remove_copy(&self, key: &ExtentKey, file: &Arc<OpenFile>, space: u64) {
        match self.gates.enter(key.file, &file.dir) {
            Some(pass) => self.give_back_copy(&pass, file, key.extent, space),
            None => file.dir.leave(Chore::GiveBack { file: file.clone(), extent: key.extent, space }),
        }
    }

    /// Gives back what an extent has left behind in a file.
    pub(crate) fn give_back_copy(&self, pass: &Pass<'_>, file: &Arc<OpenFile>, extent: u32, space: u64) {
        if file.is_retired() {
            file.orphaned.fetch_add(space, Relaxed);
        } else {
            self.give_back_left(pass, file, extent, space);
            self.tidy(pass, file);
        }
    }
}
