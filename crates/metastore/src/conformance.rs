//! What every [`Store`] must do, as one suite: [`run`] it against each implementation.
#![allow(clippy::unwrap_used, reason = "a suite of tests fails by panicking")]

mod crash;
mod random;

use crate::{Batch, Direction, KeyRange, Overlay, Read, Store};
use bytes::Bytes;
use std::{
    path::Path,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

/// One place for a store of the implementation under test.
pub trait Subject {
    /// Opens a store in a new place.
    fn open_new(&mut self) -> Arc<dyn Store>;

    /// What the process would find if it had been killed now. `chance` decides what was on disk by luck, where that can be chosen.
    fn crash(&mut self, store: Arc<dyn Store>, chance: u64) -> Arc<dyn Store>;

    /// Opens what [`Store::checkpoint`] made.
    fn open_checkpoint(&self, directory: &Path) -> Arc<dyn Store>;

    /// A directory for checkpoints.
    fn scratch(&self) -> &Path;
}

/// Runs the suite. Random parts print nothing but panic with their seed.
pub fn run(subject: &mut dyn Subject) {
    gets_what_was_put(subject);
    applies_a_batch_in_order(subject);
    scans_ranges_both_ways(subject);
    snapshots_do_not_move(subject);
    batches_are_seen_whole(subject);
    checkpoints_are_independent(subject);
    knows_its_size(subject);
    overlays_read_as_if_written(subject);
    crash::keeps_what_was_flushed(subject);
    crash::loses_only_the_end(subject);
    crash::survives_again_and_again(subject);
    for seed in 0..8 {
        random::agrees_with_a_map(subject, seed);
    }
}

fn batch<const N: usize>(rows: [(&str, &str); N]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(key.to_owned(), value.to_owned());
    }
    batch
}

fn rows(read: &dyn Read, range: KeyRange, direction: Direction) -> Vec<(Bytes, Bytes)> {
    read.scan(range, direction).collect::<Result<_, _>>().unwrap()
}

