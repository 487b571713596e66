//! Random changes against a plain map.

use super::{Subject, rows};
use crate::{Batch, Direction, KeyRange, Overlay, Read, Store};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The next number of a xorshift64* generator: enough for tests, and no dependency of the library.
pub(super) fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

/// Few short keys, so that changes meet; with all kinds of bytes.
fn key(state: &mut u64) -> Bytes {
    let len = next(state) % 3;
    (0..len).map(|_| [0u8, 1, b'a', b'b', 0xfe, 0xff][next(state) as usize % 6]).collect()
}

fn range(state: &mut u64) -> KeyRange {
    match next(state) % 3 {
        0 => KeyRange::new(key(state), key(state)),
        1 => KeyRange::prefix(key(state)),
        _ => KeyRange::all().after(&key(state)),
    }
}

pub(super) fn agrees_with_a_map(subject: &mut dyn Subject, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let store = subject.open_new();
    let mut model = BTreeMap::new();
    for round in 0..150 {
        let mut batch = Batch::new();
        for _ in 0..next(&mut state) % 20 {
            change(&mut state, &mut batch, &mut model);
        }
        store.write(batch).unwrap();
        if next(&mut state).is_multiple_of(20) {
            store.flush().unwrap();
        }
        check(&*store, &model, &mut state, &format!("seed {seed} round {round}"));
        check_overlay(&*store, model.clone(), &mut state, &format!("overlay, seed {seed} round {round}"));
    }
}

fn change(state: &mut u64, batch: &mut Batch, model: &mut BTreeMap<Bytes, Bytes>) {
    let key = key(state);
    if next(state).is_multiple_of(3) {
        model.remove(&key);
        batch.delete(key);
    } else {
        let value = Bytes::from(next(state).to_string());
        model.insert(key.clone(), value.clone());
        batch.put(key, value);
    }
}

fn check(read: &dyn Read, model: &BTreeMap<Bytes, Bytes>, state: &mut u64, context: &str) {
    let wanted = key(state);
    assert_eq!(read.get(&wanted).unwrap(), model.get(&wanted).cloned(), "{context}: {wanted:?}");
    let range = range(state);
    let mut expected: Vec<_> =
        model.iter().filter(|(key, _)| range.contains(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(rows(read, range.clone(), Direction::Forward), expected, "{context}: {range:?}");
    expected.reverse();
    assert_eq!(rows(read, range.clone(), Direction::Backward), expected, "{context}: {range:?} backward");
}

fn check_overlay(store: &dyn Store, mut model: BTreeMap<Bytes, Bytes>, state: &mut u64, context: &str) {
    let mut overlay = Overlay::new(store);
    let mut kept = model.clone();
    for span in 0..4 {
        overlay.begin();
        let mut batch = Batch::new();
        for _ in 0..next(state) % 6 {
            change(state, &mut batch, &mut model);
        }
        for op in batch.into_ops() {
            match op {
                crate::Op::Put(key, value) => overlay.put(key, value),
                crate::Op::Delete(key) => overlay.delete(key),
            }
        }
        check(&overlay, &model, state, context);
        if span % 2 == 1 {
            overlay.undo();
            model = kept.clone();
            check(&overlay, &model, state, context);
        }
        kept = model.clone();
    }
}
