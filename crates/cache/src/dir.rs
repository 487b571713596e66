//! One directory of a tier: its space, its health, its order of eviction.

use crate::{
    DirStatus, Health, LEASE_GRACE, OpenError, TierKind,
    chores::{Chore, Chores},
    disk, hash,
    index::Handle,
    layout,
    policy::S3Fifo,
    waits::{Wait, Waits},
};
use forebay_base::{Clock, FileId, FileLock, SystemClock};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// So many read errors in a row, and the directory is out of use: one bad sector is not a broken disk.
const READ_ERRORS_MAX: u32 = 4;
/// Promotions that wait; more are forgotten, the next hit asks again.
const PROMOTIONS_MAX: usize = 256;
/// A disk that has answered again, and falls silent within this time, gets twice the pause of the last time.
const RELAPSE_WITHIN: Duration = Duration::from_secs(600);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Files remembered as loaded while the scan runs.
const LOADED_MAX: usize = 1 << 20;

/// One directory.
pub(crate) struct Dir {
    /// Its place in the list of all directories.
    pub(crate) number: u8,
    /// Its tier's place, the fastest first.
    pub(crate) tier: usize,
    pub(crate) kind: TierKind,
    pub(crate) path: PathBuf,
    pub(crate) quota: u64,
    seed: u64,
    space: Mutex<Space>,
    pub(crate) pages: AtomicI64,
    /// Space of the extents in the small queue.
    pub(crate) small_bytes: AtomicI64,
    /// Entries of the index that lie here.
    pub(crate) extents: AtomicI64,
    pub(crate) policy: Mutex<S3Fifo>,
    mode: AtomicU8,
    health: Mutex<Health>,
    read_errors: AtomicU32,
    waits: Waits,
    /// A call has been waiting for too long, and is waiting still.
    is_silent: AtomicBool,
    silence: Mutex<Silence>,
    /// On a file system that is memory.
    in_memory: AtomicBool,
    chores: Chores,
    attached: Mutex<Option<Attached>>,
    scanned: AtomicBool,
    /// Files that were looked for before the scan came to them.
    loaded: Mutex<HashSet<FileId>>,
    bell: (Mutex<Bell>, Condvar),
    /// When bytes that clients may be reading by descriptors can go.
    punching: Mutex<Punching>,
}

/// Whether the bytes of pages that are gone are given back. Clients may hold descriptors of files that no lease of ours protects.
#[derive(Clone, Copy, Debug, Default)]
enum Punching {
    #[default]
    Now,
    /// Those that the process before this one handed out.
    From(Instant),
    /// Those that we handed out, and end with us.
    Never,
}

/// What is remembered of a disk that did not answer.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    /// When it answered again.
    ended_at: Option<Instant>,
    /// How long it is left alone after that.
    pause: Duration,
}

impl Silence {
    fn begins(&mut self, silence_max: Duration) {
        let relapse = self.ended_at.is_some_and(|at| at.elapsed() < self.pause.saturating_add(RELAPSE_WITHIN));
        self.pause = match relapse {
            true => (self.pause * 2).clamp(silence_max, PAUSE_MAX.max(silence_max)),
            false => Duration::ZERO,
        };
    }

    fn is_pausing(&self) -> bool {
        self.ended_at.is_some_and(|at| at.elapsed() < self.pause)
    }
}

/// What is held while a directory is ours.
struct Attached {
    _lock: FileLock,
    marker: String,
}

/// Bytes of a directory.
#[derive(Default)]
struct Space {
    /// What was taken before the start, as noted then; 0 once the scan knows better.
    estimate: u64,
    /// What the scan has found.
    found: u64,
    /// What was taken less what was freed since the start.
    change: i64,
    /// How much may be taken: the quota, or less when the disk is full with other things.
    limit: u64,
    /// Bytes of other things on the disk, when it was last looked at.
    other: u64,
}

impl Space {
    fn used(&self) -> u64 {
        (self.estimate.max(self.found) as i64 + self.change).max(0) as u64
    }
}

/// What the directory's keeper thread shall do next.
#[derive(Default)]
struct Bell {
    rung: bool,
    promotions: VecDeque<(FileId, Handle)>,
}

const HEALTHY: u8 = 0;
const READ_ONLY: u8 = 1;
const BROKEN: u8 = 2;
/// Why a directory is out of use at first.
const NOT_OPENED: &str = "not opened yet";

