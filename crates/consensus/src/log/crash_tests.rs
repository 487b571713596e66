//! The log under crashes at every operation, torn writes, damage and a full disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::simulated_disk::SimulatedDisk;
use super::*;
use forebay_vtime::Chance;

const DIR: &str = "/log";

fn settings() -> LogSettings {
    LogSettings { segment_bytes: 400, cache_bytes: 100 }
}

fn open(disk: &SimulatedDisk) -> Result<Log, OpenError> {
    let failure: OnceLock<String> = OnceLock::new();
    let on_failure = Box::new(move |reason: &str| drop(failure.set(reason.to_owned())));
    Log::open(Arc::new(disk.clone()), Path::new(DIR), MemberId(1), settings(), on_failure, Box::new(|_| ()))
}

fn record(index: u64, term: u64) -> Record {
    let length = (index * 7 + term * 3) % 90;
    Record {
        index,
        term,
        kind: RecordKind::Command,
        payload: Bytes::from(vec![(index * 31 + term) as u8; length as usize]),
    }
}

fn wait(start: impl FnOnce(Done)) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    start(Box::new(move |result| tell.send(result).unwrap()));
    told.recv().unwrap()
}

fn all(log: &Log) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let from = records.last().map_or(0, |last| last.index + 1);
        let more = log.read(from, u64::MAX, 100).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

/// What the log must have, may have, and must not have.
#[derive(Default)]
struct Model {
    /// Acknowledged records; those that are asked for later replace them only when acknowledged.
    durable: BTreeMap<u64, Record>,
    /// Everything that was ever given to the log, by place.
    given: Vec<Record>,
    purged: Option<Position>,
    vote: Option<StoredVote>,
    asked_vote: Option<StoredVote>,
    /// A truncation under way may have taken these or not.
    truncating_from: Option<u64>,
    /// A start over under way may have happened or not.
    starting_over: Option<Position>,
    term: u64,
}

impl Model {
    fn check(&self, log: &Log, seed: u64) {
        let records = all(log);
        let (purged, last) = log.bounds();
        let next = purged.map_or(0, |purged| purged.index + 1);
        for (at, record) in records.iter().enumerate() {
            assert_eq!(record.index, next + at as u64, "seed {seed}: a gap");
            assert!(self.given.contains(record), "seed {seed}: {record:?} was never given");
        }
        let started_over = self.starting_over.is_some_and(|at| purged == Some(at));
        for (index, record) in &self.durable {
            let free = self.truncating_from.is_some_and(|from| *index >= from);
            if *index < next {
                assert!(purged <= self.purged || started_over, "seed {seed}: {purged:?} forgotten unasked");
            } else if !free {
                assert!(records.contains(record), "seed {seed}: acknowledged entry {index} is lost");
            }
        }
        assert_eq!(last.map(|last| last.index), records.last().map(|r| r.index).or(purged.map(|p| p.index)));
        assert!(!log.identity().begun || log.has_segments(), "seed {seed}: it is noted and there is none");
        assert!(!log.identity().voted || log.vote().is_some(), "seed {seed}: a vote is noted and there is none");
        let vote = log.vote();
        assert!(vote == self.vote || vote == self.asked_vote, "seed {seed}: vote {vote:?}");
    }

    /// After a restart, what is there is what counts.
    fn adopt(&mut self, log: &Log) {
        let records = all(log);
        self.purged = log.bounds().0;
        self.term = self.term.max(records.last().map_or(0, |record| record.term));
        self.durable = records.into_iter().map(|record| (record.index, record)).collect();
        self.vote = log.vote();
        self.asked_vote = self.vote;
        self.truncating_from = None;
        self.starting_over = None;
    }
}

