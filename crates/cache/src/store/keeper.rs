//! The threads in the background, one for each directory, so that a slow disk holds up no other: scanning it after the start, keeping some of it free,
//! bringing promoted extents in, trying it again when it is broken.

use super::{Inner, evict::How};
use crate::{
    OpenError,
    dir::Dir,
    geometry::EXTENT_OVERHEAD,
    index::Handle,
    layout::{self, LEAVES},
    policy::Queue,
};
use forebay_base::FileId;
use metrics::gauge;
use parking_lot::Mutex;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::Instant,
};

/// Extents evicted before the keeper looks after its other duties.
const EVICTIONS_A_ROUND: usize = 64;
/// Evictions to let one promoted extent in.
const EVICTIONS_FOR_PROMOTION: usize = 4;
/// How many probes pass between two notes of how much is taken.
const PROBES_PER_NOTE: u32 = 8;

/// The background threads; dropping it ends them.
pub(crate) struct Keepers {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Keepers {
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Keepers, OpenError> {
        let keepers = Keepers { inner: inner.clone(), threads: Mutex::default() };
        for dir in &inner.dirs {
            let (inner, dir) = (inner.clone(), dir.clone());
            let keeper = move || Keeper::new(&inner, &dir).run();
            let thread = std::thread::Builder::new().name(format!("cache-keeper-{}", keepers.threads.lock().len()));
            let handle = thread.spawn(keeper).map_err(OpenError::Threads)?;
            keepers.threads.lock().push(handle);
        }
        Ok(keepers)
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(&self) {
        self.inner.stopped.store(true, Relaxed);
        self.inner.dirs.iter().for_each(|dir| dir.ring());
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a cache keeper thread has panicked");
            }
        }
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Keeper<'a> {
    inner: &'a Inner,
    dir: &'a Arc<Dir>,
    /// The leaf directory to scan next.
    leaf: u32,
    probe_at: Instant,
    probes: u32,
}

impl<'a> Keeper<'a> {
    fn new(inner: &'a Inner, dir: &'a Arc<Dir>) -> Keeper<'a> {
        Keeper { inner, dir, leaf: 0, probe_at: Instant::now(), probes: 0 }
    }

    fn run(mut self) {
        while !self.inner.is_stopped() {
            if Instant::now() >= self.probe_at {
                self.probe();
            }
            let scanning = self.scan_step();
            let full = self.keep_free();
            self.promote();
            if !scanning && !full {
                self.dir.wait(self.probe_at.saturating_duration_since(Instant::now()));
            }
        }
        self.note_usage();
    }

    fn probe(&mut self) {
        self.dir.try_again();
        self.dir.measure(self.inner.settings.keep_free.bytes());
        self.probes += 1;
        if self.probes.is_multiple_of(PROBES_PER_NOTE) {
            self.note_usage();
        }
        self.publish();
        self.probe_at = Instant::now() + self.inner.settings.probe_interval;
    }

    fn publish(&self) {
        let labels = [("tier", self.dir.kind.to_string()), ("dir", self.dir.path.display().to_string())];
        let (used, limit) = self.dir.used_and_limit();
        gauge!("forebay_cache_used_bytes", &labels).set(used as f64);
        gauge!("forebay_cache_capacity_bytes", &labels).set(limit as f64);
        gauge!("forebay_cache_pages", &labels).set(self.dir.pages.load(Relaxed) as f64);
        gauge!("forebay_cache_dir_healthy", &labels).set(if self.dir.is_writable() { 1.0 } else { 0.0 });
    }

    /// Notes how much is taken, for the time before the next start's scan is through.
    fn note_usage(&self) {
        if self.dir.is_writable()
            && let Err(error) = layout::write_usage(&self.dir.path, self.dir.used_and_limit().0)
        {
            self.dir.note_write_error(&error);
        }
    }

    /// Scans one leaf directory; whether there is more to scan.
    fn scan_step(&mut self) -> bool {
        if !self.dir.is_readable() {
            // When it comes back it may hold other things.
            self.leaf = 0;
            return false;
        }
        if self.dir.is_scanned() {
            return false;
        }
        if self.leaf < LEAVES {
            self.inner.scan_leaf(self.dir, self.leaf);
            self.leaf += 1;
            return true;
        }
        self.leaf = 0;
        let _guard = self.inner.scan_ended.0.lock();
        self.dir.set_scanned();
        self.inner.scan_ended.1.notify_all();
        false
    }

    /// Empties the directory to the low watermark when it is above the high one; whether there is more to do.
    fn keep_free(&self) -> bool {
        let settings = &self.inner.settings;
        if !self.inner.is_above(self.dir, settings.high_watermark) {
            return false;
        }
        for _ in 0..EVICTIONS_A_ROUND {
            if self.inner.is_stopped()
                || !self.inner.is_above(self.dir, settings.low_watermark)
                || !self.inner.evict_one(self.dir, How::Demote, None)
            {
                return false;
            }
        }
        true
    }

    fn promote(&self) {
        while let Some((file, handle)) = self.dir.next_promotion() {
            if self.inner.is_stopped() {
                return;
            }
            self.inner.promote_extent(self.dir, file, handle);
        }
    }
}

impl Inner {
    /// Moves an extent into a faster tier's directory, if room can be made.
    fn promote_extent(&self, dir: &Arc<Dir>, file: FileId, handle: Handle) {
        let Some((key, bytes, tier)) = ({
            let mut shard = self.index.lock_handle(handle);
            shard.get(handle).map(|entry| (entry.key(), entry.bytes as u64, self.dir(entry.dir).tier))
        }) else {
            return;
        };
        debug_assert_eq!(key.file, file);
        let space = bytes + EXTENT_OVERHEAD;
        if tier <= dir.tier || !dir.could_hold(space) {
            return;
        }
        let mut evictions = 0;
        while !dir.reserve(space) {
            if evictions == EVICTIONS_FOR_PROMOTION || !self.evict_one(dir, How::Demote, None) {
                return;
            }
            evictions += 1;
        }
        if self.move_extent(key, handle, dir, space, Queue::Main) {
            self.counters.promoted_bytes.add(bytes);
        }
    }
}
