//! A process that writes is killed at random moments: what it leaves is a prefix, and holds all that it had flushed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use forebay_base::ByteSize;
use forebay_metastore::{Batch, Read, RocksSettings, RocksStore, Store};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

const DIRECTORY: &str = "FOREBAY_TEST_KILLED_WRITER";
const KEYS: u64 = 5;

fn open(directory: &Path) -> RocksStore {
    // Small memtables: many reach the disk by themselves, and some are compacted.
    let settings = RocksSettings { write_buffer: ByteSize::kib(64), ..RocksSettings::default() };
    RocksStore::open(directory, &settings).unwrap()
}

/// The number of the last batch, which all keys must agree on.
fn last_batch(store: &RocksStore) -> u64 {
    let value = |key: u64| {
        let value = store.get(&key.to_be_bytes()).unwrap();
        value.map_or(0, |value| u64::from_be_bytes(*value.first_chunk().unwrap()))
    };
    let last = value(0);
    assert!((1..KEYS).all(|key| value(key) == last), "a torn batch");
    last
}

/// The writer: not a test of its own, but what the other one starts and kills.
#[test]
fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&directory));
    for n in last_batch(&store) + 1.. {
        let mut batch = Batch::new();
        for key in 0..KEYS {
            let mut value = n.to_be_bytes().to_vec();
            value.resize(200, key as u8);
            batch.put(key.to_be_bytes().to_vec(), value);
        }
        store.write(batch).unwrap();
        if n % 97 == 0 {
            store.flush().unwrap();
            println!("flushed {n}");
        }
    }
}

#[test]
fn a_killed_writer_leaves_a_prefix_with_all_that_was_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let mut flushed_max = 0;
    for round in 0..8 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let flushes = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("flushed ")?.parse().ok());
        flushed_max = flushes.take(3 + round * 5).last().unwrap_or(flushed_max);
        writer.kill().unwrap();
        writer.wait().unwrap();
        let left = last_batch(&open(directory.path()));
        assert!(left >= flushed_max, "batch {flushed_max} was flushed, {left} is left");
    }
    assert!(flushed_max > 0);
}
