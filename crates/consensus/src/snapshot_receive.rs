//! Takes a checkpoint from a leader into a directory of its own, and gives it to the engine when every byte of it is there and on disk. Until
//! then, and after a crash at any point, the member is as before; the directory is emptied at the next start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::alias::SnapshotOf;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::applier::SnapshotDir;
use crate::log::Position;
use crate::members::Applied;
use crate::messages::{Finish, Offer, Part, Received, SnapshotFile};
use crate::raft_types::{RaftVote, SnapshotMeta, Types, position};
use crate::runtime::{spawn, spawn_blocking, timeout};
use crate::snapshot_send::checksum_of;
use crate::start::{Engine, metrics_of};

/// Most files of a snapshot. A checkpoint of a billion inodes has some thousands.
const FILES_MAX: usize = 100_000;

/// What is coming in, at most one snapshot at a time.
pub(crate) struct Receiver {
    /// For the incoming files.
    directory: PathBuf,
    coming: Arc<Mutex<Option<Incoming>>>,
    made: AtomicU64,
    /// The last one that was begun to be installed.
    install: parking_lot::Mutex<Option<Install>>,
}

/// How long who asks to install waits for the end, before he is told how far it is.
const INSTALL_PATIENCE: Duration = Duration::from_secs(2);

/// A snapshot that is being checked and installed, or was. Checking takes as long as reading all of it does.
#[derive(Clone)]
struct Install {
    transfer: u64,
    /// Grows as it gets on: bytes that are checked, and steps.
    working: Arc<AtomicU64>,
    outcome: watch::Receiver<Option<Result<Received, String>>>,
}

impl Install {
    /// Never zero.
    fn steps(&self) -> u64 {
        1 + self.working.load(Ordering::Relaxed)
    }

    fn is_running(&self) -> bool {
        // Who would tell the outcome is there.
        self.outcome.has_changed().is_ok() && self.outcome.borrow().is_none()
    }
}

struct Incoming {
    offer: Offer,
    /// Bytes of each file that are there.
    lengths: Vec<u64>,
    /// The directory, removed with it.
    files: SnapshotDir,
}

impl Receiver {
    /// Takes snapshots into `directory`, which others empty at start.
    pub(crate) fn new(directory: PathBuf) -> Receiver {
        Receiver { directory, coming: Arc::default(), made: AtomicU64::new(0), install: parking_lot::Mutex::default() }
    }

    /// Prepares for a snapshot. Files of an earlier one that did not come to its end are used again where they are the same.
    pub(crate) async fn offer(&self, raft: &Engine, offer: Offer) -> Result<Received, String> {
        if let Some(answer) = answer_at_once(raft, &offer)?.or_else(|| self.working(raft)) {
            return Ok(answer);
        }
        let mut coming = self.coming.lock().await;
        // Another one may have been installed meanwhile.
        if let Some(answer) = answer_at_once(raft, &offer)? {
            return Ok(answer);
        }
        let same = coming.as_ref().is_some_and(|incoming| incoming.offer.transfer == offer.transfer);
        if !same {
            check_names(&offer.files)?;
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let path = self.directory.join(format!("incoming-{number}"));
            let before = coming.take();
            let prepare = spawn_blocking(move || Incoming::prepare(&path, offer, before)).await;
            let prepared = prepare.map_err(|e| e.to_string())?;
            *coming = Some(prepared.map_err(|e| format!("cannot make room for a snapshot: {e}"))?);
        }
        Ok(standing(raft, coming.as_ref()))
    }

    /// Writes a part, unless it is there or others are to come first.
    pub(crate) async fn part(&self, raft: &Engine, part: Part) -> Result<Received, String> {
        if let Some(answer) = self.working(raft) {
            return Ok(answer);
        }
        let mut coming = self.coming.lock().await;
        let file = part.file as usize;
        if let Some(incoming) = coming.as_mut()
            && incoming.offer.transfer == part.transfer
            && incoming.lengths.get(file) == Some(&part.offset)
        {
            let end = part.offset + part.bytes.len() as u64;
            if end > incoming.offer.files[file].length {
                return Err("a part reaches over the end of its file".to_owned());
            }
            let path = incoming.path(file)?;
            let write = move || OpenOptions::new().write(true).open(path)?.write_all_at(&part.bytes, part.offset);
            let written = spawn_blocking(write).await.map_err(|e| e.to_string())?;
            written.map_err(|e| format!("cannot write a snapshot: {e}"))?;
            incoming.lengths[file] = end;
        }
        let current = coming.as_ref().filter(|incoming| incoming.offer.transfer == part.transfer);
        Ok(standing(raft, current))
    }