fn keys(read: &dyn Read, range: KeyRange, direction: Direction) -> Vec<String> {
    rows(read, range, direction).iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

fn get(read: &dyn Read, key: &str) -> Option<String> {
    read.get(key.as_bytes()).unwrap().map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn gets_what_was_put(subject: &mut dyn Subject) {
    let store = subject.open_new();
    assert_eq!(get(&*store, "a"), None);
    store.write(batch([("a", "1"), ("b", "")])).unwrap();
    assert_eq!(get(&*store, "a"), Some("1".to_owned()));
    assert_eq!(get(&*store, "b"), Some(String::new()));
    assert_eq!(get(&*store, ""), None);
    let mut bytes = Batch::new();
    bytes.put(&b"\0\xff"[..], vec![0u8; 1 << 20]);
    store.write(bytes).unwrap();
    assert_eq!(store.get(b"\0\xff").unwrap().map(|value| value.len()), Some(1 << 20));
    store.write(Batch::new()).unwrap();
}

fn applies_a_batch_in_order(subject: &mut dyn Subject) {
    let store = subject.open_new();
    let mut batch = Batch::new();
    batch.put("a", "1");
    batch.delete("a");
    batch.delete("b");
    batch.put("b", "2");
    batch.put("b", "3");
    store.write(batch).unwrap();
    assert_eq!((get(&*store, "a"), get(&*store, "b")), (None, Some("3".to_owned())));
    let mut again = Batch::new();
    again.delete("b");
    again.delete("never there");
    store.write(again).unwrap();
    assert_eq!(rows(&*store, KeyRange::all(), Direction::Forward), []);
}

fn scans_ranges_both_ways(subject: &mut dyn Subject) {
    let store = subject.open_new();
    store.write(batch([("b", ""), ("a", ""), ("a\0", ""), ("ab", ""), ("a\u{7f}", ""), ("c", "")])).unwrap();
    store.flush().unwrap();
    store.write(batch([("aa", ""), ("d", "")])).unwrap();
    let mut gone = Batch::new();
    gone.delete("c");
    store.write(gone).unwrap();
    let check = |range: KeyRange, expected: &[&str]| {
        assert_eq!(keys(&*store, range.clone(), Direction::Forward), expected, "{range:?}");
        let mut backward = keys(&*store, range.clone(), Direction::Backward);
        backward.reverse();
        assert_eq!(backward, expected, "{range:?} backward");
    };
    check(KeyRange::all(), &["a", "a\0", "aa", "ab", "a\u{7f}", "b", "d"]);
    check(KeyRange::prefix("a"), &["a", "a\0", "aa", "ab", "a\u{7f}"]);
    check(KeyRange::prefix("a").after(b"a"), &["a\0", "aa", "ab", "a\u{7f}"]);
    check(KeyRange::new("aa", "b"), &["aa", "ab", "a\u{7f}"]);
    check(KeyRange::new("b", "a"), &[]);
    check(KeyRange::prefix("x"), &[]);
    let first = store.scan(KeyRange::all(), Direction::Backward).next();
    assert_eq!(first.unwrap().unwrap().0, "d");
}

fn snapshots_do_not_move(subject: &mut dyn Subject) {
    let store = subject.open_new();
    store.write(batch([("a", "1"), ("b", "1")])).unwrap();
    let snapshot = store.snapshot();
    let mut later = batch([("a", "2"), ("c", "2")]);
    later.delete("b");
    store.write(later).unwrap();
    store.flush().unwrap();
    assert_eq!(keys(&*store, KeyRange::all(), Direction::Forward), ["a", "c"]);
    // It outlives the handle that it was taken from, and moves to other threads.
    drop(store);
    let seen = std::thread::spawn(move || {
        (get(&*snapshot, "a"), get(&*snapshot, "c"), keys(&*snapshot, KeyRange::all(), Direction::Backward))
    });
    assert_eq!(seen.join().unwrap(), (Some("1".to_owned()), None, vec!["b".to_owned(), "a".to_owned()]));
}

fn batches_are_seen_whole(subject: &mut dyn Subject) {
    let store = subject.open_new();
    store.write(batch([("x", "0"), ("y", "0")])).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    assert_eq!(get(&*snapshot, "x"), get(&*snapshot, "y"));
                    let seen = rows(&*store, KeyRange::all(), Direction::Forward);
                    assert_eq!(seen[0].1, seen[1].1);
                }
            });
        }
        for n in 1..=2000 {
            let n = n.to_string();
            store.write(batch([("x", n.as_str()), ("y", n.as_str())])).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn checkpoints_are_independent(subject: &mut dyn Subject) {
    let store = subject.open_new();
    store.write(batch([("a", "1")])).unwrap();
    store.flush().unwrap();
    store.write(batch([("b", "not flushed")])).unwrap();
    let directory = tempfile_in(subject.scratch());
    store.checkpoint(&directory).unwrap();
    assert!(store.checkpoint(&directory).is_err(), "the directory exists already");
    store.write(batch([("a", "2"), ("c", "3")])).unwrap();
    let copy = subject.open_checkpoint(&directory);
    assert_eq!(keys(&*copy, KeyRange::all(), Direction::Forward), ["a", "b"]);
    assert_eq!(get(&*copy, "a"), Some("1".to_owned()));
    copy.write(batch([("d", "4")])).unwrap();
    assert_eq!(get(&*store, "d"), None);
    assert_eq!(get(&*store, "a"), Some("2".to_owned()));
}

/// A name that does not exist yet.
fn tempfile_in(directory: &Path) -> std::path::PathBuf {
    let mut names = (0..).map(|n| directory.join(format!("checkpoint-{n}")));
    names.find(|path| !path.exists()).unwrap()
}

fn knows_its_size(subject: &mut dyn Subject) {
    let store = subject.open_new();
    let before = store.approximate_size().unwrap();
    let mut large = Batch::new();
    // Bytes that do not compress.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| random::next(&mut state) as u8).take(1 << 20).collect();
    large.put("large", noise);
    store.write(large).unwrap();
    assert!(store.approximate_size().unwrap() >= before + (1 << 20));
    store.flush().unwrap();
    assert!(store.approximate_size().unwrap() >= before + (1 << 19));
}

fn overlays_read_as_if_written(subject: &mut dyn Subject) {
    let store = subject.open_new();
    store.write(batch([("a", "1"), ("b", "1"), ("d", "1")])).unwrap();
    let mut overlay = Overlay::new(&*store);
    overlay.put("b", "2");
    overlay.put("c", "2");
    overlay.begin();
    overlay.delete("a");
    overlay.delete("c");
    overlay.put("c", "3");
    overlay.put("e", "3");
    assert_eq!(keys(&overlay, KeyRange::all(), Direction::Forward), ["b", "c", "d", "e"]);
    overlay.undo();
    assert_eq!(keys(&overlay, KeyRange::all(), Direction::Backward), ["d", "c", "b", "a"]);
    assert_eq!((get(&overlay, "b"), get(&overlay, "c")), (Some("2".to_owned()), Some("2".to_owned())));
    assert_eq!(get(&*store, "c"), None);
    let batch = overlay.take();
    assert_eq!(batch.len(), 2);
    store.write(batch).unwrap();
    assert_eq!(get(&*store, "c"), Some("2".to_owned()));
}
