//! A repeated request gets the first one's reply, and takes effect once.
use crate::fixture::{Namespace, bytes, refused, refused_because};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_metastore::Store;
use forebay_namespace::command::*;
use forebay_namespace::query;
use forebay_namespace::reply::Reason;
use forebay_namespace::{ApplyError, Command, Request, StateMachine};
use std::sync::Arc;

fn mkdir(at: &str) -> MakeDirectory {
    MakeDirectory { path: bytes(at), ..Default::default() }
}

#[test]
fn a_repeated_request_gets_the_first_reply() {
    let mut ns = Namespace::new();
    let first = ns.run_as(1, 1, 1, mkdir("/a")).unwrap();
    ns.delete("/a").unwrap();
    assert_eq!(ns.run_as(1, 1, 1, mkdir("/a")).unwrap(), first);
    assert_eq!(ns.stat("/a"), None, "done once");
    // Out of order, and refusals too.
    ns.run_as(1, 3, 1, mkdir("/c")).unwrap();
    let refusal = refused(ns.run_as(1, 2, 1, mkdir("/c")), ErrorKind::AlreadyExists);
    ns.delete("/c").unwrap();
    assert_eq!(ns.run_as(1, 2, 1, mkdir("/c")), Err(refusal));
    // Another client's request of the same number is another one.
    ns.run_as(2, 1, 1, mkdir("/a")).unwrap();
    refused(ns.run_as(2, 0, 0, mkdir("/z")), ErrorKind::InvalidArgument);
}

#[test]
fn a_repetition_in_one_batch_is_one_too() {
    let mut ns = Namespace::new();
    let request = Request { client: 1, sequence: 1, acked_below: 1 };
    let command = Command::requested(request, 5, mkdir("/a")).to_bytes();
    let entry = (Bytes::from_static(b"p"), command);
    let replies = ns.machine.apply(&[entry.clone(), entry]).unwrap();
    assert_eq!(replies[0], replies[1]);
    assert!(forebay_namespace::reply::decode(&replies[0]).is_ok());
}

#[test]
fn a_request_that_was_told_to_come_back_later_may() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    ns.delete("/lake/f").unwrap();
    refused_because(ns.run_as(1, 1, 1, mkdir("/lake/f")), Reason::Blocked);
    ns.purge(10);
    ns.run_as(1, 1, 1, mkdir("/lake/f")).unwrap();
}

#[test]
fn a_request_that_has_begun_is_not_answered_yet() {
    let mut ns = Namespace::with_lake();
    let request = Request { client: 1, sequence: 1, acked_below: 1 };
    let begun = |ns: &Namespace| query::has_begun(&*ns.snapshot(), &request).unwrap();
    let reply = |ns: &Namespace| query::reply_of(&*ns.snapshot(), &request).unwrap();
    assert!(!begun(&ns));
    for _ in 0..2 {
        ns.run_as(1, 1, 1, BeginRequest {}).unwrap();
        assert!(begun(&ns) && reply(&ns).is_none());
    }
    // A comparison finds in the store what it has made there.
    let found = ns.seen_directory("/lake", "d");
    ns.sync("/lake", vec![found], false).unwrap();
    let found = ns.stat("/lake/d").unwrap();
    assert!(!found.is_made());
    refused(ns.run_as(2, 1, 1, mkdir("/lake/d")), ErrorKind::AlreadyExists);
    let again = MakeDirectory { begun: true, mode: 0o700, ..mkdir("/lake/d") };
    let answer = ns.run_as(1, 1, 1, again.clone()).unwrap();
    let made = ns.stat("/lake/d").unwrap();
    assert!(made.is_made() && made.id == found.id && made.mode() == 0o700);
    assert!(!begun(&ns) && reply(&ns).is_some());
    assert_eq!(ns.run_as(1, 1, 1, again.clone()).unwrap(), answer);
    // What another request has made is not its doing.
    ns.run_as(1, 2, 1, BeginRequest {}).unwrap();
    refused(ns.run_as(1, 2, 1, again), ErrorKind::AlreadyExists);
}

