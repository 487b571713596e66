//! The soak in its short form: every kind of fault once, in each kind of network.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use forebay_soak::faults::MASTERS;
use forebay_soak::schedule::{Event, Fault, Schedule};
use forebay_testkit::process::Process;
use forebay_testkit::wait;
use tokio::sync::Mutex;

const DEADLINE: Duration = Duration::from_secs(120);

fn command(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-soak"));
    command.args(arguments).arg("--output").arg(dir.join("output")).env("TMPDIR", dir);
    command
}

fn soak(arguments: &[&str], dir: &Path) -> Output {
    command(arguments, dir).output().unwrap()
}

/// One after the other: a machine with few processors has enough to do with one.
static TURN: Mutex<()> = Mutex::const_new(());

const ROUNDS: u64 = 8;

/// What strikes for certain in so many rounds of a seed, whatever the machine does meanwhile: what finds enough masters that run, or needs a leader and
/// comes while nothing is broken.
fn certain(seed: u64) -> BTreeSet<Fault> {
    let mut schedule = Schedule::new(seed);
    let mut certain = BTreeSet::new();
    for _ in 0..ROUNDS {
        // The fewest that may run.
        let (mut running, mut is_whole) = (MASTERS, true);
        for Event { fault, .. } in schedule.draw().events {
            let (strikes, takes) = match fault {
                Fault::KillLeader | Fault::LongPause => (is_whole, 1),
                Fault::ShortPause | Fault::Transfer | Fault::Snapshot => (is_whole, 0),
                Fault::LeaderAlone => (is_whole, 0),
                Fault::KillFollower => (running >= 2, 1),
                Fault::KillTwo => (running >= 2, 2),
                Fault::KillAny | Fault::PauseAny => (running >= 1, 1),
                Fault::LinkDown | Fault::Deaf | Fault::Mute | Fault::ClockAhead | Fault::ClockBack => (running >= 1, 0),
                Fault::PairCut => (true, 0),
            };
            if strikes {
                certain.insert(fault);
            }
            running = running.saturating_sub(takes);
            is_whole &= matches!(fault, Fault::ShortPause | Fault::Transfer | Fault::Snapshot);
        }
    }
    certain
}

/// Any by which no kind is left to chance but those that need a leader; of these at least the two that are commands strike, and one of the others.
fn seed() -> u64 {
    let of_leaders = [Fault::KillLeader, Fault::ShortPause, Fault::LongPause, Fault::LeaderAlone];
    let is_enough = |seed: &u64| {
        let certain = certain(*seed);
        let missing: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| !certain.contains(fault)).collect();
        missing.len() < of_leaders.len() && missing.iter().all(|fault| of_leaders.contains(fault))
    };
    std::iter::repeat_with(rand::random).find(is_enough).unwrap()
}

/// The first number in the line of the report that has this name.
fn figure(told: &str, name: &str) -> u64 {
    let line = told.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {told}"));
    let number = line.split(|letter: char| !letter.is_ascii_digit()).find(|number| !number.is_empty());
    number.unwrap_or_else(|| panic!("no number in {line}")).parse().unwrap()
}

fn passes(arguments: &[&str]) -> String {
    let _turn = TURN.blocking_lock();
    let dir = tempfile::tempdir().unwrap();
    let output = soak(arguments, dir.path());
    let (told, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}{why}");
    assert!(output.status.success(), "{}: {why}", output.status);
    for figure in ["operations ", "elections ", "longest outage ", "seed ", "all there"] {
        assert!(told.contains(figure), "no {figure} in {told}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    told.into_owned()
}

/// Every kind has struck that can be relied on to strike, and the lead has changed.
#[test]
fn what_clients_are_told_is_linearizable_through_all_faults() {
    let seed = seed();
    let told = passes(&["--rounds", &ROUNDS.to_string(), "--seed", &seed.to_string()]);
    let totals = told.rsplit_once("rounds  ").unwrap().1;
    for fault in certain(seed) {
        assert!(figure(totals, &format!("  {fault}")) > 0, "{fault}: {told}");
    }
    assert!(figure(totals, "operations  ") > 0 && figure(totals, "elections  ") > 0, "{told}");
}

#[test]
fn seeds_are_found_by_which_all_kinds_strike() {
    let certain = certain(seed());
    assert!(certain.contains(&Fault::Transfer) && certain.contains(&Fault::Snapshot), "{certain:?}");
    assert!(certain.len() > Fault::ALL.len() - 4, "{certain:?}");
}

#[test]
fn where_namespaces_are_not_allowed_relays_cut_the_network() {
    let told = passes(&["--rounds", "2", "--network", "relays"]);
    assert!(told.contains("relays on loopback"), "{told}");
}

/// Interrupted in the middle, it leaves neither processes nor files.
#[tokio::test]
async fn an_interrupted_soak_leaves_nothing_behind() {
    let _turn = TURN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut soak = Process::start("soak", command(&["--rounds", "1000"], dir.path()), &log).unwrap();
    let ended_or_begun = || {
        let ended = soak.exit_status().unwrap();
        std::future::ready(ended.is_some() || soak.log().contains("round    0"))
    };
    let waited = wait::until("the first round", DEADLINE, ended_or_begun).await;
    assert!(waited.is_ok() && soak.log().contains("round    0"), "{waited:?}: {}", soak.log());
    let status = soak.terminate(DEADLINE).await.unwrap();
    assert!(!status.success(), "{status}");
    assert!(soak.log().contains("interrupted by SIGTERM"), "{}", soak.log());
    std::fs::remove_file(log).unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
