//! Sends a checkpoint to another member, file by file, part by part, each confirmed. A part that is lost is sent again, and a connection that
//! breaks is gone on with where the receiver stands; the checkpoint stays the same as long as that lasts.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use forebay_base::checksum::Crc32c;

use crate::applier::SnapshotDir;
use crate::members::Applied;
use crate::messages::{Answer, Ask, Finish, Offer, Part, Received, SnapshotFile};
use crate::network::{CallError, Client};
use crate::raft_types::{RaftVote, Types};
use crate::runtime::{Instant, draw, sleep, sleep_until, spawn_blocking, timeout};

/// Bytes of one part.
const PART_BYTES: usize = 1 << 20;

/// ... and of a short one, where few bytes a second may go: a receiver that gets on is to be seen.
const PART_BYTES_MIN: u64 = 16 << 10;

/// A part is one write of the receiver.
const PART_DEADLINE: Duration = Duration::from_secs(10);

/// The receiver opens a store on the files that it has checked: nothing is heard of how that gets on.
const STALL_MAX: Duration = Duration::from_secs(120);

/// Between two questions how far the receiver is with checking and installing.
const WORK_PAUSE: Duration = Duration::from_millis(200);

/// So often a step fails one after the other before the sending is given up, and begun again from a new checkpoint.
const FAILURES_MAX: u32 = 20;

/// Waits after a step that failed.
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotDir>;

/// Sends all of `snapshot`; returns the receiver's vote, a higher one when it takes none from this leader any more.
pub(crate) async fn send(client: &Client, vote: RaftVote, snapshot: &Snapshot) -> Result<RaftVote, String> {
    let dir = snapshot.snapshot.path().ok_or("this snapshot has no files")?.to_owned();
    let last = snapshot.meta.last_log_id.ok_or("an empty state needs no snapshot")?;
    let applied = Applied::of(last, &snapshot.meta.last_membership).encode();
    let (listing, steps) = (spawn_blocking(move || files_of(&dir)), client);
    let listed = while_it_lasts(listing, || steps.got_on()).await.map_err(|e| e.to_string())?;
    let (paths, files) = listed.map_err(|e| format!("cannot read a checkpoint: {e}"))?;
    let bytes: u64 = files.iter().map(|file| file.length).sum();
    tracing::info!(index = last.index, files = files.len(), bytes, "sending a snapshot");
    let offer = Offer { vote: vote.into(), transfer: draw(), applied, files };
    let pace = Pace::new(client.settings().snapshot_bytes_per_second.bytes());
    Sending { client, vote, offer, paths, pace, place: Place::default() }.run().await
}

/// Waits for work of this member, which is known to get on.
async fn while_it_lasts<T>(work: impl Future<Output = T>, tell: impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tell();
        if let Ok(done) = timeout(Duration::from_secs(1), &mut work).await {
            return done;
        }
    }
}

/// How far the receiver is: in bytes that it has, and then in what it has done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    working: u64,
    bytes: u64,
}

impl Place {
    fn of(received: &Received) -> Place {
        Place { working: received.working, bytes: received.lengths.iter().sum() }
    }
}

struct Sending<'a> {
    client: &'a Client,
    vote: RaftVote,
    offer: Offer,
    paths: Vec<PathBuf>,
    pace: Pace,
    /// As it was last told.
    place: Place,
}

impl Sending<'_> {
    async fn run(mut self) -> Result<RaftVote, String> {
        let (mut failures, mut furthest, mut moved) = (0, Place::default(), Instant::now());
        let mut received = None;
        loop {
            match self.step(received.as_ref()).await {
                Ok(next) if next.installed => return Ok(next.vote.into()),
                Ok(next) if RaftVote::from(next.vote) > self.vote => return Ok(next.vote.into()),
                Ok(next) => {
                    let place = Place::of(&next);
                    if place != std::mem::replace(&mut self.place, place) {
                        moved = Instant::now();
                        self.client.got_on();
                    }
                    // What is damaged again and again is no progress.
                    if place > furthest {
                        (furthest, failures) = (place, 0);
                    }
                    if moved.elapsed() >= STALL_MAX {
                        return Err(format!("the receiver has not got on for {STALL_MAX:?}"));
                    }
                    if place.working > 0 {
                        // The same question again tells how it ends.
                        sleep(WORK_PAUSE).await;
                    } else {
                        received = (next.lengths.len() == self.offer.files.len()).then_some(next);
                    }
                }
                Err(e) if failures >= FAILURES_MAX => return Err(e),
                Err(_) => {
                    failures += 1;
                    // Where the receiver stands is asked anew.
                    received = None;
                    sleep((Duration::from_millis(50) * failures).min(PAUSE_MAX)).await;
                }
            }
        }
    }

    /// The next thing to do, given how far the receiver is.
    async fn step(&mut self, received: Option<&Received>) -> Result<Received, String> {
        let Some(received) = received else {
            return self.ask(Ask::Offer(self.offer.clone()), PART_DEADLINE).await;
        };
        let missing = received.lengths.iter().zip(&self.offer.files).position(|(have, file)| *have < file.length);
        let transfer = self.offer.transfer;
        let Some(file) = missing else {
            let finish = Finish { vote: self.vote.into(), transfer };
            return self.ask(Ask::Finish(finish), PART_DEADLINE).await;
        };
        let offset = received.lengths[file];
        let length = (self.offer.files[file].length - offset).min(self.pace.part_bytes()) as usize;
        self.pace.wait(length).await;
        let path = self.paths[file].clone();
        let read = spawn_blocking(move || read_part(&path, offset, length)).await;
        let bytes = read.map_err(|e| e.to_string())?.map_err(|e| format!("cannot read a checkpoint: {e}"))?;
        self.ask(Ask::Part(Part { transfer, file: file as u32, offset, bytes }), PART_DEADLINE).await
    }

    async fn ask(&self, ask: Ask, deadline: Duration) -> Result<Received, String> {
        match self.client.ask(ask, deadline).await {
            Ok(Answer::Received(received)) => Ok(received),
            Ok(_) => Err(self.client.strange().to_string()),
            Err(e @ (CallError::Unreachable(..) | CallError::Broken(..) | CallError::Silent(..))) => Err(e.to_string()),
        }
    }
}

/// Spreads bytes over time.
struct Pace {
    bytes_per_second: u64,
    next: Instant,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), next: Instant::now() }
    }

    /// What goes at once: four times a second, unless that is a large part.
    fn part_bytes(&self) -> u64 {
        (self.bytes_per_second / 4).clamp(PART_BYTES_MIN, PART_BYTES as u64)
    }

    /// Waits until `bytes` more may go.
    async fn wait(&mut self, bytes: usize) {
        sleep_until(self.next).await;
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.next = self.next.max(Instant::now()) + takes;
    }
}

/// The files of a checkpoint, which lie side by side, with their checksums.
fn files_of(dir: &Path) -> io::Result<(Vec<PathBuf>, Vec<SnapshotFile>)> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let files = paths.iter().map(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other(format!("{path:?} has no plain name")))?;
        let (length, checksum) = checksum_of(path)?;
        Ok(SnapshotFile { name: name.to_owned(), length, checksum })
    });
    let files: io::Result<Vec<SnapshotFile>> = files.collect();
    Ok((paths, files?))
}

/// Length and checksum of a file.
pub(crate) fn checksum_of(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; PART_BYTES];
    let (mut length, mut checksum) = (0, Crc32c::new());
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, checksum.finalize()));
        }
        checksum.update(&buffer[..read]);
        length += read as u64;
    }
}

fn read_part(path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    File::open(path)?.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}
