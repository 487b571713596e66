//! Taking over what a store says, and the races with local changes.
use crate::fixture::{Namespace, bytes, refused, refused_because};
use forebay_base::ErrorKind;
use forebay_namespace::command::*;
use forebay_namespace::query;
use forebay_namespace::reply::{Payload, Reason, Synced};

fn synced(added: u64, changed: u64, removed: u64, skipped: u64, unchanged: u64) -> Synced {
    Synced { added, changed, removed, skipped, unchanged }
}

#[test]
fn new_changed_and_deleted_objects_are_taken_over() {
    let mut ns = Namespace::with_lake();
    let seen = |ns: &Namespace, length, tag: &str| {
        vec![ns.seen_file("/lake", "f", length, tag), ns.seen_directory("/lake", "d")]
    };
    let first = seen(&ns, 5, "t1");
    assert_eq!(ns.sync("/lake", first, true).unwrap(), synced(2, 0, 0, 0, 0));
    let file = ns.stat("/lake/f").unwrap();
    assert_eq!((file.length, file.version, file.tag.as_str(), file.modified_ms), (5, 1, "t1", 5000));
    assert!(file.is_complete() && ns.stat("/lake").unwrap().is_loaded() && !ns.stat("/lake/d").unwrap().is_loaded());
    let same = seen(&ns, 5, "t1");
    assert_eq!(ns.sync("/lake", same, false).unwrap(), synced(0, 0, 0, 0, 2));
    let changed = seen(&ns, 5, "t2");
    assert_eq!(ns.sync("/lake", changed, false).unwrap(), synced(0, 1, 0, 0, 1));
    assert_eq!(ns.stat("/lake/f").unwrap().version, 2);
    let gone = vec![ns.seen_gone("/lake", "f"), ns.seen_gone("/lake", "d")];
    assert_eq!(ns.sync("/lake", gone, false).unwrap(), synced(0, 0, 2, 0, 0));
    assert_eq!(ns.names("/lake"), [""; 0]);
    assert!(query::trash(&*ns.snapshot(), 0, 9).unwrap().iter().all(|entry| !entry.purge_store));
}

#[test]
fn without_marks_length_and_time_tell_contents_apart() {
    let mut ns = Namespace::with_lake();
    let entry = ns.seen_file("/lake", "f", 5, "");
    ns.sync("/lake", vec![entry], true).unwrap();
    let mut later = ns.seen_file("/lake", "f", 5, "");
    assert_eq!(ns.sync("/lake", vec![later.clone()], false).unwrap().unchanged, 1);
    later.modified_ms += 1;
    assert_eq!(ns.sync("/lake", vec![later], false).unwrap().changed, 1);
    let mut tagged = ns.seen_file("/lake", "f", 5, "t");
    tagged.modified_ms += 1;
    assert_eq!(ns.sync("/lake", vec![tagged], false).unwrap().unchanged, 1, "one side has no mark");
}

#[test]
fn a_single_object_makes_its_parents() {
    let mut ns = Namespace::with_lake();
    let entry = SyncEntry { name: bytes("f"), length: 1, ..Default::default() };
    assert_eq!(ns.sync("/lake/a/b", vec![entry], false).unwrap(), synced(3, 0, 0, 0, 0));
    assert!(!ns.stat("/lake/a").unwrap().is_loaded());
    assert_eq!(ns.stat("/lake/a/b/f").unwrap().length, 1);
    refused(ns.sync("/outside", vec![], false), ErrorKind::InvalidArgument);
    let through_a_file = SyncApply { directory: bytes("/lake/a/b/f/x"), ..ns.sync_command("/lake/a/b", vec![], false) };
    refused(ns.run(through_a_file), ErrorKind::NotADirectory);
}