impl Dir {
    pub(crate) fn new(number: u8, tier: usize, kind: TierKind, path: &Path, quota: u64) -> Dir {
        Dir {
            number,
            tier,
            kind,
            path: path.to_owned(),
            quota,
            seed: hash::of_bytes(path.as_os_str().as_encoded_bytes()),
            space: Mutex::new(Space { limit: quota, ..Space::default() }),
            pages: AtomicI64::new(0),
            small_bytes: AtomicI64::new(0),
            extents: AtomicI64::new(0),
            policy: Mutex::default(),
            mode: AtomicU8::new(BROKEN),
            health: Mutex::new(Health::Broken { reason: NOT_OPENED.to_owned(), since: SystemClock.now() }),
            read_errors: AtomicU32::new(0),
            waits: Waits::default(),
            is_silent: AtomicBool::new(false),
            silence: Mutex::default(),
            in_memory: AtomicBool::new(false),
            chores: Chores::default(),
            attached: Mutex::new(None),
            scanned: AtomicBool::new(false),
            loaded: Mutex::default(),
            bell: Default::default(),
            punching: Mutex::default(),
        }
    }

    /// Takes the directory into use. Refused: the settings must change. Otherwise it is healthy or broken afterwards.
    pub(crate) fn attach(&self) -> Result<(), OpenError> {
        let wait = &self.at_disk();
        let was_used = layout::read_marker(wait, &self.path).is_ok();
        let attached = layout::attach(wait, &self.path).and_then(|lock| {
            let marker = layout::read_marker(wait, &self.path)?;
            Ok(Attached { _lock: lock, marker })
        });
        match attached {
            Ok(attached) => {
                self.space.lock().estimate = layout::read_usage(wait, &self.path).min(self.quota);
                self.note_file_system(wait);
                if was_used {
                    self.wait_for_grace();
                }
                *self.attached.lock() = Some(attached);
                self.set_health(Health::Healthy);
                Ok(())
            }
            Err(layout::AttachError::Refused(error)) => Err(error),
            Err(layout::AttachError::Io(error)) => {
                let is_first = matches!(&*self.health.lock(), Health::Broken { reason, .. } if reason == NOT_OPENED);
                if is_first {
                    tracing::error!(dir = %self.path.display(), %error, "cache directory cannot be used: nothing is cached there until it can");
                }
                self.fail(BROKEN, &error);
                Ok(())
            }
        }
    }

    /// The directory must not be used, at least not now.
    pub(crate) fn refuse(&self, error: &OpenError) {
        self.fail(BROKEN, &io::Error::other(error.to_string()));
    }

    fn note_file_system(&self, wait: &Wait<'_>) {
        let in_memory = disk::is_memory(wait, &self.path).unwrap_or(false);
        if self.kind == TierKind::Mem && !in_memory {
            tracing::warn!(dir = %self.path.display(), "this directory of the MEM tier is not on a tmpfs: its pages are read as from a disk");
        }
        self.in_memory.store(in_memory, Relaxed);
    }