    /// Makes the snapshot this member's state. Who asks again is told how far it is.
    pub(crate) async fn finish(&self, raft: &Engine, finish: Finish) -> Result<Received, String> {
        let transfer = finish.transfer;
        let mut install = self.begin(raft, finish);
        if install.transfer == transfer {
            let ended = timeout(INSTALL_PATIENCE, install.outcome.wait_for(Option::is_some)).await;
            if let Ok(ended) = ended {
                let outcome = ended.map_err(|_| "the snapshot was not installed".to_owned())?;
                return outcome.clone().unwrap_or_else(|| Ok(standing(raft, None)));
            }
        }
        Ok(Received { working: install.steps(), ..standing(raft, None) })
    }

    /// The install that runs; a new one if none does.
    fn begin(&self, raft: &Engine, finish: Finish) -> Install {
        let mut last = self.install.lock();
        if let Some(running) = last.as_ref().filter(|install| install.is_running()) {
            return running.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let begun = Install { transfer: finish.transfer, working: Arc::default(), outcome };
        *last = Some(begun.clone());
        let (raft, coming, working) = (raft.clone(), Arc::clone(&self.coming), Arc::clone(&begun.working));
        // It goes on when nobody waits for the answer any more: what has come is not lost by that.
        spawn(async move {
            let coming = coming.lock_owned().await;
            let outcome = install(raft, coming, finish, &working).await;
            tell.send_replace(Some(outcome));
        });
        begun
    }

    /// The answer as long as a snapshot is being installed.
    fn working(&self, raft: &Engine) -> Option<Received> {
        let install = self.install.lock().clone().filter(Install::is_running)?;
        Some(Received { working: install.steps(), ..standing(raft, None) })
    }
}

async fn install(
    raft: Engine,
    mut coming: OwnedMutexGuard<Option<Incoming>>,
    finish: Finish,
    working: &Arc<AtomicU64>,
) -> Result<Received, String> {
    let Some(incoming) = coming.take_if(|incoming| incoming.offer.transfer == finish.transfer) else {
        // It is done, or a restart has forgotten it: the offer will tell.
        return Ok(standing(&raft, None));
    };
    if finish.vote != incoming.offer.vote {
        return Err("a snapshot was offered by one leader and is finished by another one".to_owned());
    }
    let (meta, counted) = (meta_of(&incoming.offer)?, Arc::clone(working));
    let checked = spawn_blocking(move || (incoming.check(&counted), incoming)).await;
    let (checked, mut incoming) = checked.map_err(|e| e.to_string())?;
    if let Err(Damage { file, error }) = checked {
        // It comes again, and what is good stays.
        incoming.lengths[file] = 0;
        let name = incoming.offer.files[file].name.clone();
        *coming = Some(incoming);
        return Err(format!("{name} of a snapshot came damaged: {error}"));
    }
    // As far as it may have got meanwhile.
    check_place(&raft, &incoming.offer)?;
    working.fetch_add(1, Ordering::Relaxed);
    let vote: RaftVote = finish.vote.into();
    let snapshot = SnapshotOf::<Types, SnapshotDir> { meta, snapshot: incoming.files };
    let installed = raft.install_full_snapshot(vote, snapshot).await.map_err(|e| e.to_string())?;
    let done = installed.vote <= vote;
    Ok(Received { vote: installed.vote.into(), lengths: Vec::new(), installed: done, working: 0 })
}

/// A file that is not as it was sent, or cannot be made durable.
struct Damage {
    file: usize,
    error: io::Error,
}

impl Incoming {
    /// Makes the directory with all files, empty or taken over from `before`.
    fn prepare(path: &Path, offer: Offer, before: Option<Incoming>) -> io::Result<Incoming> {
        forebay_base::data_dir::create_private(path)?;
        let mut incoming =
            Incoming { lengths: vec![0; offer.files.len()], offer, files: SnapshotDir::Files(path.to_owned()) };
        for (file, length) in incoming.offer.files.iter().zip(&mut incoming.lengths) {
            let target = path.join(&file.name);
            let there = before.as_ref().and_then(|before| before.complete(file));
            match there {
                Some(from) => {
                    fs::rename(from, &target)?;
                    *length = file.length;
                }
                None => drop(File::create(&target)?),
            }
        }
        Ok(incoming)
    }

    /// The path of a file that is the same and whole.
    fn complete(&self, wanted: &SnapshotFile) -> Option<PathBuf> {
        let at = self.offer.files.iter().position(|file| file == wanted)?;
        let whole = wanted.length > 0 && self.lengths[at] == wanted.length;
        self.files.path().filter(|_| whole).map(|dir| dir.join(&wanted.name))
    }