#[test]
fn a_local_change_wins_over_an_older_comparison() {
    let mut ns = Namespace::with_lake();
    for name in ["changed", "renamed", "gone"] {
        ns.file(&format!("/lake/{name}"), 1);
    }
    let entries = vec![
        ns.seen_file("/lake", "changed", 9, "x"),
        ns.seen_gone("/lake", "changed"),
        ns.seen_file("/lake", "new", 9, "x"),
        ns.seen_file("/lake", "writing", 9, "x"),
    ];
    let command = ns.sync_command("/lake", entries, true);
    ns.file("/lake/changed", 2);
    let new = ns.file("/lake/new", 3);
    ns.create("/lake/writing").unwrap();
    assert_eq!(ns.run(command).unwrap(), Payload::Synced(synced(0, 0, 0, 4, 0)));
    assert_eq!(ns.stat("/lake/changed").unwrap().length, 2);
    assert_eq!(ns.stat("/lake/new"), Some(new));
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    ns.mkdir("/lake/d").unwrap();
    let below = ns.create("/lake/d/g").unwrap().write.id;
    let write = ns.overwrite("/lake/f").unwrap().write.id;
    let entries = vec![ns.seen_file("/lake", "f", 9, "x"), ns.seen_gone("/lake", "f"), ns.seen_gone("/lake", "d")];
    assert_eq!(ns.sync("/lake", entries, false).unwrap().skipped, 3);
    ns.complete(write, 2).unwrap();
    ns.complete(below, 2).unwrap();
}

#[test]
fn a_version_is_never_given_twice() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    let write = ns.overwrite("/lake/f").unwrap().write;
    assert_eq!(write.version, 2);
    ns.run(AbandonWrite { write: write.id }).unwrap();
    let entry = ns.seen_file("/lake", "f", 9, "x");
    ns.sync("/lake", vec![entry], false).unwrap();
    assert_eq!(ns.stat("/lake/f").unwrap().version, 3);
}

#[test]
fn a_listing_from_before_a_delete_is_stale_even_when_the_trash_is_purged() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    let listing =
        |ns: &Namespace| ns.sync_command("/lake", vec![SyncEntry { name: bytes("f"), ..Default::default() }], false);
    let before_delete = listing(&ns);
    ns.delete("/lake/f").unwrap();
    let while_purging = listing(&ns);
    refused_because(ns.run(before_delete.clone()), Reason::Stale);
    match ns.run(while_purging.clone()).unwrap() {
        Payload::Synced(synced) => assert_eq!(synced.skipped, 1, "the key is blocked"),
        other => panic!("{other:?}"),
    }
    ns.purge(10);
    refused_because(ns.run(before_delete), Reason::Stale);
    refused_because(ns.run(while_purging), Reason::Stale);
    let fresh = listing(&ns);
    assert!(ns.run(fresh).is_ok());
}

#[test]
fn a_missing_directory_is_not_loaded_from_a_listing_older_than_its_end() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/a/b").unwrap();
    let listing =
        |ns: &Namespace| ns.sync_command("/lake/a/b", vec![SyncEntry { name: bytes("f"), ..Default::default() }], true);
    ns.delete_all("/lake/a").unwrap();
    let while_purging = listing(&ns);
    refused_because(ns.run(while_purging.clone()), Reason::Blocked);
    ns.purge(10);
    refused_because(ns.run(while_purging), Reason::Stale);
    let fresh = listing(&ns);
    assert!(ns.run(fresh).is_ok());
}

#[test]
fn a_file_becomes_a_directory_and_back() {
    let mut ns = Namespace::with_lake();
    let file = ns.seen_file("/lake", "a", 1, "t");
    ns.sync("/lake", vec![file], true).unwrap();
    let directory = ns.seen_directory("/lake", "a");
    assert_eq!(ns.sync("/lake", vec![directory], false).unwrap().changed, 1);
    ns.sync("/lake/a", vec![SyncEntry { name: bytes("f"), ..Default::default() }], true).unwrap();
    let file = ns.seen_file("/lake", "a", 1, "t");
    assert_eq!(ns.sync("/lake", vec![file], false).unwrap().changed, 1);
    assert!(!ns.stat("/lake/a").unwrap().is_directory());
    ns.purge(10);
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().inodes, 3);
}

#[test]
fn bad_names_and_large_batches_are_refused() {
    let mut ns = Namespace::with_lake();
    for name in ["", "..", "a/b"] {
        let entry = SyncEntry { name: bytes(name), ..Default::default() };
        refused(ns.sync("/lake", vec![entry], false), ErrorKind::InvalidArgument);
    }
    refused(ns.sync("/lake", vec![SyncEntry::default(); 1001], false), ErrorKind::InvalidArgument);
}
