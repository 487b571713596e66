//! Creating, completing and abandoning files.
use crate::fixture::{LEASE_MS, Namespace, bytes, creation, refused, refused_because};
use forebay_base::{ErrorKind, MountId};
use forebay_namespace::command::*;
use forebay_namespace::query;
use forebay_namespace::record::MountSpec;
use forebay_namespace::reply::{Payload, Reason};

#[test]
fn a_new_file_is_visible_and_empty_until_it_is_completed() {
    let mut ns = Namespace::with_lake();
    let created = ns.create("/lake/f").unwrap();
    assert_eq!((created.write.version, created.write.key.as_ref()), (1, &b"f"[..]));
    let file = ns.stat("/lake/f").unwrap();
    assert_eq!((file.length, file.version, file.is_complete()), (0, 0, false));
    let file = ns.complete(created.write.id, 42).unwrap();
    assert_eq!((file.length, file.version, file.is_complete()), (42, 1, true));
    assert_eq!(ns.stat("/lake/f"), Some(file));
    refused(ns.complete(created.write.id, 42), ErrorKind::NotFound);
}

#[test]
fn an_overwritten_file_keeps_its_content_until_the_new_one_is_complete() {
    let mut ns = Namespace::with_lake();
    let old = ns.file("/lake/f", 10);
    let created = ns.overwrite("/lake/f").unwrap();
    assert!(created.write.replaces);
    assert_eq!((created.write.base_tag.as_str(), created.write.base_version), (old.tag.as_str(), 1));
    let during = ns.stat("/lake/f").unwrap();
    assert_eq!((during.length, during.version, during.is_complete()), (10, 1, true));
    let new = ns.complete(created.write.id, 20).unwrap();
    assert_eq!((new.id, new.length, new.version), (old.id, 20, 2));
}

#[test]
fn no_two_writes_get_the_same_version() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 10);
    let first = ns.overwrite("/lake/f").unwrap();
    ns.run(AbandonWrite { write: first.write.id }).unwrap();
    let second = ns.overwrite("/lake/f").unwrap();
    let third = ns.overwrite("/lake/f").unwrap();
    assert_eq!([first, second, third.clone()].map(|it| it.write.version), [2, 3, 4]);
    assert_eq!(ns.complete(third.write.id, 1).unwrap().version, 4);
    assert_eq!(ns.overwrite("/lake/f").unwrap().write.version, 5);
}

#[test]
fn the_last_creator_wins() {
    let mut ns = Namespace::with_lake();
    let first = ns.create("/lake/f").unwrap();
    refused(ns.create("/lake/f"), ErrorKind::AlreadyExists);
    let second = ns.overwrite("/lake/f").unwrap();
    assert_eq!(second.abandoned.map(|write| write.id), Some(first.write.id));
    refused(ns.complete(first.write.id, 1), ErrorKind::NotFound);
    ns.complete(second.write.id, 2).unwrap();
    assert_eq!(ns.stat("/lake/f").unwrap().length, 2);
}

#[test]
fn an_abandoned_new_file_vanishes_and_an_old_one_stays() {
    let mut ns = Namespace::with_lake();
    let before = query::summary(&*ns.snapshot()).unwrap().inodes;
    let write = ns.create("/lake/new").unwrap().write.id;
    ns.run(AbandonWrite { write }).unwrap();
    assert_eq!(ns.stat("/lake/new"), None);
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().inodes, before);
    let old = ns.file("/lake/old", 7);
    let write = ns.overwrite("/lake/old").unwrap().write.id;
    ns.run(AbandonWrite { write }).unwrap();
    let after = ns.stat("/lake/old").unwrap();
    assert_eq!((after.length, after.version, after.write), (7, old.version, 0));
    // Again: nothing to do, no error.
    ns.run(AbandonWrite { write }).unwrap();
}

#[test]
fn the_first_upload_recorded_stays() {
    let mut ns = Namespace::with_lake();
    let write = ns.create("/lake/f").unwrap().write.id;
    let set = |ns: &mut Namespace, upload: &str| match ns.run(SetUpload { write, upload: upload.to_owned() }).unwrap() {
        Payload::Write(write) => write.upload,
        other => panic!("{other:?}"),
    };
    assert_eq!(set(&mut ns, "u1"), "u1");
    assert_eq!(set(&mut ns, "u2"), "u1");
}

#[test]
fn an_abandoned_write_with_an_upload_is_listed_until_it_is_forgotten() {
    let mut ns = Namespace::with_lake();
    let write = ns.create("/lake/f").unwrap().write.id;
    ns.run(SetUpload { write, upload: "u".to_owned() }).unwrap();
    ns.run(AbandonWrite { write }).unwrap();
    assert_eq!(ns.stat("/lake/f"), None);
    let left = query::abandoned_writes(&*ns.snapshot(), MountId(1), 0, 10).unwrap();
    assert_eq!(left.iter().map(|write| write.upload.as_str()).collect::<Vec<_>>(), ["u"]);
    refused(ns.run(SetUpload { write, upload: "late".to_owned() }), ErrorKind::NotFound);
    ns.run(ForgetWrites { writes: vec![write] }).unwrap();
    assert_eq!(query::write(&*ns.snapshot(), write).unwrap(), None);
}

#[test]
fn forgetting_leaves_live_writes_alone() {
    let mut ns = Namespace::with_lake();
    let write = ns.create("/lake/f").unwrap().write.id;
    ns.run(ForgetWrites { writes: vec![write, 999] }).unwrap();
    ns.complete(write, 1).unwrap();
}

