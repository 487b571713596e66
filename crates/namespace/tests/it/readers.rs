//! Queries beside the apply thread: each sees one moment, and never one before what was acknowledged.
use crate::fixture::path;
use bytes::Bytes;
use forebay_metastore::{MemStore, Store};
use forebay_namespace::command::{AttributeChanges, MakeDirectory, Rename, SetAttributes};
use forebay_namespace::{Action, Command, Reader, StateMachine, query};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const READERS: usize = 3;
const ROUNDS: u64 = 4_000;
/// `/a` and `/b` are given the same owner in each round, and `/from` and `/to` are names of one directory in turn.
const OWNED: [&str; 2] = ["/a", "/b"];

struct Writer {
    machine: StateMachine,
    round: u64,
}

impl Writer {
    fn new(store: Arc<dyn Store>, cache_bytes: u64) -> Writer {
        let mut writer = Writer { machine: StateMachine::open_with(store, cache_bytes).unwrap(), round: 0 };
        let make = |at: &str| MakeDirectory { path: at.to_owned().into(), mode: 0o755, ..Default::default() }.into();
        writer.apply(["/a", "/b", "/to", "/to/inner"].map(make).to_vec());
        writer
    }

    fn apply(&mut self, actions: Vec<Action>) {
        let position = Bytes::copy_from_slice(&self.round.to_be_bytes());
        let entries: Vec<_> = actions
            .into_iter()
            .map(|action| (position.clone(), Command::internal(1 + self.round, action).to_bytes()))
            .collect();
        for reply in self.machine.apply(&entries).unwrap() {
            forebay_namespace::reply::decode(&reply).unwrap();
        }
    }

    fn next_round(&mut self) {
        self.round += 1;
        let owner = Some(self.round.to_string());
        let changes = AttributeChanges { owner, ..Default::default() };
        let own =
            |at: &str| SetAttributes { path: at.to_owned().into(), changes: changes.clone(), ..Default::default() };
        let (from, to) = if self.round % 2 == 1 { ("/to", "/from") } else { ("/from", "/to") };
        let rename = Rename { from: from.to_owned().into(), to: to.to_owned().into(), ..Default::default() };
        self.apply(vec![own("/a").into(), rename.into(), own("/b").into()]);
    }
}

/// Reads one snapshot; the round that it shows.
fn look(reader: &Reader) -> u64 {
    let snapshot = reader.snapshot();
    let position = query::applied_position(&*snapshot).unwrap();
    let round = position.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let found = |at: &str| query::resolve(&*snapshot, &path(at)).unwrap().found().map(|step| step.inode.clone());
    for at in OWNED {
        let owner = found(at).unwrap().owner;
        assert_eq!(owner.parse().unwrap_or(0), round, "{at} is of another moment");
    }
    let (there, gone) = if round % 2 == 1 { ("/from", "/to") } else { ("/to", "/from") };
    assert!(found(&format!("{there}/inner")).is_some(), "round {round}: {there} is missing");
    assert!(found(&format!("{gone}/inner")).is_none(), "round {round}: {gone} is still there");
    round
}

fn check(cache_bytes: u64) {
    let mut writer = Writer::new(Arc::new(MemStore::new()), cache_bytes);
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let reader = writer.machine.reader();
            let (acknowledged, done) = (&acknowledged, &done);
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::SeqCst) {
                    let before = acknowledged.load(Ordering::SeqCst);
                    let seen = look(&reader);
                    assert!(seen >= before, "round {before} was acknowledged, {seen} is shown");
                    assert!(seen >= last, "round {last} was shown before {seen}");
                    last = seen;
                }
            });
        }
        // Set also when the writer panics, so that the readers end.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _done = Done(&done);
        for _ in 0..ROUNDS {
            writer.next_round();
            acknowledged.store(writer.round, Ordering::SeqCst);
        }
    });
    assert_eq!(look(&writer.machine.reader()), ROUNDS);
}

#[test]
fn a_reader_sees_one_moment_and_all_that_was_acknowledged() {
    check(1 << 20);
}

#[test]
fn also_when_the_cache_holds_next_to_nothing() {
    check(1 << 10);
}
