//! What is left after the process is killed.

use super::{Subject, get, random, rows};
use crate::{Batch, Direction, KeyRange, Store};
use std::sync::Arc;

/// Batch `n` sets the counter, one row of its own, and takes the row of batch `n - 3` away: any mixture of two batches shows.
fn numbered(n: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put("counter", n.to_string());
    batch.put(format!("row {n:06}"), vec![n as u8; 700]);
    if n > 3 {
        batch.delete(format!("row {:06}", n - 3));
    }
    batch
}

/// The number of batches that a store holds, which must be a prefix.
fn whole_batches(store: &dyn Store) -> u64 {
    let n: u64 = get(store, "counter").map_or(0, |text| text.parse().unwrap());
    let left = rows(store, KeyRange::prefix("row "), Direction::Forward);
    let expected: Vec<u64> = (n.saturating_sub(2).max(1)..=n).collect();
    let found: Vec<u64> = left.iter().map(|(key, _)| String::from_utf8_lossy(&key[4..]).parse().unwrap()).collect();
    assert_eq!(found, expected, "after batch {n}");
    for (n, (_, value)) in expected.iter().zip(&left) {
        assert!(value.iter().all(|byte| *byte == *n as u8));
    }
    n
}

fn write(store: &Arc<dyn Store>, from: u64, until: u64) {
    for n in from..until {
        store.write(numbered(n)).unwrap();
    }
}

pub(super) fn keeps_what_was_flushed(subject: &mut dyn Subject) {
    let store = subject.open_new();
    write(&store, 1, 50);
    store.flush().unwrap();
    let store = subject.crash(store, 0);
    assert_eq!(whole_batches(&*store), 49);
}

pub(super) fn loses_only_the_end(subject: &mut dyn Subject) {
    for chance in 0..10 {
        let store = subject.open_new();
        write(&store, 1, 30);
        store.flush().unwrap();
        write(&store, 30, 30 + 20 * chance);
        let store = subject.crash(store, chance * 7919);
        let left = whole_batches(&*store);
        assert!((29..30 + 20 * chance).contains(&left), "{left} batches left, chance {chance}");
    }
}

pub(super) fn survives_again_and_again(subject: &mut dyn Subject) {
    let mut state = 77;
    let mut store = subject.open_new();
    for _ in 0..20 {
        let from = whole_batches(&*store) + 1;
        let until = from + random::next(&mut state) % 40;
        write(&store, from, until);
        let flushed = random::next(&mut state).is_multiple_of(2);
        if flushed {
            store.flush().unwrap();
        }
        store = subject.crash(store, random::next(&mut state));
        let left = whole_batches(&*store);
        assert!(left < until && left + 1 >= if flushed { until } else { 1 });
    }
}
