//! A disk that is really full: a small tmpfs, mounted for the test in a mount namespace of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::ledger::{Ledger, reply};
use bytes::Bytes;
use forebay_consensus::{Consensus, ConsensusError, Member, MemberId, Settings};

/// Tells this test binary that it is the child, and where the small disk is.
const CHILD: &str = "FOREBAY_CONSENSUS_SMALL_DISK";

/// Leaves the test out where nobody may mount anything; the simulated disk covers it.
const LEFT_OUT: &str = "FOREBAY_NO_SMALL_DISK";

fn settings() -> Settings {
    Settings::new(Member { id: MemberId(1), address: "127.0.0.1:1".to_owned() })
}

/// In the namespace: fills the disk, and goes on after there is room.
#[test]
#[ignore = "run by the test below, in a mount namespace"]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill(Path::new(&dir)));
    println!("the disk was full and nothing was lost");
}

async fn fill(dir: &Path) {
    // Room that the operator finds later.
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 256 << 10]).unwrap();
    let log = dir.join("log");
    let ledger = Ledger::in_memory();
    let member = Consensus::open(settings(), &log, ledger.boxed()).await.unwrap();
    let command = |n: usize| Bytes::from(vec![n as u8; 10_000]);
    let mut acknowledged = 0;
    let error = loop {
        match member.propose(command(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(e) => break e,
        }
        assert!(acknowledged < 1000, "the disk is larger than it should be");
    };
    assert!(matches!(error, ConsensusError::Stopped { .. }), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    let reason = tokio::time::timeout(Duration::from_secs(10), member.failed()).await.unwrap();
    assert!(reason.contains(log.to_str().unwrap()), "{reason}");
    assert!(member.propose(command(0)).await.is_err());
    assert!(member.read_barrier().await.is_err());
    assert!(acknowledged > 10);
    member.shutdown().await.unwrap();

    std::fs::remove_file(ballast).unwrap();
    let ledger = Ledger::in_memory();
    let member = Consensus::open(settings(), &log, ledger.boxed()).await.unwrap();
    let there = ledger.commands().len();
    // The one that failed may have come to disk whole, though not its sync.
    assert!((acknowledged..=acknowledged + 1).contains(&there), "{there} of {acknowledged}");
    let next = command(there);
    assert_eq!(member.propose(next.clone()).await.unwrap(), reply(there, &next));
    member.shutdown().await.unwrap();
}

#[test]
fn a_full_disk_stops_the_member_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1m none '{dir}' && exec '{exe}' --exact full_disk::child --ignored --nocapture",
        dir = dir.path().display(),
        exe = std::env::current_exe().unwrap().display(),
    );
    let run = |options: &[&str], script: &str| {
        Command::new("unshare").args(options).args(["sh", "-c", script]).env(CHILD, dir.path()).output()
    };
    // Root needs just a mount namespace; others a user namespace, too, where the system allows that.
    let options = [&["--mount"][..], &["--mount", "--user", "--map-root-user"]];
    let probe = format!("mount -t tmpfs none '{}'", dir.path().display());
    let allowed = options.into_iter().find(|options| run(options, &probe).is_ok_and(|output| output.status.success()));
    let Some(options) = allowed else {
        let left_out = std::env::var_os(LEFT_OUT).is_some();
        assert!(
            left_out,
            "no small disk can be made: run the tests as root, allow user namespaces, or leave this one out by {LEFT_OUT}=1"
        );
        return;
    };
    let output = run(options, &script).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("nothing was lost"), "{said}");
}
