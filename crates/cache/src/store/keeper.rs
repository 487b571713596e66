//! The threads in the background, one for each directory, so that a slow disk holds up no other: scanning it after the start, keeping some of it free,
//! bringing promoted extents in, trying it again when it is broken, and doing what is left to it by those who may not wait ([`Chore`]).

use super::{Inner, evict::How};
use crate::{
    OpenError,
    chores::Chore,
    dir::Dir,
    disk,
    geometry::EXTENT_OVERHEAD,
    index::Handle,
    layout::{self, LEAVES},
    open_files::OpenFile,
    policy::Queue,
    waits::TICKS,
};
use forebay_base::FileId;
use metrics::gauge;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Extents evicted before the keeper looks after its other duties.
const EVICTIONS_A_ROUND: usize = 64;
/// Evictions to let one promoted extent in.
const EVICTIONS_FOR_PROMOTION: usize = 4;
/// So often a thread that is to end is looked at.
const JOIN_STEP: Duration = Duration::from_millis(1);
/// How many probes pass between two notes of how much is taken.
const PROBES_PER_NOTE: u32 = 8;

/// The background threads; dropping it ends them.
pub(crate) struct Keepers {
    inner: Arc<Inner>,
    threads: Mutex<Vec<(Arc<Dir>, JoinHandle<()>)>>,
    watch: Mutex<Option<JoinHandle<()>>>,
    /// What became of the directories at the start.
    attached: Mutex<Receiver<Attached>>,
}

/// The number of a directory that has been taken into use, or is broken; or must not be used.
type Attached = (u8, Result<(), OpenError>);

impl Keepers {
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Keepers, OpenError> {
        let (tell, told) = mpsc::channel();
        let keepers = Keepers {
            inner: inner.clone(),
            threads: Mutex::default(),
            watch: Mutex::default(),
            attached: Mutex::new(told),
        };
        let thread = std::thread::Builder::new().name("cache-watch".to_owned());
        let watched = inner.clone();
        *keepers.watch.lock() = Some(thread.spawn(move || watch(&watched)).map_err(OpenError::Threads)?);
        for dir in &inner.dirs {
            let (inner, kept, tell) = (inner.clone(), dir.clone(), tell.clone());
            let keeper = move || Keeper::new(&inner, &kept).run(tell);
            let thread = std::thread::Builder::new().name(format!("cache-keeper-{}", keepers.threads.lock().len()));
            let handle = thread.spawn(keeper).map_err(OpenError::Threads)?;
            keepers.threads.lock().push((dir.clone(), handle));
        }
        Ok(keepers)
    }

    /// Waits until the directories have been taken into use. One whose disk does not answer in time is broken, and joins when it has.
    pub(crate) fn wait_until_attached(&self) -> Result<(), OpenError> {
        let silence_max = self.inner.settings.silence_max;
        let deadline = Instant::now() + silence_max;
        let mut silent: Vec<&Arc<Dir>> = self.inner.dirs.iter().collect();
        let mut refused: Option<(u8, OpenError)> = None;
        while !silent.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((number, attached)) = self.attached.lock().recv_timeout(left) else {
                break;
            };
            silent.retain(|dir| dir.number != number);
            if let Err(error) = attached
                && refused.as_ref().is_none_or(|(first, _)| number < *first)
            {
                refused = Some((number, error));
            }
        }
        silent.iter().filter(|dir| !dir.is_readable()).for_each(|dir| dir.fail_silent(silence_max));
        refused.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Ends the threads and waits for them, but not for one whose disk does not answer, and for none longer than a disk may be silent.
    pub(crate) fn stop(&self) {
        self.inner.stopped.store(true, Relaxed);
        self.inner.dirs.iter().for_each(|dir| dir.ring());
        let deadline = Instant::now() + self.inner.settings.silence_max;
        for (dir, thread) in self.threads.lock().drain(..) {
            while !thread.is_finished() && !dir.is_silent() && Instant::now() < deadline {
                std::thread::sleep(JOIN_STEP);
            }
            if !thread.is_finished() {
                tracing::warn!(dir = %dir.path.display(), "the disk does not answer: stopping without it");
            } else if thread.join().is_err() {
                tracing::error!("a cache keeper thread has panicked");
            }
        }
        // Last: it is what tells which disks do not answer.
        if let Some(watch) = self.watch.lock().take() {
            self.inner.watch_ended.store(true, Relaxed);
            watch.thread().unpark();
            let _ = watch.join();
        }
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Finds out which disks do not answer. A thread of its own, since any other may be waiting for one of them.
fn watch(inner: &Inner) {
    let silence_max = inner.settings.silence_max;
    while !inner.watch_ended.load(Relaxed) {
        std::thread::park_timeout(silence_max / TICKS as u32);
        inner.dirs.iter().for_each(|dir| dir.tick(silence_max));
    }
}

struct Keeper<'a> {
    inner: &'a Arc<Inner>,
    dir: &'a Arc<Dir>,
    /// The leaf directory to scan next.
    leaf: u32,
    probe_at: Instant,
    probes: u32,
}

impl<'a> Keeper<'a> {
    fn new(inner: &'a Arc<Inner>, dir: &'a Arc<Dir>) -> Keeper<'a> {
        Keeper { inner, dir, leaf: 0, probe_at: Instant::now(), probes: 0 }
    }