#[test]
fn a_lease_ends_by_log_time_and_a_renewal_moves_its_end() {
    let mut ns = Namespace::with_lake();
    let a = ns.create("/lake/a").unwrap().write.id;
    let b = ns.create("/lake/b").unwrap().write.id;
    ns.now_ms += LEASE_MS / 2;
    let renewed = ns.run(RenewWrite { writes: vec![a, 99], lease_ms: LEASE_MS }).unwrap();
    assert!(matches!(renewed, Payload::Renewed(renewed) if renewed.gone == [99]));
    ns.now_ms += LEASE_MS / 2;
    ns.run(AdvanceTime {}).unwrap();
    let now_ms = query::summary(&*ns.snapshot()).unwrap().log_time_ms;
    let expired = query::expired_writes(&*ns.snapshot(), now_ms, 10).unwrap();
    assert_eq!(expired.iter().map(|write| write.id).collect::<Vec<_>>(), [b]);
    ns.run(ExpireWrites { writes: vec![a, b] }).unwrap();
    assert!(ns.stat("/lake/a").is_some());
    assert_eq!(ns.stat("/lake/b"), None);
}

#[test]
fn a_clock_that_goes_back_does_not_turn_log_time_back() {
    let mut ns = Namespace::with_lake();
    let before = ns.machine.log_time_ms();
    ns.now_ms = 5;
    ns.run(AdvanceTime {}).unwrap();
    assert_eq!(ns.machine.log_time_ms(), before);
    ns.now_ms = u64::MAX - 10;
    let write = ns.create("/lake/f").unwrap().write;
    assert_eq!(write.expires_ms, u64::MAX);
}

#[test]
fn the_file_of_a_write_may_be_deleted_meanwhile() {
    let mut ns = Namespace::with_lake();
    let alone = ns.create("/lake/f").unwrap().write.id;
    ns.delete("/lake/f").unwrap();
    refused(ns.complete(alone, 1), ErrorKind::NotFound);
    ns.mkdir("/lake/d").unwrap();
    let below = ns.create("/lake/d/f").unwrap().write.id;
    ns.delete_all("/lake/d").unwrap();
    refused(ns.complete(below, 1), ErrorKind::NotFound);
    ns.purge(10);
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().writes, 0);
}

#[test]
fn creating_needs_directories_on_the_way() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 1);
    ns.mkdir("/lake/d").unwrap();
    refused(ns.create("/lake/x/f"), ErrorKind::NotFound);
    refused(ns.create("/lake/f/g"), ErrorKind::NotADirectory);
    refused(
        ns.create_with(CreateFile { path: bytes("/lake/f/g/h"), parents: true, ..creation() }),
        ErrorKind::NotADirectory,
    );
    refused(ns.overwrite("/lake/d"), ErrorKind::IsADirectory);
    refused(ns.overwrite("/"), ErrorKind::IsADirectory);
    ns.create_with(CreateFile { path: bytes("/lake/x/y/f"), parents: true, ..creation() }).unwrap();
    assert!(ns.stat("/lake/x/y").unwrap().is_directory());
}

#[test]
fn sizes_come_from_the_command_then_the_mount() {
    let mut ns = Namespace::new();
    let spec = MountSpec { block_size: 8 << 20, page_size: 64 << 10, ..MountSpec::default() };
    ns.mount_with("/small", spec).unwrap();
    let file = ns.file("/small/f", 1);
    assert_eq!((file.block_size(), file.page_size()), (8 << 20, 64 << 10));
    let own = CreateFile { path: bytes("/small/g"), block_size: 1 << 20, page_size: 32 << 10, ..creation() };
    let write = ns.create_with(own).unwrap().write;
    assert_eq!((write.block_size, write.page_size), (1 << 20, 32 << 10));
    for (block_size, page_size) in [(0, 3), (0, 4096), (100_000, 0), (64 << 10, 1 << 20), (1 << 30, 128 << 20)] {
        let bad = CreateFile { path: bytes("/small/h"), block_size, page_size, ..creation() };
        refused(ns.create_with(bad), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_read_only_mount_takes_no_files() {
    let mut ns = Namespace::new();
    ns.mount_with("/ro", MountSpec { read_only: true, ..MountSpec::default() }).unwrap();
    refused_because(ns.create("/ro/f"), Reason::ReadOnly);
    refused_because(ns.mkdir("/ro/d"), Reason::ReadOnly);
    assert_eq!(query::writes_below(&*ns.snapshot(), MountId(1), b"", 10).unwrap(), []);
}

#[test]
fn writes_are_found_by_path() {
    let mut ns = Namespace::with_lake();
    for at in ["/lake/a/f", "/lake/a/g", "/lake/ab", "/lake/a.b"] {
        ns.create_with(CreateFile { path: bytes(at), parents: true, ..creation() }).unwrap();
    }
    let below = |key: &[u8]| {
        let writes = query::writes_below(&*ns.snapshot(), MountId(1), key, 10).unwrap();
        writes.iter().map(|write| String::from_utf8_lossy(&write.key).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(below(b"a"), ["a/f", "a/g"]);
    assert_eq!(below(b"ab"), ["ab"]);
    assert_eq!(below(b"a/f"), ["a/f"]);
    assert_eq!(below(b"").len(), 4);
}