/// Does random things until one fails. Says whether all succeeded.
fn work(log: &Log, model: &mut Model, chance: &mut Chance) -> bool {
    for _ in 0..chance.below(40) {
        let (purged, last) = log.bounds();
        let next = last.map_or(0, |last| last.index + 1);
        let done = match chance.below(20) {
            0..=12 => append(log, model, chance, next),
            13 | 14 => {
                model.term += 1;
                let vote = StoredVote { term: model.term, member: chance.below(3), committed: chance.below(2) == 0 };
                model.asked_vote = Some(vote);
                let result = wait(|done| log.save_vote(vote, done));
                if result.is_ok() {
                    model.vote = Some(vote);
                }
                result
            }
            15 | 16 if last > purged => {
                let first = purged.map_or(0, |purged| purged.index + 1);
                let from = first + chance.below(next - first + 1);
                let keep = from.checked_sub(1).and_then(|keep| log.read(keep, keep + 1, 1).unwrap().pop());
                let keep = keep.map(|record| state::position(&record)).max(purged);
                model.truncating_from = Some(from);
                let result = wait(|done| log.truncate_after(keep, done));
                if result.is_ok() {
                    model.durable.retain(|index, _| *index < from);
                    model.truncating_from = None;
                }
                result
            }
            17 | 18 if last > purged => {
                let upto =
                    *model.durable.values().nth(chance.below(model.durable.len() as u64) as usize).as_ref().unwrap();
                let upto = state::position(upto);
                model.purged = model.purged.max(Some(upto));
                wait(|done| log.purge(upto, done))
            }
            19 if chance.below(4) == 0 => {
                model.term += 1;
                let at = Position { term: model.term, index: next + 1 + chance.below(5) };
                model.starting_over = Some(at);
                let result = wait(|done| log.purge(at, done));
                if result.is_ok() {
                    model.durable.clear();
                    model.purged = Some(at);
                    model.starting_over = None;
                }
                result
            }
            _ => Ok(()),
        };
        if done.is_err() {
            return false;
        }
    }
    true
}

fn append(log: &Log, model: &mut Model, chance: &mut Chance, next: u64) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    let mut index = next;
    if chance.below(10) == 0 {
        model.term += 1;
    }
    let batches = 1 + chance.below(4);
    for batch in 0..batches {
        let count = 1 + chance.below(4);
        let records: Vec<Record> = (index..index + count).map(|i| record(i, model.term)).collect();
        index += count;
        model.given.extend(records.iter().cloned());
        let tell = tell.clone();
        let given = records.clone();
        log.append(records, Box::new(move |result| tell.send((batch, given, result)).unwrap()));
    }
    drop(tell);
    let mut outcome = Ok(());
    for (batch, records, result) in told {
        match result {
            Ok(()) => {
                assert!(outcome.is_ok(), "batch {batch} acknowledged after a failure");
                model.durable.extend(records.into_iter().map(|record| (record.index, record)));
            }
            Err(e) => outcome = Err(e),
        }
    }
    outcome
}

