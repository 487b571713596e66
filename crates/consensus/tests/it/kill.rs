//! `kill -9` under load, again and again: nothing acknowledged is lost or doubled, and no order is changed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::ledger::Ledger;
use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_consensus::{Consensus, Member, MemberId, Settings};

const ROUNDS: usize = 40;
const CLIENTS: usize = 16;
/// Tells this test binary that it is the child, and where.
const CHILD: &str = "FOREBAY_CONSENSUS_CHILD";

fn settings() -> Settings {
    let mut settings = Settings::new(Member { id: MemberId(1), address: "127.0.0.1:1".to_owned() });
    // Everything happens often: new segments, flushes, purges, reads from the disk.
    settings.segment_bytes = ByteSize::kib(4);
    settings.cache_bytes = ByteSize::kib(2);
    settings.flush_bytes = ByteSize::kib(32);
    settings.retained_entries = 20;
    settings
}

async fn open(dir: &Path) -> (Consensus, Ledger) {
    let ledger = Ledger::at(&dir.join("state"));
    let member = Consensus::open(settings(), &dir.join("log"), ledger.boxed()).await;
    (member.unwrap(), ledger)
}

/// The process that will be killed: proposes without end and prints each command once it is acknowledged.
#[test]
#[ignore = "run by the test below, as a process of its own"]
fn child() {
    let Ok(args) = std::env::var(CHILD) else { return };
    let (round, dir) = args.split_once(' ').unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (member, _) = open(Path::new(dir)).await;
        let member = Arc::new(member);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| tokio::spawn(propose_for_ever(member.clone(), format!("{round}.{client}"))))
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    });
}

async fn propose_for_ever(member: Arc<Consensus>, name: String) {
    for n in 0.. {
        let command = format!("{name}.{n}");
        member.propose(command.clone().into()).await.unwrap();
        // One write a line: a kill tears none. The reader may be gone.
        let _ = std::io::stdout().write_all(format!("ack {command}\n").as_bytes());
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let chance = (seed + round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        acknowledged.extend(run_and_kill(round, dir.path(), 1 + chance as usize % 600));
        let (member, ledger) = runtime.block_on(open(dir.path()));
        check(&ledger.commands(), &acknowledged);
        if round % 2 == 0 {
            runtime.block_on(member.shutdown()).unwrap();
        } else {
            // As a crash again: the state machine keeps what was last flushed.
            runtime.block_on(async { drop(member) });
        }
    }
    assert!(acknowledged.len() > ROUNDS, "{} commands", acknowledged.len());
}

/// Runs a child until it has acknowledged `acks` commands, kills it, and returns all that it acknowledged.
fn run_and_kill(round: usize, dir: &Path, acks: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .env(CHILD, format!("{round} {}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines.map_while(Result::ok) {
        if let Some(command) = line.strip_prefix("ack ") {
            acknowledged.push(command.to_owned());
        }
        if acknowledged.len() == acks {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(acknowledged.len() >= acks, "the child ended by itself: {status}");
    acknowledged
}

fn check(applied: &[Bytes], acknowledged: &[String]) {
    let mut places = HashMap::new();
    let mut last: HashMap<&str, u64> = HashMap::new();
    for (place, command) in applied.iter().enumerate() {
        let command = std::str::from_utf8(command).unwrap();
        let before = places.insert(command, place);
        assert_eq!(before, None, "{command} is there twice");
        let (client, n) = command.rsplit_once('.').unwrap();
        let n: u64 = n.parse().unwrap();
        let previous = last.insert(client, n);
        assert_eq!(previous.map_or(0, |p| p + 1), n, "{command} is out of order");
    }
    for command in acknowledged {
        assert!(places.contains_key(command.as_str()), "{command} was acknowledged and is lost");
    }
}