    /// Whether its bytes can be read without waiting for a disk, always.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.in_memory.load(Relaxed)
    }

    /// Whoever used the directory before us has ended just before we got its lock, at the latest.
    fn wait_for_grace(&self) {
        let mut punching = self.punching.lock();
        if !matches!(*punching, Punching::Never) {
            *punching = Punching::From(Instant::now() + LEASE_GRACE);
        }
    }

    /// See [`crate::PageStore::stop_punching`].
    pub(crate) fn stop_punching(&self) {
        *self.punching.lock() = Punching::Never;
    }

    /// Gives the space of a range of a file here back (*blocking*: in the first moment after the start it waits, see [`LEASE_GRACE`]).
    pub(crate) fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        loop {
            let punching = *self.punching.lock();
            match punching {
                Punching::Now => {
                    return disk::punch(&self.at_disk(), &self.path, file, range);
                }
                Punching::Never => return Ok(()),
                Punching::From(start) => {
                    std::thread::sleep(start.saturating_duration_since(Instant::now()));
                    let mut punching = self.punching.lock();
                    if matches!(*punching, Punching::From(at) if at <= Instant::now()) {
                        *punching = Punching::Now;
                    }
                }
            }
        }
    }

    /// How much this directory wants a file: the highest of its tier gets it (rendezvous hashing, weighted by quota).
    pub(crate) fn score(&self, file: FileId) -> f64 {
        self.quota as f64 / -hash::unit_interval(hash::of_file(file), self.seed).ln()
    }

    /// To be held by each call that may wait for the disk, and for nothing else: see [`Dir::tick`].
    pub(crate) fn at_disk(&self) -> Wait<'_> {
        self.waits.enter(&self.path)
    }

    /// Leaves something to the keeper that may wait for the disk. Never waits itself.
    pub(crate) fn leave(&self, chore: Chore) {
        self.chores.add(chore);
        self.ring();
    }

    pub(crate) fn chores(&self) -> &Chores {
        &self.chores
    }

    /// Takes the directory out of use when its disk has kept a call waiting for `silence_max`, of which a tick has passed.
    pub(crate) fn tick(&self, silence_max: Duration) {
        let is_silent = self.waits.tick();
        let was_silent = self.is_silent.swap(is_silent, Relaxed);
        if is_silent && !was_silent {
            self.silence.lock().begins(silence_max);
        }
        if is_silent && self.is_readable() {
            self.fail_silent(silence_max);
        }
        if was_silent && !is_silent {
            self.silence.lock().ended_at = Some(Instant::now());
            self.ring();
        }
    }

    /// Takes the directory out of use since its disk does not answer.
    pub(crate) fn fail_silent(&self, silence_max: Duration) {
        let reason = format!("the disk has not answered for {silence_max:?}");
        self.fail(BROKEN, &io::Error::new(io::ErrorKind::TimedOut, reason));
    }

    /// Whether a call is waiting that has waited for too long.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent.load(Relaxed)
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.mode.load(Relaxed) != BROKEN
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.mode.load(Relaxed) == HEALTHY
    }

    pub(crate) fn is_scanned(&self) -> bool {
        self.scanned.load(Relaxed)
    }

    /// Takes `bytes` of the space, if there are as many.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let mut space = self.space.lock();
        let fits = space.used().saturating_add(bytes) <= space.limit;
        if fits {
            space.change += bytes as i64;
        }
        fits
    }

    /// Whether so many bytes could ever fit.
    pub(crate) fn could_hold(&self, bytes: u64) -> bool {
        bytes <= self.space.lock().limit
    }

    /// Gives space back.
    pub(crate) fn release(&self, bytes: u64) {
        self.space.lock().change -= bytes as i64;
    }

    /// Counts what an earlier process left.
    pub(crate) fn found(&self, bytes: u64) {
        self.space.lock().found += bytes;
    }

    /// Everything that was there is counted: the estimate ends.
    pub(crate) fn set_scanned(&self) {
        self.space.lock().estimate = 0;
        self.scanned.store(true, Relaxed);
        *self.loaded.lock() = HashSet::new();
    }

    /// Whether there may be pages of a file here that the index does not know of.
    pub(crate) fn needs_load(&self, file: FileId) -> bool {
        !self.is_scanned() && self.is_readable() && !self.loaded.lock().contains(&file)
    }

    /// The index knows the file's pages now.
    pub(crate) fn set_loaded(&self, file: FileId) {
        let mut loaded = self.loaded.lock();
        if loaded.len() >= LOADED_MAX {
            // Loading a file again finds nothing new: it only takes time.
            loaded.clear();
        }
        if !self.is_scanned() {
            loaded.insert(file);
        }
    }

    /// Bytes taken, and how many may be.
    pub(crate) fn used_and_limit(&self) -> (u64, u64) {
        let space = self.space.lock();
        (space.used(), space.limit)
    }

    /// Bytes taken, and how many there is room for: what is taken already has room, also when others have taken the free rest since.
    pub(crate) fn used_and_capacity(&self) -> (u64, u64) {
        let (used, limit) = self.used_and_limit();
        (used, limit.max(used))
    }

    /// Bytes of other things on the disk.
    pub(crate) fn other(&self) -> u64 {
        self.space.lock().other
    }

    /// Measures the file system: other things on it may leave us less than the quota.
    pub(crate) fn measure(&self, keep_free: u64) {
        let Ok(stat) = disk::usage(&self.at_disk(), &self.path) else {
            return;
        };
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        let taken = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize);
        // A quota that fits the whole file system is small enough for the free rest to be small too.
        let keep_free = keep_free.min(stat.f_blocks.saturating_mul(stat.f_frsize) / 32);
        let mut space = self.space.lock();
        let reachable = (space.used() + available).saturating_sub(keep_free);
        space.limit = self.quota.min(reachable);
        space.other = taken.saturating_sub(space.used());
    }

    fn set_health(&self, health: Health) {
        let mode = match health {
            Health::Healthy => HEALTHY,
            Health::ReadOnly { .. } => READ_ONLY,
            Health::Broken { .. } => BROKEN,
        };
        let mut current = self.health.lock();
        let before = self.mode.swap(mode, Relaxed);
        match &health {
            Health::Healthy if before != HEALTHY => {
                self.read_errors.store(0, Relaxed);
                tracing::info!(dir = %self.path.display(), "cache directory is in use");
            }
            Health::ReadOnly { reason, .. } if before != READ_ONLY => {
                tracing::warn!(dir = %self.path.display(), reason, "cache directory takes no more pages for now");
            }
            Health::Broken { reason, .. } if before != BROKEN => {
                // What is claimed elsewhere meanwhile is found twice when it comes back: the scan tells.
                self.scanned.store(false, Relaxed);
                self.loaded.lock().clear();
                tracing::error!(dir = %self.path.display(), reason, "cache directory is out of use: its pages count as missing until it works again");
            }
            _ => {}
        }
        *current = health;
    }

    fn fail(&self, mode: u8, error: &io::Error) {
        let (reason, since) = (error.to_string(), SystemClock.now());
        self.set_health(match mode {
            READ_ONLY => Health::ReadOnly { reason, since },
            _ => Health::Broken { reason, since },
        });
    }

    /// A write failed: draws the conclusions.
    pub(crate) fn note_write_error(&self, error: &io::Error) {
        let Some(mode) = mode_after_write_error(error) else {
            return;
        };
        if mode == READ_ONLY {
            let mut space = self.space.lock();
            space.limit = space.limit.min(space.used());
        }
        if self.mode.load(Relaxed) < mode {
            self.fail(mode, error);
        }
        self.ring();
    }

    /// A read failed: draws the conclusions.
    pub(crate) fn note_read_error(&self, error: &io::Error) {
        if is_our_own_want(error) || error.kind() == io::ErrorKind::UnexpectedEof {
            return;
        }
        let errors = self.read_errors.fetch_add(1, Relaxed) + 1;
        if errors >= READ_ERRORS_MAX && self.is_readable() {
            self.fail(BROKEN, error);
            self.ring();
        }
    }

    /// Tries a directory that is not healthy; whether it is now.
    pub(crate) fn try_again(&self) -> bool {
        if self.is_writable() {
            self.read_errors.store(0, Relaxed);
            return true;
        }
        // What it takes into memory proves nothing as long as it owes an answer.
        if self.is_silent() || self.silence.lock().is_pausing() {
            return false;
        }
        if self.attached.lock().is_none() {
            if let Err(error) = self.attach() {
                self.refuse(&error);
            }
            return self.is_writable();
        }
        let tried = {
            let wait = &self.at_disk();
            self.same_directory(wait).and_then(|()| layout::try_out(wait, &self.path))
        };
        match tried {
            Ok(()) => self.set_health(Health::Healthy),
            Err(error) => self.fail(mode_after_write_error(&error).unwrap_or(BROKEN), &error),
        }
        self.is_writable()
    }

    fn same_directory(&self, wait: &Wait<'_>) -> io::Result<()> {
        let marker = match layout::read_marker(wait, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::other("somebody has removed the cache directory: restart the worker to use it"));
            }
            marker => marker?,
        };
        let attached = self.attached.lock();
        match attached.as_ref().is_some_and(|attached| attached.marker == marker) {
            true => Ok(()),
            false => Err(io::Error::other("another cache directory is mounted here now: restart the worker to use it")),
        }
    }

    /// Wakes the keeper.
    pub(crate) fn ring(&self) {
        let mut bell = self.bell.0.lock();
        if !bell.rung {
            bell.rung = true;
            self.bell.1.notify_one();
        }
    }

    /// Asks the keeper to move an extent here.
    pub(crate) fn ask_promotion(&self, file: FileId, handle: Handle) {
        let mut bell = self.bell.0.lock();
        if bell.promotions.len() < PROMOTIONS_MAX && !bell.promotions.contains(&(file, handle)) {
            bell.promotions.push_back((file, handle));
            bell.rung = true;
            self.bell.1.notify_one();
        }
    }

    /// What to move here next.
    pub(crate) fn next_promotion(&self) -> Option<(FileId, Handle)> {
        self.bell.0.lock().promotions.pop_front()
    }

    /// Waits until the keeper is wanted, or the time has passed.
    pub(crate) fn wait(&self, at_most: std::time::Duration) {
        let mut bell = self.bell.0.lock();
        if !bell.rung {
            self.bell.1.wait_for(&mut bell, at_most);
        }
        bell.rung = false;
    }

    /// How it is.
    pub(crate) fn status(&self) -> DirStatus {
        DirStatus {
            path: self.path.clone(),
            tier: self.kind,
            health: self.health.lock().clone(),
            quota: self.quota,
            used: self.used_and_limit().0,
            scanned: self.is_scanned(),
        }
    }
}

/// Errors that say nothing about the disk: too many open files, no memory, or a file that is not there.
fn is_our_own_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOENT, Errno::EXIST, Errno::INTR, Errno::FBIG];
    Errno::from_io_error(error).is_some_and(|errno| wants.contains(&errno))
}

fn mode_after_write_error(error: &io::Error) -> Option<u8> {
    use rustix::io::Errno;
    if is_our_own_want(error) {
        return None;
    }
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS];
    let is_full = Errno::from_io_error(error).is_some_and(|errno| full.contains(&errno));
    Some(if is_full { READ_ONLY } else { BROKEN })
}