    fn run(mut self, tell: Sender<Attached>) {
        let attached = self.dir.attach().inspect_err(|error| self.dir.refuse(error));
        self.dir.measure(self.inner.settings.keep_free.bytes());
        let _ = tell.send((self.dir.number, attached));
        drop(tell);
        while !self.inner.is_stopped() {
            if Instant::now() >= self.probe_at {
                self.probe();
            }
            self.do_chores();
            let scanning = self.scan_step();
            let full = self.keep_free();
            self.promote();
            if !scanning && !full {
                self.dir.wait(self.probe_at.saturating_duration_since(Instant::now()));
            }
        }
        self.dir.chores().end();
        self.note_usage();
    }

    /// Does what others have left. A directory that is out of use has them wait until it is back.
    fn do_chores(&self) {
        while self.dir.is_readable()
            && !self.inner.is_stopped()
            && let Some(chore) = self.dir.chores().next()
        {
            self.inner.do_chore(self.dir, chore);
            self.dir.chores().done();
        }
    }

    fn probe(&mut self) {
        if !self.dir.is_readable() {
            // When it comes back it may hold other things.
            self.leaf = 0;
        }
        let keep_free = self.inner.settings.keep_free.bytes();
        let was_writable = self.dir.is_writable();
        // Before it is in use again: by the limit of the time when it was full, pages would be evicted for the first that comes.
        self.dir.measure(keep_free);
        self.dir.try_again();
        if !was_writable {
            // What attaching it has found.
            self.dir.measure(keep_free);
        }
        self.probes += 1;
        if self.probes.is_multiple_of(PROBES_PER_NOTE) {
            self.note_usage();
        }
        self.publish();
        self.probe_at = Instant::now() + self.inner.settings.probe_interval;
    }

    fn publish(&self) {
        let labels = [("tier", self.dir.kind.to_string()), ("dir", self.dir.path.display().to_string())];
        let (used, capacity) = self.dir.used_and_capacity();
        gauge!("forebay_cache_used_bytes", &labels).set(used as f64);
        gauge!("forebay_cache_capacity_bytes", &labels).set(capacity as f64);
        gauge!("forebay_cache_pages", &labels).set(self.dir.pages.load(Relaxed) as f64);
        gauge!("forebay_cache_dir_healthy", &labels).set(if self.dir.is_writable() { 1.0 } else { 0.0 });
    }

    /// Notes how much is taken, for the time before the next start's scan is through.
    fn note_usage(&self) {
        let used = self.dir.used_and_limit().0;
        if self.dir.is_writable()
            && let Err(error) = layout::write_usage(&self.dir.at_disk(), &self.dir.path, used)
        {
            self.dir.note_write_error(&error);
        }
    }

    /// Scans one leaf directory; whether there is more to scan.
    fn scan_step(&mut self) -> bool {
        if !self.dir.is_readable() {
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
                || !self.inner.evict_one(self.dir, How::Demote)
            {
                return false;
            }
            self.do_chores();
        }
        true
    }

    fn promote(&self) {
        while let Some((file, handle)) = self.dir.next_promotion() {
            if self.inner.is_stopped() {
                return;
            }
            self.inner.promote_extent(self.dir, file, handle);
            self.do_chores();
        }
    }
}

impl Inner {
    /// Does a chore, or puts it back when the directory is out of use by now.
    fn do_chore(&self, dir: &Arc<Dir>, chore: Chore) {
        let enter = |file: &OpenFile| self.gates.enter(file.file(), dir);
        let done = match &chore {
            Chore::Tidy(file) => enter(file).map(|pass| self.tidy(&pass, file)),
            Chore::EndLease(file) => enter(file).map(|pass| self.end_lease(&pass, file)),
            Chore::GiveBack { file, extent, space } => {
                enter(file).map(|pass| self.give_back_copy(&pass, file, *extent, *space))
            }
            Chore::Close(_) => None,
        };
        match (chore, done) {
            (Chore::Close(file), _) => disk::close(&dir.at_disk(), file),
            (chore, None) => dir.chores().add(chore),
            _ => {}
        }
    }

    /// Moves an extent into a faster tier's directory, if room can be made.
    fn promote_extent(self: &Arc<Self>, dir: &Arc<Dir>, file: FileId, handle: Handle) {
        let Some((key, bytes, from)) = ({
            let mut shard = self.index.lock_handle(handle);
            shard.get(handle).map(|entry| (entry.key(), entry.bytes as u64, self.dir(entry.dir)))
        }) else {
            return;
        };
        debug_assert_eq!(key.file, file);
        let space = bytes + EXTENT_OVERHEAD;
        if from.tier <= dir.tier || !dir.could_hold(space) {
            return;
        }
        let mut evictions = 0;
        while !dir.reserve(space) {
            if evictions == EVICTIONS_FOR_PROMOTION || !self.evict_one(dir, How::Demote) {
                return;
            }
            evictions += 1;
        }
        if self.move_beside(key, handle, from, dir, space, Queue::Main) {
            self.counters.promoted_bytes.add(bytes);
        }
    }
}
