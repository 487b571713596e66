//! Mounts, and renames that take several steps.
use crate::fixture::{Namespace, bytes, path, refused, refused_because};
use forebay_base::{ErrorKind, MountId};
use forebay_namespace::command::*;
use forebay_namespace::query;
use forebay_namespace::record::{Copied, IntentPhase, MountSpec, RenameIntent};
use forebay_namespace::reply::{Payload, Reason, Refusal};

fn mount_and_key(ns: &Namespace, at: &str) -> Option<(u32, String)> {
    let found = query::mount_of(&*ns.snapshot(), &path(at)).unwrap();
    found.map(|(mount, key)| (mount.id, String::from_utf8_lossy(&key).into_owned()))
}

#[test]
fn paths_belong_to_the_nearest_mount() {
    let mut ns = Namespace::new();
    ns.mount("/lake").unwrap();
    ns.mount("/lake/far/away").unwrap();
    for (at, expected) in [
        ("/", None),
        ("/lak", None),
        ("/lakee", None),
        ("/lake", Some((1, ""))),
        ("/lake/a b", Some((1, "a b"))),
        ("/lake/far", Some((1, "far"))),
        ("/lake/far/away", Some((2, ""))),
        ("/lake/far/away/x/y", Some((2, "x/y"))),
    ] {
        assert_eq!(mount_and_key(&ns, at), expected.map(|(mount, key)| (mount, key.to_owned())), "{at}");
    }
    let write = ns.create("/lake/far/away/f").unwrap().write;
    assert_eq!((write.mount, &write.key[..]), (2, &b"f"[..]));
}

#[test]
fn a_mount_needs_a_free_place() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/full/x").unwrap();
    ns.mkdir("/lake/empty").unwrap();
    ns.file("/lake/f", 1);
    refused(ns.mount("/"), ErrorKind::InvalidArgument);
    refused(ns.mount("/lake"), ErrorKind::AlreadyExists);
    refused(ns.mount("/lake/full"), ErrorKind::NotEmpty);
    refused(ns.mount("/lake/f"), ErrorKind::AlreadyExists);
    refused(ns.mount("/lake/f/x"), ErrorKind::NotADirectory);
    ns.mount("/lake/empty").unwrap();
    assert!(ns.stat("/lake/empty").unwrap().is_mount_point());
}

#[test]
fn mount_points_and_what_is_above_them_stay_where_they_are() {
    let mut ns = Namespace::with_lake();
    ns.mount("/lake/a/m").unwrap();
    ns.mkdir("/lake/d").unwrap();
    ns.file("/lake/f", 1);
    for at in ["/lake", "/lake/a", "/lake/a/m"] {
        refused_because(ns.rename(at, "/lake2"), Reason::MountPoint);
        refused_because(ns.delete_all(at), Reason::MountPoint);
    }
    refused_because(ns.rename("/lake/d", "/lake/a/m"), Reason::MountPoint);
    refused_because(ns.rename("/lake/f", "/lake/a/m/f"), Reason::CrossMount);
    refused_because(ns.rename("/lake/f", "/f"), Reason::CrossMount);
    // What a store says does not take a mount away.
    let gone = vec![ns.seen_gone("/lake", "a")];
    assert_eq!(ns.sync("/lake", gone, false).unwrap().skipped, 1);
    let gone = vec![ns.seen_gone("/lake/a", "m")];
    assert_eq!(ns.sync("/lake/a", gone, false).unwrap().skipped, 1);
}

#[test]
fn unmounting_forgets_what_lies_below_and_touches_no_store() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/d").unwrap();
    ns.file("/lake/d/f", 1);
    ns.mount("/lake/m").unwrap();
    refused_because(ns.run(RemoveMount { mount: 1, discard: true }), Reason::MountPoint);
    ns.run(RemoveMount { mount: 2, discard: false }).unwrap();
    assert!(!ns.stat("/lake").unwrap().is_loaded(), "the store around it may have something there");
    ns.create("/lake/w").unwrap();
    refused_because(ns.run(RemoveMount { mount: 1, discard: false }), Reason::BeingWritten);
    ns.run(RemoveMount { mount: 1, discard: true }).unwrap();
    refused(ns.run(RemoveMount { mount: 1, discard: false }), ErrorKind::NotFound);
    assert_eq!(ns.names("/"), [""; 0]);
    assert!(query::trash(&*ns.snapshot(), 0, 9).unwrap().iter().all(|entry| !entry.purge_store));
    ns.purge(2);
    let summary = query::summary(&*ns.snapshot()).unwrap();
    assert_eq!((summary.inodes, summary.writes), (1, 0));
    assert_eq!(ns.mount("/lake").unwrap().id, 3, "numbers are not reused");
}

