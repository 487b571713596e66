//! How fast the state machine applies commands on RocksDB, alone: `apply_rate [FILES] [BATCH]`.
//!
//! Prints commands a second for the steps of a file's life, point queries a second, and the bytes that an inode takes on disk.

use bytes::Bytes;
use forebay_base::NsPath;
use forebay_metastore::{RocksSettings, RocksStore, Store};
use forebay_namespace::command::{AddMount, CompleteFile, CreateFile, Delete, MakeDirectory, Rename};
use forebay_namespace::record::MountSpec;
use forebay_namespace::reply::{self, Payload};
use forebay_namespace::{Action, Command, Request, StateMachine, query};
use std::{error::Error, sync::Arc, time::Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const FILES_PER_DIRECTORY: usize = 1000;
const CLIENTS: usize = 64;
const NOW_MS: u64 = 1_790_000_000_000;

struct Bench {
    machine: StateMachine,
    batch: usize,
    files: usize,
    requests: u64,
}

impl Bench {
    /// Applies actions as requests of many clients, and prints the rate. Gives the payloads.
    fn apply(&mut self, what: &str, actions: impl Iterator<Item = Action>) -> Outcome<Vec<Payload>> {
        let entries: Vec<_> = actions.map(|action| self.entry(action)).collect();
        let start = Instant::now();
        let mut replies = Vec::with_capacity(entries.len());
        for batch in entries.chunks(self.batch) {
            replies.extend(self.machine.apply(batch)?);
        }
        report(what, entries.len(), start);
        let payloads = replies.iter().map(|bytes| reply::decode(bytes));
        Ok(payloads.collect::<Result<_, _>>().map_err(|refusal| refusal.to_string())?)
    }

    fn entry(&mut self, action: Action) -> (Bytes, Bytes) {
        let client = self.requests % CLIENTS as u64;
        let sequence = self.requests / CLIENTS as u64 + 1;
        let request = Request { client, sequence, acked_below: sequence };
        self.requests += 1;
        let position = Bytes::copy_from_slice(&self.requests.to_be_bytes());
        let command = Command::requested(request, NOW_MS + self.requests / 50, action);
        (position, command.to_bytes())
    }

    fn path(&self, file: usize) -> Bytes {
        let directory = file / FILES_PER_DIRECTORY;
        format!("/lake/images/train/{directory:05}/image-{file:08}.jpg").into()
    }
}

fn report(what: &str, count: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<28} {:>10.0} /s", count as f64 / seconds);
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let files = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let store = Arc::new(RocksStore::open(&directory.path().join("db"), &RocksSettings::default())?);
    let machine = StateMachine::open(store.clone())?;
    let mut bench = Bench { machine, batch, files, requests: 0 };
    println!("{files} files, {batch} commands a batch");
    live(&mut bench, &store)?;
    queries(&bench)
}

fn live(bench: &mut Bench, store: &RocksStore) -> Outcome<()> {
    let spec = MountSpec { uri: "s3://bucket".to_owned(), ..MountSpec::default() };
    let mount = AddMount { path: "/lake".into(), spec, mode: 0o755, ..AddMount::default() };
    bench.apply("mount", [mount.into()].into_iter())?;
    let directories = (0..bench.files.div_ceil(FILES_PER_DIRECTORY)).map(|directory| MakeDirectory {
        path: format!("/lake/images/train/{directory:05}").into(),
        parents: true,
        mode: 0o755,
        loaded: true,
        ..MakeDirectory::default()
    });
    bench.apply("make directory", directories.map(Action::from).collect::<Vec<_>>().into_iter())?;
    let creates: Vec<Action> = (0..bench.files).map(|file| create(bench.path(file))).collect();
    let created = bench.apply("create", creates.into_iter())?;
    let completes: Vec<Action> =
        created.iter().enumerate().filter_map(|(file, payload)| complete(file, payload)).collect();
    bench.apply("complete", completes.into_iter())?;
    disk(bench, store)?;
    let renames: Vec<Action> = (0..bench.files / 10).map(|file| rename(bench.path(file))).collect();
    bench.apply("rename", renames.into_iter())?;
    let deletes =
        (bench.files / 10..bench.files / 5).map(|file| Delete { path: bench.path(file), ..Delete::default() });
    let deletes: Vec<Action> = deletes.map(Action::from).collect();
    bench.apply("delete", deletes.into_iter())?;
    Ok(())
}

fn create(path: Bytes) -> Action {
    let (owner, group) = ("spark".to_owned(), "analytics".to_owned());
    CreateFile { path, owner, group, mode: 0o644, lease_ms: 60_000, ..CreateFile::default() }.into()
}

fn complete(file: usize, payload: &Payload) -> Option<Action> {
    let Payload::Created(created) = payload else { return None };
    // A hash that does not compress, as an ETag.
    let hash = (file as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let tag = format!("\"{:032x}\"", hash ^ (hash >> 61));
    let length = 100_000 + file as u64 % 5000;
    Some(CompleteFile { write: created.write.id, length, tag, modified_ms: NOW_MS + file as u64 }.into())
}

fn rename(path: Bytes) -> Action {
    let to = [&path[..], b".done"].concat();
    Rename { from: path, to: to.into(), ..Rename::default() }.into()
}

fn disk(bench: &Bench, store: &RocksStore) -> Outcome<()> {
    let start = Instant::now();
    store.flush()?;
    store.compact();
    let bytes = store.approximate_size()?;
    println!("flush and compact            {:>10.2} s", start.elapsed().as_secs_f64());
    println!("on disk                      {:>10.1} bytes an inode", bytes as f64 / bench.files as f64);
    Ok(())
}

fn queries(bench: &Bench) -> Outcome<()> {
    let reader = bench.machine.reader();
    let count = bench.files.min(100_000);
    let start = Instant::now();
    for file in 0..count {
        let file = bench.files / 5 + file * 7919 % (bench.files - bench.files / 5);
        let resolved = query::resolve(&*reader.snapshot(), &NsPath::parse(&bench.path(file))?)?;
        assert!(resolved.found().is_some(), "file {file} exists");
    }
    report("stat (5 names, random)", count, start);
    let path = NsPath::parse(&bench.path(bench.files / 2))?;
    let start = Instant::now();
    for _ in 0..count {
        query::resolve(&*reader.snapshot(), &path)?;
    }
    report("stat (5 names, one file)", count, start);
    let root = query::resolve(&*reader.snapshot(), &"/lake".parse()?)?;
    let start = Instant::now();
    let summary = query::content_summary(&*reader.snapshot(), &root.deepest().inode)?;
    report("walk (entries)", (summary.files + summary.directories) as usize, start);
    Ok(())
}
