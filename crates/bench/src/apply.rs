//! The state machine alone, on RocksDB, with commands as they come from the log: no log, no network, one thread. Its limit is RocksDB
//! taking the very rows that the commands became.

mod recording;

use crate::Setting;
use crate::commands::{self, NOW_MS};
use crate::report::{Better, Limit, Report};
use anyhow::{Context, Result};
use bytes::Bytes;
use forebay_metastore::{Batch, RocksSettings, RocksStore, Store};
use forebay_namespace::command::{CompleteFile, Delete, Rename};
use forebay_namespace::reply::{self, Payload};
use forebay_namespace::{Action, StateMachine};
use recording::Recording;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILES_PER_DIRECTORY: u64 = 1_000;
const CLIENTS: u64 = 64;
/// Commands of one batch, as 64 clients that all wait make them.
const BATCH: usize = 64;
/// What a group of one is to commit.
const CREATES_MIN: f64 = 20_000.0;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let files = setting.pick(200_000, 30_000);
    tokio::task::spawn_blocking(move || measure(files)).await?
}

fn measure(files: u64) -> Result<Report> {
    let dir = tempfile::tempdir()?;
    let open = |name: &str| RocksStore::open(&dir.path().join(name), &RocksSettings::default()).map(Arc::new);
    let mut rates = Vec::new();
    Life::begin(open("timed")?, files, BATCH)?.live(|step, count, time| {
        rates.push((step, rate(count, time)));
        Ok(())
    })?;
    let rows = rows(open("recorded")?, files)?;
    let alone = open("alone")?;
    let mut report = Report::default();
    for ((step, ours), (count, batches)) in rates.iter().zip(rows) {
        let limit = Limit::new("RocksDB, the same rows", rate(count, write_all(&alone, batches)?));
        report.row(format!("{step}, {BATCH} a batch"), (*ours, "/s"), Better::Higher, limit, None);
    }
    let created = rates.first().context("creates come first")?.1;
    let budget = Limit::new("budget of the log above", CREATES_MIN);
    report.row(format!("create, {BATCH} a batch"), (created, "/s"), Better::Higher, budget, Some(1.0));
    let mut single = 0.0;
    Life::begin(open("single")?, files / 10, 1)?.live(|step, count, time| {
        single = if step == "create" { rate(count, time) } else { single };
        Ok(())
    })?;
    let together = Limit::new(format!("{BATCH} a batch"), created);
    report.row("create, 1 a batch", (single, "/s"), Better::Higher, together, None);
    report.note(format!("{files} files, requests of {CLIENTS} clients; one thread, state in memory and page cache"));
    Ok(report)
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// What each step writes, with the number of its commands.
fn rows(store: Arc<RocksStore>, files: u64) -> Result<Vec<(usize, Vec<Batch>)>> {
    let recording = Arc::new(Recording::new(store));
    let mut steps = Vec::new();
    let life = Life::begin(recording.clone(), files, BATCH)?;
    recording.take();
    life.live(|_, count, _| {
        steps.push((count, recording.take()));
        Ok(())
    })?;
    Ok(steps)
}

fn write_all(store: &RocksStore, batches: Vec<Batch>) -> Result<Duration> {
    let started = Instant::now();
    for batch in batches {
        store.write(batch)?;
    }
    Ok(started.elapsed())
}

/// The steps in the life of many files.
struct Life {
    machine: StateMachine,
    files: u64,
    batch: usize,
    requests: u64,
}

impl Life {
    /// An empty tree with the directories.
    fn begin(store: Arc<dyn Store>, files: u64, batch: usize) -> Result<Life> {
        let mut life = Life { machine: StateMachine::open(store)?, files, batch, requests: 0 };
        let directories = (0..files.div_ceil(FILES_PER_DIRECTORY)).map(|n| commands::make_directory(directory(n)));
        let made = [commands::mount()].into_iter().chain(directories).map(|command| (Bytes::new(), command));
        life.apply(&made.collect::<Vec<_>>())?;
        Ok(life)
    }

    /// Takes the steps, and tells of each how many commands it had and how long applying them took.
    fn live(mut self, mut tell: impl FnMut(&'static str, usize, Duration) -> Result<()>) -> Result<()> {
        let created = self.step("create", &mut tell, (0..self.files).map(|n| commands::create(path(n)).into()))?;
        let completed = created.iter().enumerate().filter_map(|(n, payload)| complete(n as u64, payload));
        self.step("complete", &mut tell, completed)?;
        let half = self.files / 2;
        self.step("rename", &mut tell, (0..half).map(rename))?;
        self.step("delete", &mut tell, (half..self.files).map(delete))?;
        Ok(())
    }

    fn step(
        &mut self,
        name: &'static str,
        tell: &mut impl FnMut(&'static str, usize, Duration) -> Result<()>,
        actions: impl Iterator<Item = Action>,
    ) -> Result<Vec<Payload>> {
        let entries: Vec<(Bytes, Bytes)> = actions.map(|action| self.entry(action)).collect();
        let started = Instant::now();
        let replies = self.apply(&entries)?;
        tell(name, entries.len(), started.elapsed())?;
        let payloads = replies.iter().map(|reply| reply::decode(reply));
        payloads.collect::<Result<Vec<_>, _>>().map_err(|refusal| anyhow::anyhow!("{name}: {refusal}"))
    }

    fn entry(&mut self, action: Action) -> (Bytes, Bytes) {
        let command = commands::request(self.requests % CLIENTS, self.requests / CLIENTS, action);
        self.requests += 1;
        (Bytes::copy_from_slice(&self.requests.to_be_bytes()), command)
    }

    fn apply(&mut self, entries: &[(Bytes, Bytes)]) -> Result<Vec<Bytes>> {
        let mut replies = Vec::with_capacity(entries.len());
        for batch in entries.chunks(self.batch) {
            replies.extend(self.machine.apply(batch)?);
        }
        Ok(replies)
    }
}

fn directory(number: u64) -> String {
    format!("/lake/images/train/{number:05}")
}

fn path(file: u64) -> String {
    format!("{}/image-{file:08}.jpg", directory(file / FILES_PER_DIRECTORY))
}

/// With a tag as long as an ETag.
fn complete(file: u64, payload: &Payload) -> Option<Action> {
    let Payload::Created(created) = payload else { return None };
    let tag = format!("\"{:016x}{:016x}\"", crate::pace::random(1, file), crate::pace::random(2, file));
    Some(CompleteFile { write: created.write.id, length: 100_000, tag, modified_ms: NOW_MS }.into())
}

fn rename(file: u64) -> Action {
    Rename { from: path(file).into(), to: format!("{}.done", path(file)).into(), ..Rename::default() }.into()
}

fn delete(file: u64) -> Action {
    Delete { path: path(file).into(), ..Delete::default() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_metastore::{Direction, KeyRange, MemStore, Read};

    /// The limit is a limit only if it is given the same work.
    #[test]
    fn the_recorded_rows_make_the_same_store() {
        let (kept, alone) = (Arc::new(MemStore::new()), MemStore::new());
        let recording = Arc::new(Recording::new(kept.clone()));
        let life = Life::begin(recording.clone(), 200, BATCH).unwrap();
        let mut counts = Vec::new();
        life.live(|step, count, _| {
            counts.push((step, count));
            Ok(())
        })
        .unwrap();
        assert_eq!(counts, [("create", 200), ("complete", 200), ("rename", 100), ("delete", 100)]);
        recording.take().into_iter().for_each(|batch| alone.write(batch).unwrap());
        let all = |store: &MemStore| store.scan(KeyRange::all(), Direction::Forward).collect::<Result<Vec<_>, _>>();
        assert_eq!(all(&kept).unwrap(), all(&alone).unwrap());
    }
}