#[test]
fn a_listing_of_what_lay_below_does_not_reach_a_new_mount() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/m").unwrap();
    let old = ns.sync_command("/lake/m", vec![SyncEntry { name: bytes("f"), ..Default::default() }], true);
    ns.mount("/lake/m").unwrap();
    refused_because(ns.run(old), Reason::Stale);
}

#[test]
fn an_update_is_refused_when_somebody_else_was_faster() {
    let mut ns = Namespace::with_lake();
    let mount = query::mounts(&*ns.snapshot()).unwrap().remove(0);
    let spec = MountSpec { read_only: true, ..mount.spec.clone() };
    let update = UpdateMount { mount: 1, spec: spec.clone(), revision: 1 };
    ns.run(update.clone()).unwrap();
    refused(ns.run(update), ErrorKind::Conflict);
    refused_because(ns.mkdir("/lake/d"), Reason::ReadOnly);
    let other = MountSpec { uri: "s3://other".to_owned(), ..spec };
    refused(ns.run(UpdateMount { mount: 1, spec: other, revision: 2 }), ErrorKind::InvalidArgument);
}

fn begin(ns: &mut Namespace, from: &str, to: &str) -> Result<RenameIntent, Refusal> {
    let begin = BeginRename { from: bytes(from), to: bytes(to), no_replace: false, client: 7, sequence: 3 };
    match ns.run(begin)? {
        Payload::Intent(intent) => Ok(intent),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rename_in_steps_blocks_both_ends_until_it_is_through() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/a").unwrap();
    ns.file("/lake/a/f", 1);
    let intent = begin(&mut ns, "/lake/a", "/lake/b").unwrap();
    assert_eq!((intent.client, intent.sequence, intent.directory), (7, 3, true));
    refused_because(ns.create("/lake/a/g"), Reason::Blocked);
    refused_because(ns.mkdir("/lake/b"), Reason::Blocked);
    refused_because(ns.delete_all("/lake/a"), Reason::Blocked);
    refused_because(begin(&mut ns, "/lake/a", "/lake/c"), Reason::Blocked);
    let copies = SyncApply { directory: bytes("/lake/b"), ..ns.sync_command("/lake", vec![], true) };
    refused_because(ns.run(copies), Reason::Blocked);
    let commit = CommitRename { intent: intent.id, ..Default::default() };
    ns.run_as(7, 3, 0, commit.clone()).unwrap();
    assert_eq!(ns.names("/lake/b"), ["f"]);
    refused(ns.run(commit), ErrorKind::Conflict);
    assert_eq!(query::rename_intents(&*ns.snapshot()).unwrap()[0].phase(), IntentPhase::Cleaning);
    refused_because(ns.mkdir("/lake/a"), Reason::Blocked);
    ns.create("/lake/b/g").unwrap();
    let stale = ns.sync_command("/lake/a", vec![], true);
    ns.run(EndRename { intent: intent.id }).unwrap();
    refused_because(ns.run(stale), Reason::Stale);
    ns.run(EndRename { intent: intent.id }).unwrap();
    ns.mkdir("/lake/a").unwrap();
    assert!(query::blockers(&*ns.snapshot(), MountId(1), b"b").unwrap().is_none());
}

#[test]
fn a_rename_in_steps_can_be_undone_before_it_is_committed() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    let intent = begin(&mut ns, "/lake/f", "/lake/g").unwrap();
    ns.run(EndRename { intent: intent.id }).unwrap();
    refused(ns.run(CommitRename { intent: intent.id, ..Default::default() }), ErrorKind::Conflict);
    assert_eq!(ns.names("/lake"), ["f"]);
    ns.mkdir("/lake/g").unwrap();
}

#[test]
fn a_rename_that_is_given_up_can_only_be_undone() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/a").unwrap();
    ns.file("/lake/a/f", 1);
    let intent = begin(&mut ns, "/lake/a", "/lake/b").unwrap();
    let copied = |key: &str, target_tag: &str| Copied {
        key: bytes(key),
        source_tag: "t1".to_owned(),
        target_tag: target_tag.to_owned(),
    };
    let record = |copies: Vec<Copied>| RecordCopies { intent: intent.id, copies };
    ns.run(record(vec![copied("d/", ""), copied("d/f", ""), copied("f", "")])).unwrap();
    ns.run(record(vec![copied("d/f", "t2")])).unwrap();
    for _ in 0..2 {
        ns.run(UndoRename { intent: intent.id }).unwrap();
    }
    refused(ns.run(CommitRename { intent: intent.id, ..Default::default() }), ErrorKind::Conflict);
    refused(ns.run(record(vec![copied("g", "")])), ErrorKind::Conflict);
    refused_because(ns.mkdir("/lake/b"), Reason::Blocked);
    let snapshot = ns.snapshot();
    assert_eq!(query::rename_intents(&*snapshot).unwrap()[0].phase(), IntentPhase::Undoing);
    let last = query::last_copied(&*snapshot, intent.id, 2).unwrap();
    assert_eq!(last, [copied("f", ""), copied("d/f", "t2")], "the last first, what is in a directory before its mark");
    assert_eq!(query::next_copied_intent(&*snapshot, 0).unwrap(), Some(intent.id));
    assert_eq!(query::next_copied_intent(&*snapshot, intent.id + 1).unwrap(), None);
    ns.run(EndRename { intent: intent.id }).unwrap();
    let keys = ["d/", "d/f", "f"].map(bytes).to_vec();
    ns.run(ForgetCopies { intent: intent.id, keys }).unwrap();
    assert_eq!(query::next_copied_intent(&*ns.snapshot(), 0).unwrap(), None);
    ns.mkdir("/lake/b").unwrap();
}