#[test]
fn replies_that_the_client_has_are_forgotten() {
    let mut ns = Namespace::new();
    for sequence in 1..=100 {
        ns.run_as(1, sequence, sequence.saturating_sub(30), AdvanceTime {}).unwrap();
    }
    let kept = |sequence| {
        let request = Request { client: 1, sequence, acked_below: 0 };
        query::reply_of(&*ns.snapshot(), &request).unwrap().is_some()
    };
    assert!(!kept(69) && kept(70) && kept(100) && !kept(101));
    refused_because(ns.run_as(1, 69, 69, mkdir("/a")), Reason::Forgotten);
    // A leap over many.
    ns.run_as(1, 101, 101, AdvanceTime {}).unwrap();
    refused_because(ns.run_as(1, 100, 1, mkdir("/a")), Reason::Forgotten);
}

#[test]
fn a_client_that_acknowledges_nothing_is_bounded() {
    let mut ns = Namespace::new();
    for sequence in 1..=1100 {
        ns.run_as(1, sequence, 0, AdvanceTime {}).unwrap();
    }
    refused_because(ns.run_as(1, 76, 0, AdvanceTime {}), Reason::Forgotten);
    assert!(ns.run_as(1, 77, 0, AdvanceTime {}).is_ok());
    // The greatest numbers there are do no harm.
    ns.run_as(1, u64::MAX, u64::MAX, AdvanceTime {}).unwrap();
    ns.run_as(1, u64::MAX, u64::MAX, AdvanceTime {}).unwrap();
}

#[test]
fn idle_sessions_go_after_an_hour_of_log_time() {
    let mut ns = Namespace::new();
    let rows = |ns: &Namespace| ns.store.approximate_size().unwrap();
    ns.now_ms = 60_000 * 1000;
    ns.run(AdvanceTime {}).unwrap();
    let empty = rows(&ns);
    for client in 1..=9 {
        ns.run_as(client, 5, 1, AdvanceTime {}).unwrap();
    }
    ns.now_ms += 59 * 60_000;
    ns.run_as(9, 6, 6, AdvanceTime {}).unwrap();
    let request = |client, sequence| Request { client, sequence, acked_below: 0 };
    assert!(query::reply_of(&*ns.snapshot(), &request(1, 5)).unwrap().is_some());
    ns.now_ms += 2 * 60_000;
    for _ in 0..6 {
        ns.run(AdvanceTime {}).unwrap();
    }
    assert!(query::reply_of(&*ns.snapshot(), &request(1, 5)).unwrap().is_none());
    assert!(query::reply_of(&*ns.snapshot(), &request(9, 6)).unwrap().is_some());
    ns.now_ms += 62 * 60_000;
    for _ in 0..3 {
        ns.run(AdvanceTime {}).unwrap();
    }
    assert!(rows(&ns) <= empty + 2, "nothing is left of them");
}

#[test]
fn the_table_survives_a_restart() {
    let mut ns = Namespace::new();
    let first = ns.run_as(1, 1, 1, mkdir("/a")).unwrap();
    ns.store.flush().unwrap();
    ns.machine = StateMachine::open(ns.store.clone()).unwrap();
    ns.delete("/a").unwrap();
    assert_eq!(ns.run_as(1, 1, 1, mkdir("/a")).unwrap(), first);
}

#[test]
fn entries_without_a_command_just_move_the_position() {
    let mut ns = Namespace::new();
    assert!(ns.machine.applied_position().is_empty());
    let replies = ns.machine.apply(&[(Bytes::from_static(b"7"), Bytes::new())]).unwrap();
    assert_eq!(replies, [Bytes::new()]);
    assert_eq!(ns.machine.applied_position(), "7");
    assert_eq!(query::applied_position(&*ns.snapshot()).unwrap(), "7");
    assert!(ns.machine.apply(&[]).unwrap().is_empty());
}

#[test]
fn an_unreadable_command_stops_the_member_and_changes_nothing() {
    let mut ns = Namespace::new();
    let good = Command::internal(1, mkdir("/a")).to_bytes();
    let position = Bytes::from_static(b"p");
    for bad in [&b"\xff\xff"[..], b"\x10\x05"] {
        let entries = [(position.clone(), good.clone()), (position.clone(), Bytes::from_static(bad))];
        assert!(matches!(ns.machine.apply(&entries), Err(ApplyError::UnreadableCommand(_))));
        assert_eq!(ns.stat("/a"), None);
    }
    ns.mkdir("/a").unwrap();
}

#[test]
fn opening_twice_gives_the_same_tree() {
    let store: Arc<dyn Store> = Arc::new(forebay_metastore::MemStore::new());
    StateMachine::open(store.clone()).unwrap();
    let machine = StateMachine::open(store).unwrap();
    assert_eq!(query::summary(&*machine.store().snapshot()).unwrap().inodes, 1);
}
