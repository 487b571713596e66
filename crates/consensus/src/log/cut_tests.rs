//! Readers of a log whose tail is being cut.

use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use super::{Done, Log, LogSettings, OsDisk, Position, Record, RecordKind};
use crate::settings::MemberId;

/// Entries that stay.
const KEPT: u64 = 20;
/// Entries that come and go behind them.
const CUT: u64 = 200;
const ROUNDS: u64 = 200;

fn wait(job: impl FnOnce(Done)) -> io::Result<()> {
    let (sender, ended) = mpsc::channel();
    job(Box::new(move |result| sender.send(result).unwrap()));
    ended.recv().unwrap()
}

fn records(from: u64, to: u64, term: u64) -> Vec<Record> {
    let record = |index| Record { index, term, kind: RecordKind::Command, payload: Bytes::from(vec![7; 100]) };
    (from..to).map(record).collect()
}

/// What stays is read at any moment: the file may end earlier than it did when the reader looked where it is.
#[test]
fn what_stays_is_read_while_the_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing is kept in memory that is on disk.
    let settings = LogSettings { segment_bytes: 1 << 20, cache_bytes: 0 };
    let log = Log::open(
        Arc::new(OsDisk),
        dir.path(),
        MemberId(1),
        settings,
        Box::new(|why| panic!("{why}")),
        Box::new(|_| ()),
    );
    let log = log.unwrap();
    wait(|done| log.append(records(0, KEPT, 1), done)).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while !over.load(Ordering::Relaxed) {
                        let found = log.read(0, KEPT, usize::MAX);
                        if found.as_ref().ok().map(Vec::len) != Some(KEPT as usize) {
                            return Err(format!("read {reads}: {found:?}"));
                        }
                        reads += 1;
                    }
                    Ok(())
                })
            })
            .collect();
        let cuts = (2..2 + ROUNDS).try_for_each(|term| {
            wait(|done| log.append(records(KEPT, KEPT + CUT, term), done))?;
            wait(|done| log.truncate_after(Some(Position { term: 1, index: KEPT - 1 }), done))
        });
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap().unwrap();
        }
        cuts.unwrap();
    });
}