#[test]
fn a_copied_file_gets_the_mark_of_its_copy_and_keeps_its_version() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    let before = ns.stat("/lake/f").unwrap();
    let root = ns.stat("/lake").unwrap().id;
    let file = |before: &str, tag: &str| Retagged {
        parent: root,
        name: bytes("f"),
        before: before.to_owned(),
        tag: tag.to_owned(),
    };
    ns.run(RetagFiles { files: vec![file("another", "x"), file(&before.tag, "copy")] }).unwrap();
    let after = ns.stat("/lake/f").unwrap();
    assert_eq!((after.tag.as_str(), after.version), ("copy", before.version));
}

#[test]
fn deletes_of_a_mount_are_found_by_its_keys() {
    let mut ns = Namespace::with_lake();
    for name in ["a", "b", "c"] {
        ns.mkdir(&format!("/lake/{name}")).unwrap();
        ns.delete_all(&format!("/lake/{name}")).unwrap();
    }
    let snapshot = ns.snapshot();
    let first = query::trash_of_mount(&*snapshot, MountId(1), None, 2).unwrap();
    assert_eq!(first.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    let rest = query::trash_of_mount(&*snapshot, MountId(1), Some(b"b"), 2).unwrap();
    assert_eq!(rest.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(), [b"c"]);
    assert_eq!(query::trash_of_mount(&*snapshot, MountId(2), None, 2).unwrap(), []);
}

#[test]
fn what_was_deleted_below_a_directory_before_it_is_found() {
    let mut ns = Namespace::with_lake();
    for directory in ["/lake/d", "/lake/d/e", "/lake/d-not", "/lake/d-not/e"] {
        ns.mkdir(directory).unwrap();
    }
    ns.delete_all("/lake/d/e").unwrap();
    ns.delete_all("/lake/d-not").unwrap();
    ns.delete_all("/lake/d").unwrap();
    let below = |mount, key: &str| query::trash_below(&*ns.snapshot(), MountId(mount), key.as_bytes()).unwrap();
    assert!(below(1, "d"));
    assert!(!below(1, "d/e") && !below(1, "d-not") && !below(1, "c") && !below(2, "d"));
}

#[test]
fn a_rename_in_steps_is_checked_when_it_begins_and_when_it_is_committed() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    ns.mkdir("/lake/d").unwrap();
    ns.create("/lake/d/w").unwrap();
    refused(begin(&mut ns, "/lake/none", "/lake/g"), ErrorKind::NotFound);
    refused(begin(&mut ns, "/lake/f", "/lake/f"), ErrorKind::InvalidArgument);
    refused_because(begin(&mut ns, "/lake/d", "/lake/g"), Reason::BeingWritten);
    refused_because(begin(&mut ns, "/lake/f", "/f"), Reason::CrossMount);
    let intent = begin(&mut ns, "/lake/f", "/lake/x").unwrap();
    let mount = query::mounts(&*ns.snapshot()).unwrap().remove(0);
    let spec = MountSpec { read_only: true, ..mount.spec };
    ns.run(UpdateMount { mount: 1, spec, revision: 1 }).unwrap();
    refused_because(ns.run(CommitRename { intent: intent.id, ..Default::default() }), Reason::ReadOnly);
    refused_because(ns.create("/lake/x"), Reason::ReadOnly);
    // Still there, still blocking both ends, and still to be undone.
    for key in [b"f", b"x"] {
        assert!(query::blockers(&*ns.snapshot(), MountId(1), key).unwrap().is_some());
    }
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().rename_intents, 1);
    refused_because(ns.run(RemoveMount { mount: 1, discard: false }), Reason::BeingWritten);
    ns.run(RemoveMount { mount: 1, discard: true }).unwrap();
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().rename_intents, 0);
}