    fn path(&self, file: usize) -> Result<PathBuf, String> {
        let dir = self.files.path().ok_or("a snapshot without a directory")?;
        Ok(dir.join(&self.offer.files[file].name))
    }

    /// Syncs every file and compares it with what was offered.
    fn check(&self, working: &AtomicU64) -> Result<(), Damage> {
        for file in 0..self.offer.files.len() {
            self.check_file(file).map_err(|error| Damage { file, error })?;
            working.fetch_add(self.offer.files[file].length.max(1), Ordering::Relaxed);
        }
        let dir = self.files.path().ok_or_else(|| io::Error::other("it has no directory"));
        dir.and_then(|dir| File::open(dir)?.sync_all()).map_err(|error| Damage { file: 0, error })
    }

    fn check_file(&self, file: usize) -> io::Result<()> {
        let (path, sent) = (self.path(file).map_err(io::Error::other)?, &self.offer.files[file]);
        File::open(&path)?.sync_all()?;
        match checksum_of(&path)? == (sent.length, sent.checksum) {
            true => Ok(()),
            false => Err(io::Error::other("it is not what was sent")),
        }
    }
}

/// Nothing needs to come: the sender leads no more, or this member is as far already.
fn answer_at_once(raft: &Engine, offer: &Offer) -> Result<Option<Received>, String> {
    check_place(raft, offer)?;
    let metrics = metrics_of(raft);
    let installed = metrics.last_applied >= meta_of(offer)?.last_log_id;
    let newer = metrics.vote > RaftVote::from(offer.vote);
    let answer =
        Received { vote: metrics.vote.into(), lengths: Vec::new(), installed: installed && !newer, working: 0 };
    Ok((installed || newer).then_some(answer))
}

fn standing(raft: &Engine, incoming: Option<&Incoming>) -> Received {
    let lengths = incoming.map(|incoming| incoming.lengths.clone()).unwrap_or_default();
    Received { vote: metrics_of(raft).vote.into(), lengths, installed: false, working: 0 }
}

/// Refuses what no leader can have: the engine takes it for granted that a snapshot is not from after its sender's term, and
/// does not contradict what is known to be committed.
fn check_place(raft: &Engine, offer: &Offer) -> Result<(), String> {
    let (at, committed) = (position(Applied::decode(&offer.applied)?.last()), metrics_of(raft).local_committed);
    let contradicts = |known: Position| at.term > known.term && at.index <= known.index;
    match !offer.vote.committed || at.term > offer.vote.term || committed.map(position).is_some_and(contradicts) {
        true => Err(format!("a snapshot at entry {} of term {} cannot be its sender's", at.index, at.term)),
        false => Ok(()),
    }
}

fn meta_of(offer: &Offer) -> Result<SnapshotMeta, String> {
    let applied = Applied::decode(&offer.applied)?;
    Ok(SnapshotMeta { last_log_id: Some(applied.last()), last_membership: applied.membership()? })
}

/// A name must stay inside the directory.
fn check_names(files: &[SnapshotFile]) -> Result<(), String> {
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(format!("a snapshot of {} files is not possible", files.len()));
    }
    let mut names = std::collections::BTreeSet::new();
    for file in files {
        let plain = Path::new(&file.name).file_name().and_then(|name| name.to_str()) == Some(&file.name);
        if !plain || !names.insert(&file.name) {
            return Err(format!("{:?} is not possible as the name of a file", file.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_told_from_good_ones() {
        let dir = tempfile::tempdir().unwrap();
        let sent = ["one", "two", "three"];
        let files = sent.map(|content| {
            let path = dir.path().join(content);
            fs::write(&path, content).unwrap();
            let (length, checksum) = checksum_of(&path).unwrap();
            SnapshotFile { name: content.to_owned(), length, checksum }
        });
        let offer = Offer { files: files.to_vec(), ..Offer::default() };
        let incoming = Incoming::prepare(&dir.path().join("incoming"), offer, None).unwrap();
        for (file, content) in sent.iter().enumerate() {
            fs::write(incoming.path(file).unwrap(), content).unwrap();
        }
        let checked = AtomicU64::new(0);
        assert!(incoming.check(&checked).is_ok());
        assert_eq!(checked.into_inner(), sent.iter().map(|content| content.len() as u64).sum::<u64>());
        let checked = AtomicU64::new(0);
        fs::write(incoming.path(1).unwrap(), "tvo").unwrap();
        assert_eq!(incoming.check(&checked).err().map(|damage| damage.file), Some(1));
    }
}
