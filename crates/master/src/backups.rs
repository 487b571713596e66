//! Backups of the state: one at a time, made by the master that leads, of a copy as of one entry of the log.

mod schedule;
mod status;

pub(crate) use schedule::run as run_schedule;
pub(crate) use status::Told;

use crate::core::Core;
use crate::error::{Result, log_error, state_error};
use crate::metrics::names;
use forebay_backup::{BackupError, BackupId, Manifest, OnProgress, Sending, Sent, Swept, Target, sweep};
use forebay_base::{ErrorKind, TimestampMs};
use forebay_metastore::RocksView;
use forebay_namespace::query;
use forebay_proto::error::WireError;
use futures::{FutureExt, TryFutureExt};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Below the data directory: copies of the state on their way to a target.
const DIRECTORY: &str = "backup";

/// What the master that leads knows of backups.
pub(crate) struct Backups {
    turns: Turns,
    told: Mutex<Told>,
}

impl Backups {
    /// Of a lead that begins; a backup of one before it may still be ending.
    pub(crate) fn new(turns: Turns) -> Backups {
        Backups { turns, told: Mutex::default() }
    }

    /// What to tell of it.
    pub(crate) fn told(&self) -> Told {
        let mut told = self.told.lock().clone();
        told.running = self.is_running();
        told
    }

    fn is_running(&self) -> bool {
        self.turns.is_taken.load(Ordering::Relaxed)
    }

    fn turn(&self) -> Result<Turn> {
        match self.turns.is_taken.swap(true, Ordering::Acquire) {
            false => Ok(Turn(self.turns.clone())),
            true => Err(WireError::new(ErrorKind::Conflict, "another backup is being made")
                .with_hint("see `forebay status`, and try again when it is done")),
        }
    }
}

/// Gives the right to make a backup to one at a time, in the whole process: all copies lie in one directory, which each of them clears first.
#[derive(Clone, Default)]
pub(crate) struct Turns {
    is_taken: Arc<AtomicBool>,
}

/// The right to make the one backup that is made at a time.
struct Turn(Turns);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

/// What is wished for.
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) full: bool,
    /// How many stay; all, if it is none.
    pub(crate) keep: Option<usize>,
}

/// What was made.
pub(crate) struct Made {
    pub(crate) sent: Sent,
    pub(crate) swept: Swept,
}

/// Makes a backup, and takes away what is not kept. A failure leaves nothing that could be taken for a backup, unless
/// the end comes behind the manifest: what is dropped then, as when the lead is over, or gets no answer from the store, leaves a backup that nobody was told
/// of. It has its files, but for what [`forebay_backup`] says of two that lead at once.
pub(crate) async fn create(core: &Core, wanted: &Wanted, progress: OnProgress<'_>) -> Result<Made> {
    let turn = core.backups.turn()?;
    create_in_turn(core, turn, wanted, progress).await
}

async fn create_in_turn(core: &Core, turn: Turn, wanted: &Wanted, progress: OnProgress<'_>) -> Result<Made> {
    let mut copy = Copy::new(core, turn);
    let outcome = match copy.fill(core).await {
        Ok(()) => send(core, &copy, wanted, progress).await,
        Err(error) => Err(error),
    };
    copy.remove().await;
    if let Ok(made) = &outcome {
        let manifest = &made.sent.manifest;
        metrics::counter!(names::BACKUPS, "outcome" => "ok").increment(1);
        note_last(manifest.created_ms);
        core.backups.told.lock().made(manifest);
        tracing::info!(
            backup = %manifest.id, to = wanted.target.uri(), index = manifest.index, bytes = manifest.bytes(),
            sent_bytes = made.sent.sent_bytes, "a backup was made"
        );
    }
    outcome
}

/// One was made then: by this master, or before it led.
fn note_last(created_ms: u64) {
    metrics::gauge!(names::BACKUP_LAST).set(created_ms as f64 / 1000.0);
}

/// One was not made.
pub(crate) fn count_failure() {
    metrics::counter!(names::BACKUPS, "outcome" => "failed").increment(1);
}

async fn send(core: &Core, copy: &Copy, wanted: &Wanted, progress: OnProgress<'_>) -> Result<Made> {
    let still = || {
        let leads = core.still_leads();
        leads.map_err(|error| BackupError::GivenUp { why: error.to_string() }).boxed()
    };
    let sending = Sending {
        target: &wanted.target,
        directory: &copy.state(),
        full: wanted.full,
        bytes_per_second: core.settings.group.snapshot_bytes_per_second.bytes(),
        still: &still,
    };
    let sent = sending.run(copy.manifest.clone(), progress).await.map_err(backup_error)?;
    metrics::counter!(names::BACKUP_SENT_BYTES).increment(sent.sent_bytes);
    let swept = match sweep(&wanted.target, &sent.manifest, wanted.keep, &still).await {
        Ok(swept) => swept,
        Err(error) => {
            // The backup itself is there.
            tracing::warn!(to = wanted.target.uri(), %error, "old backups could not be taken away; the next backup tries again");
            Swept::default()
        }
    };
    Ok(Made { sent, swept })
}