#[test]
fn nothing_acknowledged_is_lost_by_crashes_at_any_operation() {
    for seed in 0..500 {
        let mut chance = Chance::new(seed);
        let mut disk = SimulatedDisk::default();
        let mut model = Model::default();
        for _ in 0..8 {
            disk.stop_after(chance.below(120));
            match open(&disk) {
                Ok(log) => {
                    model.check(&log, seed);
                    model.adopt(&log);
                    // As whoever opens one does, before anything is confirmed.
                    if log.note_begun().is_ok() && work(&log, &mut model, &mut chance) {
                        assert_eq!(log.identity().begun, log.has_segments(), "seed {seed}");
                    }
                }
                Err(OpenError::Io { .. }) => {}
                Err(e) => panic!("seed {seed}: {e}"),
            }
            disk = if chance.below(2) == 0 { disk.after_crash(&mut chance) } else { disk.after_kill() };
        }
        let log = open(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        model.check(&log, seed);
    }
}

/// A log of some segments, the path of the last one, and its records.
fn filled() -> (SimulatedDisk, PathBuf, Vec<Record>) {
    let disk = SimulatedDisk::default();
    let log = open(&disk).unwrap();
    for index in 0..25 {
        wait(|done| log.append(vec![record(index, 1)], done)).unwrap();
    }
    // The last sync takes three records along.
    let last: Vec<Record> = (25..28).map(|index| record(index, 1)).collect();
    wait(|done| log.append(last, done)).unwrap();
    let records = all(&log);
    drop(log);
    let last = disk.paths().into_iter().rfind(|path| path.extension().is_some_and(|e| e == "log"));
    (disk, last.unwrap(), records)
}

/// As after a power failure that came before any mark of what was confirmed had reached the disk.
fn without_mark(disk: &SimulatedDisk) {
    disk.remove(&Path::new(DIR).join("confirmed")).unwrap();
}

#[test]
fn an_end_that_was_confirmed_is_missed() {
    let (disk, path, records) = filled();
    let length = disk.bytes(&path).len();
    for cut in 64..length {
        let disk = disk.after_kill();
        disk.tamper(&path, |bytes| bytes.truncate(cut));
        let error = open(&disk).err().unwrap();
        assert!(matches!(error, OpenError::Corrupt { .. } | OpenError::LogMissing { .. }), "cut at {cut}: {error}");
        assert_eq!(disk.bytes(&path).len(), cut, "who is refused changes nothing");
    }
    // The whole segment.
    disk.remove(&path).unwrap();
    assert!(matches!(open(&disk).err().unwrap(), OpenError::LogMissing { .. }));
    assert!(records.len() > 3);
}

#[test]
fn an_end_that_was_taken_back_is_not_missed() {
    let (disk, _, records) = filled();
    let log = open(&disk).unwrap();
    wait(|done| log.truncate_after(Some(state::position(&records[9])), done)).unwrap();
    drop(log);
    for seed in 0..20 {
        let log = open(&disk.after_crash(&mut Chance::new(seed))).unwrap();
        assert_eq!(all(&log), records[..10]);
    }
}

/// It led alone, and its last entry, of a later term than those of the snapshot, was confirmed by nobody else.
#[test]
fn what_a_snapshot_replaced_is_not_missed() {
    let disk = SimulatedDisk::default();
    let log = open(&disk).unwrap();
    wait(|done| log.append((0..5).map(|index| record(index, 1)).collect(), done)).unwrap();
    wait(|done| log.append(vec![record(5, 9)], done)).unwrap();
    wait(|done| log.purge(Position { term: 7, index: 10 }, done)).unwrap();
    for seed in 0..20 {
        let log = open(&disk.after_crash(&mut Chance::new(seed))).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(all(&log), [], "seed {seed}");
    }
    assert_eq!(all(&open(&disk.after_kill()).unwrap()), []);
    drop(log);
}

#[test]
fn a_log_cut_at_any_byte_keeps_every_whole_record_before() {
    let (disk, path, records) = filled();
    let length = disk.bytes(&path).len();
    let first = segment::SegmentHeader::decode(&disk.bytes(&path)).unwrap().first_index;
    for cut in 64..length {
        let disk = disk.after_kill();
        without_mark(&disk);
        disk.tamper(&path, |bytes| bytes.truncate(cut));
        let log = open(&disk).unwrap();
        let mut end = 64;
        let whole = records.iter().filter(|r| r.index >= first).take_while(|r| {
            end += r.stored_len();
            end <= cut
        });
        let expected = first as usize + whole.count();
        assert_eq!(all(&log), records[..expected], "cut at {cut}");
        // And it goes on from there, durably.
        let next = record(expected as u64, 2);
        wait(|done| log.append(vec![next.clone()], done)).unwrap();
        drop(log);
        let log = open(&disk.after_crash(&mut Chance::new(cut as u64))).unwrap();
        assert_eq!(all(&log).last(), Some(&next));
    }
}

#[test]
fn a_changed_byte_is_cut_only_where_a_crash_could_have_torn_it() {
    let (disk, path, records) = filled();
    let bytes = disk.bytes(&path);
    // A batch that goes over into a new segment is synced before.
    let header = segment::SegmentHeader::decode(&bytes).unwrap();
    let durable = header.first_index.max(25) as usize;
    let last_batch = bytes.len() - records[durable..].iter().map(Record::stored_len).sum::<usize>();
    for at in 0..bytes.len() {
        let disk = disk.after_kill();
        without_mark(&disk);
        disk.tamper(&path, |bytes| bytes[at] ^= 0x40);
        match open(&disk) {
            Ok(log) => {
                let found = all(&log);
                assert_eq!(found, records[..found.len()], "byte {at}");
                let padding = found.len() == records.len();
                assert!(padding || at >= last_batch, "byte {at}: records that were durable are cut");
                assert!(found.len() >= durable, "byte {at}");
            }
            Err(OpenError::Corrupt { file, offset, .. }) => {
                assert_eq!(file, path);
                assert!(offset <= at as u64 && at < last_batch, "byte {at} is said to be at {offset}");
            }
            Err(e) => panic!("byte {at}: {e}"),
        }
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, last, _) = filled();
    let paths = disk.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "log"));
    let paths: Vec<PathBuf> = paths.collect();
    assert!(paths.len() > 3);
    disk.remove(&paths[1]).unwrap();
    let error = open(&disk).err().unwrap();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert_ne!(paths[1], last);
}

