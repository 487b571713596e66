//! A copy from the past becomes the begin of a new cluster.
use crate::fixture::{Namespace, bytes, refused};
use forebay_base::ErrorKind;
use forebay_metastore::{Batch, Direction, KeyRange, MemStore, Read, Store};
use forebay_namespace::census::census;
use forebay_namespace::command::*;
use forebay_namespace::restored::{Restored, begin_anew};
use forebay_namespace::{StateMachine, query};
use std::sync::Arc;

/// What a backup has of it.
fn copy(ns: &Namespace) -> Arc<MemStore> {
    let (copy, mut rows) = (MemStore::for_crashes(), Batch::new());
    ns.store
        .scan(KeyRange::all(), Direction::Forward)
        .map(Result::unwrap)
        .for_each(|(key, value)| rows.put(key, value));
    copy.write(rows).unwrap();
    Arc::new(copy)
}

fn restore(copy: Arc<MemStore>, now_ms: u64) -> (Namespace, Restored) {
    let store: Arc<dyn Store> = copy.clone();
    let restored = begin_anew(&store, now_ms, bytes("new position")).unwrap();
    census(&*store).unwrap();
    let machine = StateMachine::open(copy.clone()).unwrap();
    assert_eq!(machine.applied_position(), &bytes("new position"));
    (Namespace { machine, store: copy, now_ms, position: 0 }, restored)
}

#[test]
fn a_restored_namespace_gives_no_number_that_was_given_after_its_backup() {
    let mut old = Namespace::with_lake();
    old.now_ms = 1_795_411_215_000;
    let kept = old.file("/lake/kept", 1);
    let backup = copy(&old);
    // What the old cluster gives after the backup, and another one that is restored from it before.
    let mut given = vec![];
    let (mut first, _) = restore(copy(&old), old.now_ms + 1000);
    for ns in [&mut old, &mut first] {
        for n in 0..100 {
            let made = ns.file(&format!("/lake/n{n}"), 1);
            given.push((made.id, made.version));
            let changed = ns.file("/lake/kept", n);
            given.push((changed.id, changed.version));
        }
        let seen = ns.seen_file("/lake", "kept", 5, "\"other\"");
        ns.sync("/lake", vec![seen], false).unwrap();
        let synced = ns.stat("/lake/kept").unwrap();
        given.push((synced.id, synced.version));
    }
    let (mut ns, restored) = restore(backup, old.now_ms + 2000);
    assert_eq!((restored.inodes, restored.writes), (3, 0));
    assert_eq!(ns.stat("/lake/kept"), Some(kept.clone()));
    let inodes: Vec<u64> = given.iter().map(|(inode, _)| *inode).filter(|inode| *inode != kept.id).collect();
    for n in 0..100 {
        let made = ns.file(&format!("/lake/n{n}"), 1);
        assert!(!inodes.contains(&made.id), "{}", made.id);
        let changed = ns.file("/lake/kept", n);
        assert!(changed.id == kept.id && !given.contains(&(changed.id, changed.version)), "{changed:?}");
        let seen = ns.seen_file("/lake", "kept", 5 + n, &format!("\"s{n}\""));
        ns.sync("/lake", vec![seen], false).unwrap();
        let synced = ns.stat("/lake/kept").unwrap();
        assert!(!given.contains(&(synced.id, synced.version)) && synced.version > changed.version, "{synced:?}");
    }
    // A clock that is behind does not matter.
    let (mut late, _) = restore(copy(&ns), 0);
    assert!(late.file("/lake/late", 1).id > ns.file("/lake/late", 1).id);
}

#[test]
fn a_restored_namespace_touches_nothing_that_the_old_one_had_begun_in_a_store() {
    let mut old = Namespace::with_lake();
    old.mkdir_p("/lake/gone/below").unwrap();
    old.file("/lake/gone/below/f", 1);
    old.file("/lake/replaced", 7);
    old.file("/lake/from", 1);
    let overwritten = old.overwrite("/lake/replaced").unwrap().write;
    old.run(SetUpload { write: overwritten.id, upload: "u".to_owned() }).unwrap();
    old.create("/lake/new").unwrap();
    let given_up = old.create("/lake/given-up").unwrap().write;
    old.run(SetUpload { write: given_up.id, upload: "v".to_owned() }).unwrap();
    old.run(AbandonWrite { write: given_up.id }).unwrap();
    old.delete_all("/lake/gone").unwrap();
    old.run(BeginRename { from: bytes("/lake/from"), to: bytes("/lake/to"), ..BeginRename::default() }).unwrap();
    assert!(census(&*old.store).unwrap().kinds.len() > 8);
    let (mut ns, restored) = restore(copy(&old), old.now_ms);
    assert_eq!((restored.writes, restored.deletes, restored.renames), (2, 1, 1));
    let snapshot = ns.snapshot();
    assert!(query::writes(&*snapshot, 0, 10).unwrap().is_empty(), "no upload is aborted");
    assert!(query::rename_intents(&*snapshot).unwrap().is_empty(), "no copy is deleted");
    assert!(query::trash(&*snapshot, 0, 10).unwrap().iter().all(|entry| !entry.purge_store), "no object is deleted");
    assert_eq!(ns.names("/lake"), ["from", "replaced"]);
    assert_eq!(ns.stat("/lake/replaced").unwrap().length, 7);
    assert!(!ns.stat("/lake").unwrap().is_loaded(), "it is compared with the store once more");
    refused(ns.complete(overwritten.id, 1), ErrorKind::NotFound);
    // Nothing is blocked, and what lay in the trash goes from the namespace.
    ns.rename("/lake/from", "/lake/to").unwrap();
    ns.mkdir_p("/lake/gone/below").unwrap();
    ns.purge(3);
    assert_eq!(census(&*ns.snapshot()).unwrap().summary.inodes, 6);
}

#[test]
fn directories_of_stores_are_compared_once_more_and_others_are_not() {
    let mut old = Namespace::new();
    old.mkdir_p("/plain/below").unwrap();
    old.mount("/plain/m").unwrap();
    old.sync("/plain/m", vec![], true).unwrap();
    old.mkdir_p("/plain/m/a/b").unwrap();
    old.mount("/plain/m/a/inner").unwrap();
    old.mkdir("/plain/m/a/inner/c").unwrap();
    let (ns, _) = restore(copy(&old), old.now_ms);
    let loaded = |at: &str| ns.stat(at).unwrap().is_loaded();
    let all = [
        "/",
        "/plain",
        "/plain/below",
        "/plain/m",
        "/plain/m/a",
        "/plain/m/a/b",
        "/plain/m/a/inner",
        "/plain/m/a/inner/c",
    ];
    assert_eq!(all.map(loaded), [true, true, true, false, false, false, false, false]);
}

#[test]
fn a_damaged_row_is_found() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    let good = census(&*ns.store).unwrap();
    assert_eq!(
        good.kinds.iter().map(|count| count.rows).sum::<u64>(),
        ns.store.scan(KeyRange::all(), Direction::Forward).count() as u64
    );
    for (key, value) in ns.store.scan(KeyRange::all(), Direction::Forward).map(Result::unwrap) {
        let damaged = copy(&ns);
        let mut batch = Batch::new();
        match value.is_empty() || matches!(key[0], b'R' | b'D') {
            true => batch.put(key.slice(..1), value),
            false => batch.put(key.clone(), bytes("\u{7f}nonsense")),
        }
        damaged.write(batch).unwrap();
        assert!(census(&*damaged).is_err(), "{key:?}");
    }
}
