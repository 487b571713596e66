//! The version of the cluster's behaviour: it rises by a command, and a program that does not know it goes no further.

use crate::fixture::{Namespace, bytes, refused};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_metastore::{Batch, Direction, KeyRange, MemStore, Read, Store};
use forebay_namespace::command::*;
use forebay_namespace::record::PurgePlace;
use forebay_namespace::versions::{FIRST, KNOWN, PURGE_PLACES};
use forebay_namespace::{ApplyError, Command, StateMachine, census, query};
use std::sync::Arc;

/// What every row of a store is.
fn rows(store: &dyn Read) -> Vec<(Bytes, Bytes)> {
    store.scan(KeyRange::all(), Direction::Forward).collect::<Result<_, _>>().unwrap()
}

/// The store of a cluster of that version, whatever this program knows: the version is field 4 of the state, and a field's last value counts.
fn store_of(version: u8) -> Arc<dyn Store> {
    let store = MemStore::new();
    let store: Arc<dyn Store> = Arc::new(store);
    StateMachine::open(store.clone()).unwrap();
    let state = store.get(b"!").unwrap().unwrap();
    let mut batch = Batch::new();
    batch.put(Bytes::from_static(b"!"), [&state[..], &[0x20, version]].concat());
    store.write(batch).unwrap();
    store
}

#[test]
fn the_version_rises_and_never_goes_down() {
    let mut ns = Namespace::new();
    assert_eq!(ns.machine.cluster_version(), FIRST);
    for version in [KNOWN.newest, FIRST, 0] {
        ns.run(SetClusterVersion { version }).unwrap();
        assert_eq!(ns.machine.cluster_version(), KNOWN.newest);
        assert_eq!(query::summary(&*ns.snapshot()).unwrap().cluster_version, KNOWN.newest);
    }
}

#[test]
fn a_version_that_is_not_known_stops_the_member_and_changes_nothing() {
    let mut ns = Namespace::new();
    let before = rows(&*ns.store);
    let mkdir = Command::internal(1, MakeDirectory { path: bytes("/a"), ..Default::default() });
    let raise = Command::internal(2, SetClusterVersion { version: KNOWN.newest + 1 });
    let entries = [mkdir, raise].map(|command| (Bytes::from_static(b"p"), command.to_bytes()));
    let found = KNOWN.newest + 1;
    assert_eq!(ns.machine.apply(&entries), Err(ApplyError::ClusterVersion { found, known: KNOWN }));
    assert_eq!(rows(&*ns.store), before);
    assert_eq!(ns.machine.cluster_version(), FIRST);
    // The same program goes on from there with what it knows.
    ns.machine.apply(&entries[..1]).unwrap();
    assert!(ns.stat("/a").is_some());
}

#[test]
fn a_state_of_a_version_that_is_not_known_is_not_opened() {
    for version in 0..=9 {
        let store = store_of(version);
        let (before, found) = (rows(&*store), u32::from(version).max(FIRST));
        let opened = StateMachine::open(store.clone()).map(|machine| machine.cluster_version());
        match KNOWN.contains(found) {
            true => assert_eq!(opened, Ok(found)),
            false => {
                let refused = ApplyError::ClusterVersion { found, known: KNOWN };
                assert_eq!(opened, Err(refused.clone()));
                assert_eq!(census::census(&*store).unwrap_err(), refused, "nor read");
            }
        }
        assert_eq!(rows(&*store), before);
    }
}

#[test]
fn equal_states_have_equal_digests_however_far_their_logs_are() {
    let digest = |ns: &Namespace| census::census(&*ns.snapshot()).unwrap().digest;
    let (mut one, mut other) = (Namespace::new(), Namespace::new());
    for ns in [&mut one, &mut other] {
        ns.run(MakeDirectory { path: bytes("/a"), ..Default::default() }).unwrap();
    }
    assert_eq!(digest(&one), digest(&other));
    one.run(AdvanceTime {}).unwrap();
    assert_eq!(digest(&one), digest(&other), "time passes, and nothing changes");
    one.run(MakeDirectory { path: bytes("/b"), ..Default::default() }).unwrap();
    assert_ne!(digest(&one), digest(&other));
}

/// A deleted directory, whose objects are to be purged; its trash entry.
fn deleted(ns: &mut Namespace) -> u64 {
    ns.mkdir("/lake/d").unwrap();
    ns.file("/lake/d/f", 5);
    ns.delete_all("/lake/d").unwrap();
    query::trash(&*ns.snapshot(), 0, 2).unwrap()[0].id
}

fn note(trash: u64, after: &str) -> NotePurge {
    let place = PurgePlace { directory: bytes("sub"), after: bytes(after) };
    NotePurge { trash, place }
}

#[test]
fn how_far_a_purge_is_is_noted_from_its_version_on() {
    let mut ns = Namespace::with_lake();
    let trash = deleted(&mut ns);
    let before = census::census(&*ns.snapshot()).unwrap().digest;
    let refused = refused(ns.run(note(trash, "a")), ErrorKind::InvalidArgument);
    assert!(refused.message.contains("until it is upgraded: it needs cluster version 2"), "{}", refused.message);
    assert_eq!(census::census(&*ns.snapshot()).unwrap().digest, before, "nothing has changed");
    ns.run(SetClusterVersion { version: PURGE_PLACES }).unwrap();
    for after in ["a", "b/"] {
        ns.run(note(trash, after)).unwrap();
        let entry = query::trash(&*ns.snapshot(), 0, 2).unwrap().remove(0);
        assert_eq!(entry.purged_to, Some(note(trash, after).place));
    }
    let long = "x".repeat(20_000);
    crate::fixture::refused(ns.run(note(trash, &long)), ErrorKind::InvalidArgument);
    while !ns.purge(10).is_empty() {}
    ns.run(note(trash, "c")).unwrap();
    assert_eq!(query::trash(&*ns.snapshot(), 0, 2).unwrap(), [], "one that is gone stays so");
}
