//! One member as its users see it.

#![allow(clippy::unwrap_used)]

mod ledger;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_base::{ByteSize, ErrorKind};
use forebay_consensus::{Consensus, ConsensusError, Member, MemberId, OpenError, Settings};
use ledger::{Ledger, reply};

fn settings() -> Settings {
    Settings::new(Member { id: MemberId(1), address: "127.0.0.1:1".to_owned() })
}

async fn open(dir: &Path, ledger: &Ledger) -> Consensus {
    Consensus::open(settings(), &dir.join("log"), ledger.boxed()).await.unwrap()
}

fn command(n: usize) -> Bytes {
    format!("command {n}").into()
}

/// Waits for a condition that must come true.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_leads_at_once_and_answers() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::in_memory();
    let start = Instant::now();
    let member = open(dir.path(), &ledger).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(member.is_leader());
    assert_eq!(member.leader(), Some(settings().member));
    for n in 0..10 {
        assert_eq!(member.propose(command(n)).await.unwrap(), reply(n, &command(n)));
        member.read_barrier().await.unwrap();
        assert_eq!(ledger.commands().len(), n + 1);
    }
    let status = member.status();
    assert_eq!(status.members, [settings().member]);
    until("the status", || member.status().applied_index == member.status().last_index).await;
    assert!(status.term >= 1);
    member.shutdown().await.unwrap();
    member.shutdown().await.unwrap();
    let refused = member.propose(command(0)).await.unwrap_err();
    assert!(matches!(refused, ConsensusError::Stopped { .. }), "{refused}");
    assert!(member.read_barrier().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_restart_applies_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    for run in 0..5 {
        let ledger = Ledger::at(&file);
        assert_eq!(ledger.commands().len(), run * 20);
        let start = Instant::now();
        let member = open(dir.path(), &ledger).await;
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        assert_eq!(ledger.commands().len(), run * 20);
        for n in run * 20..(run + 1) * 20 {
            assert_eq!(member.propose(command(n)).await.unwrap(), reply(n, &command(n)));
        }
        member.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_that_lost_everything_gets_it_all_again() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..4 {
        let ledger = Ledger::in_memory();
        let member = open(dir.path(), &ledger).await;
        let expected: Vec<Bytes> = (0..run * 50).map(command).collect();
        assert_eq!(ledger.commands(), expected);
        for n in run * 50..(run + 1) * 50 {
            member.propose(command(n)).await.unwrap();
        }
        member.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_proposals_share_a_sync() {
    const CLIENTS: usize = 256;
    const EACH: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::in_memory();
    let member = Arc::new(open(dir.path(), &ledger).await);
    let before = member.status().log_syncs;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let member = member.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    member.propose(command(client * EACH + n)).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let syncs = member.status().log_syncs - before;
    assert!(syncs as usize * 4 <= CLIENTS * EACH, "{syncs} syncs for {} commands", CLIENTS * EACH);
    let mut commands = ledger.commands();
    commands.sort();
    let mut expected: Vec<Bytes> = (0..CLIENTS * EACH).map(command).collect();
    expected.sort();
    assert_eq!(commands, expected);
    assert!(ledger.applies.load(std::sync::atomic::Ordering::Relaxed) * 4 <= CLIENTS * EACH);
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_forgets_what_is_flushed_and_only_that() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    let ledger = Ledger::at(&file);
    let mut settings = settings();
    settings.segment_bytes = ByteSize::kib(16);
    settings.flush_bytes = ByteSize::kib(64);
    settings.cache_bytes = ByteSize::kib(8);
    settings.retained_entries = 10;
    let log = dir.path().join("log");
    let member = Consensus::open(settings.clone(), &log, ledger.boxed()).await.unwrap();
    for n in 0..4000 {
        member.propose(command(n)).await.unwrap();
    }
    // 4,000 records of 48 bytes are 190 KiB.
    let stored = || segments(&log).iter().map(|(_, length)| length).sum::<u64>();
    until("the purge", || stored() < 130 << 10).await;
    assert!(ledger.flushes.load(std::sync::atomic::Ordering::Relaxed) >= 1);
    drop(member);
    // As after a crash: the state machine is as last flushed, and the log has the rest.
    let crashed = copy(dir.path());
    let ledger = Ledger::at(&crashed.path().join("state"));
    assert!(ledger.commands().len() < 4000);
    let member = Consensus::open(settings, &crashed.path().join("log"), ledger.boxed()).await.unwrap();
    assert_eq!(ledger.commands(), (0..4000).map(command).collect::<Vec<_>>());
    assert_eq!(member.propose(command(4000)).await.unwrap(), reply(4000, &command(4000)));
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_commands_go_through_and_too_large_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.segment_bytes = ByteSize::mib(1);
    settings.cache_bytes = ByteSize::kib(64);
    let large: Vec<Bytes> = (0..12).map(|n| Bytes::from(vec![n; 1 << 20])).collect();
    for run in 0..2 {
        let ledger = Ledger::in_memory();
        let member = Consensus::open(settings.clone(), &dir.path().join("log"), ledger.boxed()).await.unwrap();
        if run == 0 {
            for command in &large {
                member.propose(command.clone()).await.unwrap();
            }
        }
        assert_eq!(ledger.commands(), large);
        let refused = member.propose(vec![0; (4 << 20) + 1].into()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        member.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_another_member_and_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let ledger = Ledger::in_memory();
    let member = open(dir.path(), &ledger).await;
    let refused = |settings| Consensus::open(settings, &log, Ledger::in_memory().boxed());
    let error = refused(settings()).await.err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    member.shutdown().await.unwrap();

    let mut other = settings();
    other.member.id = MemberId(2);
    let error = refused(other).await.err().unwrap();
    assert!(matches!(error, OpenError::WrongMember { .. }), "{error}");

    let identity = log.join("member.json");
    let known = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, known.replace("\"format\":1", "\"format\":2,\"new\":{}")).unwrap();
    let before = segments(&log);
    let error = refused(settings()).await.err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    assert_eq!(segments(&log), before);

    fs::write(&identity, known).unwrap();
    open(dir.path(), &Ledger::in_memory()).await.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let member = open(dir.path(), &Ledger::in_memory()).await;
    for n in 0..10 {
        member.propose(command(n)).await.unwrap();
    }
    member.shutdown().await.unwrap();
    let log = dir.path().join("log");
    let (name, _) = segments(&log).pop().unwrap();
    let file = log.join(name);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    let error = Consensus::open(settings(), &log, Ledger::in_memory().boxed()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(".log is damaged at offset"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "a refused log is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_that_fails_stops_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let member = open(dir.path(), &Ledger::in_memory()).await;
    member.propose(command(0)).await.unwrap();
    let error = member.propose(Bytes::from_static(b"poison")).await.unwrap_err();
    assert!(matches!(error, ConsensusError::Stopped { .. }), "{error}");
    let reason = tokio::time::timeout(Duration::from_secs(10), member.failed()).await.unwrap();
    assert!(reason.contains("poisoned"), "{reason}");
    assert!(member.propose(command(1)).await.is_err());
    assert!(member.read_barrier().await.is_err());
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_even_when_nobody_waits_for_a_reply() {
    let dir = tempfile::tempdir().unwrap();
    let member = Arc::new(open(dir.path(), &Ledger::in_memory()).await);
    let proposer = {
        let member = member.clone();
        tokio::spawn(async move { member.propose(Bytes::from_static(b"poison")).await })
    };
    until("the proposal", || member.status().last_index >= Some(2)).await;
    proposer.abort();
    let reason = tokio::time::timeout(Duration::from_secs(10), member.failed()).await.unwrap();
    assert!(reason.contains("poisoned"), "{reason}");
}

/// Names and lengths of the log's segments, oldest first.
fn segments(log: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(log).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // A segment may go away while we look.
        if let (true, Ok(metadata)) = (name.ends_with(".log"), entry.metadata()) {
            found.push((name, metadata.len()));
        }
    }
    found.sort();
    found
}

/// The directory as it is now, elsewhere.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("log")).unwrap();
    for folder in ["", "log"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    copy
}