/// A copy of the state.
struct Copy {
    place: Arc<CopyPlace>,
    /// Without its files.
    manifest: Manifest,
}

/// Where a copy lies. What works there by itself, on a thread or in a task, holds it, also when nobody waits for that any more; with the last holder the copy goes, and
/// only then the turn ends.
struct CopyPlace {
    directory: PathBuf,
    turn: Option<Turn>,
}

impl Copy {
    /// Nothing is there yet.
    fn new(core: &Core, turn: Turn) -> Copy {
        let directory = core.settings.data_dir.join(DIRECTORY).join(format!("{:016x}", rand::random::<u64>()));
        let place = CopyPlace { directory, turn: Some(turn) };
        Copy { place: Arc::new(place), manifest: core.unfinished_manifest() }
    }

    /// Makes it, as of now.
    async fn fill(&mut self, core: &Core) -> Result<()> {
        let (all, place) = (core.settings.data_dir.join(DIRECTORY), Arc::clone(&self.place));
        blocking(move || remove(&all).and_then(|()| forebay_base::data_dir::create_private(&place.directory))).await?;
        let at = core.checkpoint(self.state(), Arc::clone(&self.place)).await.map_err(log_error)?;
        let (state, place) = (self.state(), Arc::clone(&self.place));
        let summary = tokio::task::spawn_blocking(move || {
            let view = RocksView::open(&state, &place.directory.join("messages"));
            let view = view.map_err(|error| state_error(error.into()))?;
            query::summary(&view).map_err(state_error)
        });
        let summary = summary.await.map_err(|error| crate::error::internal(error.to_string()))??;
        (self.manifest.term, self.manifest.index, self.manifest.inodes) = (at.term, at.index, summary.inodes);
        Ok(())
    }

    fn state(&self) -> PathBuf {
        self.place.directory.join("state")
    }

    /// Removes it; the turn has ended when this returns.
    async fn remove(self) {
        if let Some(place) = Arc::into_inner(self.place) {
            // It waits for the disk.
            let _ = tokio::task::spawn_blocking(move || place.remove()).await;
        }
    }
}

impl CopyPlace {
    fn remove(mut self) {
        if let Some(turn) = self.turn.take() {
            remove_copy(&self.directory, turn);
        }
    }
}

impl Drop for CopyPlace {
    /// Of a backup that was given up: whoever drops that must not wait for the disk.
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let directory = std::mem::take(&mut self.directory);
        let removal = std::thread::Builder::new().name("backup-remove".to_owned());
        if let Err(error) = removal.spawn(move || remove_copy(&directory, turn)) {
            tracing::warn!(%error, "a copy of the state stays, since no thread can be started to remove it; the next backup tries again");
        }
    }
}

fn remove_copy(directory: &Path, turn: Turn) {
    if let Err(error) = remove(directory) {
        tracing::warn!(path = %directory.display(), %error, "a copy of the state cannot be removed; the next backup tries again");
    }
    drop(turn);
}

/// Removes copies that a process that ended has left.
pub(crate) fn remove_copies(data_dir: &Path) {
    let path = data_dir.join(DIRECTORY);
    if let Err(error) = remove(&path) {
        tracing::warn!(path = %path.display(), %error, "an old copy of the state cannot be removed");
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| WireError::new(ErrorKind::Unavailable, format!("no room for a copy of the state: {error}")))
}

impl Core {
    /// What is known of a backup before its copy is made.
    fn unfinished_manifest(&self) -> Manifest {
        let now_ms = self.now_ms();
        Manifest {
            id: BackupId::draw(TimestampMs(now_ms)),
            cluster: self.keys.cluster_id.clone(),
            created_ms: now_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            term: 0,
            index: 0,
            inodes: 0,
            secret_key: mark_of(&self.keys.secret_key),
            files: Vec::new(),
        }
    }
}

/// By which a key is known again, and from which it cannot be told: it is 32 random bytes.
pub(crate) fn mark_of(key: &[u8]) -> String {
    let sum = Sha256::new().chain_update(b"forebay secret.key\0").chain_update(key).finalize();
    sum[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The errors of backups. Who asked may decide himself whether to try again.
pub(crate) fn backup_error(error: BackupError) -> WireError {
    WireError::new(error.kind(), error.to_string()).with_hint(error.hint()).as_last_word()
}
