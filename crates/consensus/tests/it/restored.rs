//! A log that begins over a state that is there already, and looking into the files of a log.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ledger::{Ledger, reply};
use bytes::Bytes;
use forebay_consensus::{
    AppliedAt, Batch, Consensus, LogEntry, LogEntryKind, Member, MemberId, OpenError, Settings, inspect_log,
};

fn member() -> Member {
    Member { id: MemberId(7), address: "127.0.0.1:1".to_owned() }
}

async fn open(log: &Path, ledger: &Ledger) -> Consensus {
    Consensus::open(Settings::new(member()), log, ledger.boxed()).await.unwrap()
}

fn command(n: usize) -> Bytes {
    format!("command {n}").into()
}

async fn propose(consensus: &Consensus, commands: std::ops::Range<usize>) {
    for n in commands {
        assert_eq!(consensus.propose(command(n)).await.unwrap(), reply(n, &command(n)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_behind_a_restored_state() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let ledger = Ledger::at(&dir.path().join("state"));
    let consensus = open(&old, &ledger).await;
    propose(&consensus, 0..30).await;
    let at = consensus.checkpoint(&dir.path().join("copy")).await.unwrap();
    propose(&consensus, 30..40).await;
    consensus.shutdown().await.unwrap();
    assert!(at.term >= 1 && at.index >= 30, "{at:?}");

    let copied = Ledger::at(&dir.path().join("copy/pages"));
    assert_eq!(copied.commands().len(), 30, "the copy is of one moment");
    assert_eq!(AppliedAt::read(&copied.boxed().applied().unwrap().unwrap()), Ok(at));
    let begin = at.index + (1 << 32);
    let blob = Consensus::begin_after(&new, &member(), begin).unwrap();
    assert_eq!(AppliedAt::read(&blob), Ok(AppliedAt { term: 0, index: begin }));
    copied.boxed().apply(Batch { entries: &[], applied: &blob }).unwrap();
    let again = Consensus::begin_after(&new, &member(), begin);
    assert!(matches!(again, Err(OpenError::Start { .. })), "{again:?}");
    assert!(matches!(Consensus::begin_after(&old, &member(), begin), Err(OpenError::Start { .. })));
    for run in 0..3 {
        let consensus = open(&new, &copied).await;
        let status = consensus.status();
        assert!(consensus.is_leader() && status.members == [member()], "{status:?}");
        assert!(status.applied_index > Some(begin), "{status:?}");
        propose(&consensus, 30 + run * 5..35 + run * 5).await;
        consensus.flush_now().await.unwrap();
        consensus.shutdown().await.unwrap();
    }
    assert_eq!(copied.commands(), (0..45).map(command).collect::<Vec<_>>());
    let first = entries(&new).0.first().unwrap().index;
    assert_eq!(first, begin + 1, "the log has nothing of the state");
}

/// All that is shown, and how it ends.
fn entries(log: &Path) -> (Vec<LogEntry>, Result<u64, OpenError>) {
    let mut shown = Vec::new();
    let files = inspect_log(log, 0, |entry| {
        shown.push(entry);
        true
    });
    (shown, files.map(|files| files.iter().map(|file| file.torn_bytes).sum()))
}

fn segment(log: &Path) -> PathBuf {
    let mut paths: Vec<_> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    assert_eq!(paths.len(), 1);
    paths.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_looked_into_without_touching_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let consensus = open(&log, &Ledger::in_memory()).await;
    propose(&consensus, 0..50).await;
    // While it runs, and afterwards.
    for runs in [true, false] {
        let (shown, ended) = entries(&log);
        assert_eq!(ended.unwrap(), 0);
        assert!(shown.iter().enumerate().all(|(at, entry)| entry.index == at as u64));
        assert_eq!(shown[0].kind, LogEntryKind::Members);
        let commands = shown.iter().filter(|entry| entry.kind == LogEntryKind::Command);
        assert_eq!(
            commands.map(|entry| entry.payload.clone()).collect::<Vec<_>>(),
            (0..50).map(command).collect::<Vec<_>>()
        );
        if runs {
            consensus.shutdown().await.unwrap();
        }
    }
    let mut some = Vec::new();
    inspect_log(&log, 20, |entry| {
        some.push(entry.index);
        some.len() < 3
    })
    .unwrap();
    assert_eq!(some, [20, 21, 22]);

    let path = segment(&log);
    let good = fs::read(&path).unwrap();
    // Torn at the end: what is there before is shown, and no more is wrong.
    fs::write(&path, &good[..good.len() - 5]).unwrap();
    let (shown, ended) = entries(&log);
    assert!(ended.unwrap() > 0 && shown.last().unwrap().payload == command(48), "{:?}", shown.last());
    // Damage in the middle: what is there before is shown, then where it is.
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&path, &bad).unwrap();
    let (shown, ended) = entries(&log);
    assert!(matches!(ended, Err(OpenError::Corrupt { .. })) && (10..45).contains(&shown.len()), "{}", shown.len());
    assert_eq!(fs::read(&path).unwrap(), bad, "nothing was mended");
    fs::write(&path, &good[..20]).unwrap();
    assert!(matches!(entries(&log).1, Err(OpenError::Corrupt { .. })));
}
