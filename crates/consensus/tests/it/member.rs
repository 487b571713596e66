//! One member as its users see it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::group::remove_segments;
use crate::ledger::{Ledger, reply};
use bytes::Bytes;
use forebay_base::{ByteSize, ErrorKind};
use forebay_consensus::{
    Batch, Consensus, ConsensusError, Flush, Member, MemberId, OpenError, Settings, StateMachine, StateMachineError,
};

fn settings() -> Settings {
    Settings::new(Member { id: MemberId(1), address: "127.0.0.1:1".to_owned() })
}

async fn open(dir: &Path, ledger: &Ledger) -> Consensus {
    Consensus::open(settings(), &dir.join("log"), ledger.boxed()).await.unwrap()
}

/// As [`open`], of a member that would wait an hour for others before it took the lead.
async fn open_at_once(dir: &Path, ledger: &Ledger) -> Consensus {
    let settings = Settings { election_timeout: Duration::from_secs(3600), ..settings() };
    let log = dir.join("log");
    let opened = tokio::time::timeout(Duration::from_secs(60), Consensus::open(settings, &log, ledger.boxed())).await;
    opened.expect("it waits for others").unwrap()
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
    let member = open_at_once(dir.path(), &ledger).await;
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
        let member = open_at_once(dir.path(), &ledger).await;
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

/// Entries are kept for members that lag, but no more of them than have some bytes.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_no_more_bytes_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::at(&dir.path().join("state"));
    let mut settings = settings();
    settings.segment_bytes = ByteSize::kib(16);
    settings.flush_bytes = ByteSize::kib(32);
    settings.cache_bytes = ByteSize::kib(8);
    settings.retained_bytes = ByteSize::kib(64);
    let log = dir.path().join("log");
    let member = Consensus::open(settings, &log, ledger.boxed()).await.unwrap();
    let stored = || segments(&log).iter().map(|(_, length)| length).sum::<u64>();
    // 3 MiB, far fewer than 10,000 entries.
    for n in 0..3000u64 {
        member.propose(vec![n as u8; 1024].into()).await.unwrap();
    }
    until("the purge", || stored() < 256 << 10).await;
    assert!(stored() >= 64 << 10, "{} bytes are left for those who lag", stored());
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

/// A state machine that takes a while to close, as a store with full memory does.
struct ClosesSlowly {
    ledger: Ledger,
    closed: Arc<AtomicBool>,
}

impl StateMachine for ClosesSlowly {
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        self.ledger.apply(batch)
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        self.ledger.applied()
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        self.ledger.flusher()
    }

    fn checkpoint(&self, target: &Path) -> Result<Option<Bytes>, StateMachineError> {
        self.ledger.checkpoint(target)
    }

    fn install(&mut self, source: &Path) -> Result<(), StateMachineError> {
        self.ledger.install(source)
    }
}

impl Drop for ClosesSlowly {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(300));
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// A process may end when the runtime has: nothing of the state machine may be under way then.
#[test]
fn the_state_machine_is_closed_when_the_runtime_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let closed = Arc::new(AtomicBool::new(false));
    let machine = ClosesSlowly { ledger: Ledger::in_memory(), closed: closed.clone() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let member = Consensus::open(settings(), &dir.path().join("log"), Box::new(machine)).await.unwrap();
        member.propose(command(0)).await.unwrap();
        // Without a shutdown, as in a crash.
        drop(member);
    });
    drop(runtime);
    assert!(closed.load(Ordering::SeqCst), "the state machine is still being closed");
}

/// What is said of a directory whose log a member refuses.
async fn refused(dir: &Path, ledger: &Ledger) -> String {
    let log = dir.join("log");
    let opening = Consensus::open(settings(), &log, ledger.boxed());
    let error = tokio::time::timeout(Duration::from_secs(60), opening).await.expect("it says nothing").err().unwrap();
    assert!(matches!(error, OpenError::LogMissing { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let said = error.to_string();
    let named = said.starts_with(&format!("log is missing or incomplete in {}", dir.join("log").display()));
    assert!(named && said.contains("forebay masters rebuild") && said.contains("--restore-from"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_taken_away_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, log) = (dir.path().join("state"), dir.path().join("log"));
    let member = open(dir.path(), &Ledger::at(&file)).await;
    for n in 0..10 {
        member.propose(command(n)).await.unwrap();
    }
    member.flush_now().await.unwrap();
    member.shutdown().await.unwrap();
    let identity = fs::read(log.join("member.json")).unwrap();

    // All of it, beside a state that was flushed.
    fs::remove_dir_all(&log).unwrap();
    for _ in 0..2 {
        let said = refused(dir.path(), &Ledger::at(&file)).await;
        assert!(said.contains("there is no log"), "{said}");
    }
    // Just the segments and the vote, of a member that had noted that there are some.
    fs::write(log.join("member.json"), identity).unwrap();
    for ledger in [Ledger::at(&file), Ledger::in_memory()] {
        let said = refused(dir.path(), &ledger).await;
        assert!(said.contains("no segment"), "{said}");
    }
    // A directory without any state is that of a new member.
    fs::remove_dir_all(&log).unwrap();
    open_at_once(dir.path(), &Ledger::in_memory()).await.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_segments_is_refused_beside_a_state_that_was_never_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let member = open(dir.path(), &Ledger::in_memory()).await;
    member.propose(command(0)).await.unwrap();
    let noted = || fs::read_to_string(log.join("member.json")).unwrap().contains(r#""begun":true"#);
    until("the note that there is a log", noted).await;
    member.shutdown().await.unwrap();
    remove_segments(&log);
    // The vote alone says it: a release that notes nothing has left the directory.
    fs::remove_file(log.join("confirmed")).unwrap();
    let identity = fs::read_to_string(log.join("member.json")).unwrap();
    fs::write(log.join("member.json"), identity.replace(r#""begun":true"#, r#""begun":false"#)).unwrap();
    let said = refused(dir.path(), &Ledger::in_memory()).await;
    assert!(said.contains("this member led in term"), "{said}");
}