#[test]
fn a_full_disk_ends_acknowledging_and_loses_nothing() {
    for full_after in 0..40 {
        let disk = SimulatedDisk::default();
        let log = open(&disk).unwrap();
        disk.full_after(full_after);
        let mut acknowledged = 0;
        let mut failed = false;
        for index in 0..30 {
            match wait(|done| log.append(vec![record(index, 1)], done)) {
                Ok(()) => {
                    assert!(!failed, "acknowledged after a failure");
                    acknowledged = index + 1;
                }
                Err(_) => failed = true,
            }
        }
        assert!(failed);
        assert!(wait(|done| log.save_vote(StoredVote { term: 9, member: 1, committed: false }, done)).is_err());
        drop(log);
        for disk in [disk.after_kill(), disk.after_crash(&mut Chance::new(full_after))] {
            let found = all(&open(&disk).unwrap());
            assert!(found.len() as u64 >= acknowledged, "{} of {acknowledged}", found.len());
            let expected: Vec<Record> = (0..found.len() as u64).map(|index| record(index, 1)).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn appends_that_wait_share_a_sync() {
    let disk = SimulatedDisk::default();
    let mut log_settings = settings();
    log_settings.segment_bytes = 1 << 20;
    let log = Log::open(
        Arc::new(disk.clone()),
        Path::new(DIR),
        MemberId(1),
        log_settings,
        Box::new(|_| ()),
        Box::new(|_| ()),
    )
    .unwrap();
    wait(|done| log.append(vec![record(0, 1)], done)).unwrap();
    let before = disk.syncs();
    let (tell, told) = mpsc::channel();
    let (release, hold) = mpsc::channel::<()>();
    // The flusher tells the first append while the others come in.
    let first = tell.clone();
    log.append(
        vec![record(1, 1)],
        Box::new(move |result| {
            hold.recv().unwrap();
            first.send(result.is_ok()).unwrap();
        }),
    );
    let mut wait_for_first = before;
    while wait_for_first == before {
        wait_for_first = disk.syncs();
        std::thread::yield_now();
    }
    for index in 2..100 {
        let tell = tell.clone();
        log.append(vec![record(index, 1)], Box::new(move |result| tell.send(result.is_ok()).unwrap()));
    }
    release.send(()).unwrap();
    drop(tell);
    assert_eq!(told.iter().filter(|ok| *ok).count(), 99);
    assert_eq!(disk.syncs() - before, 2);
}
