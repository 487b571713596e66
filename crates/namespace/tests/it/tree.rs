//! Directories, renames by the rules of `rename(2)`, deletes and the trash.
use crate::fixture::{Namespace, bytes, creation, refused, refused_because, xattr};
use forebay_base::{ErrorKind, InodeId, MountId};
use forebay_namespace::command::*;
use forebay_namespace::query;
use forebay_namespace::reply::{Payload, Reason};

#[test]
fn mkdir_makes_one_and_mkdir_p_all() {
    let mut ns = Namespace::new();
    refused(ns.mkdir("/a/b"), ErrorKind::NotFound);
    let made = ns.mkdir_p("/a/b/c").unwrap();
    assert_eq!(ns.stat("/a/b/c"), Some(made.clone()));
    assert_eq!(ns.mkdir_p("/a/b/c").unwrap(), made);
    refused(ns.mkdir("/a/b/c"), ErrorKind::AlreadyExists);
    refused(ns.mkdir("/"), ErrorKind::AlreadyExists);
    assert!(ns.mkdir_p("/").is_ok());
    ns.file("/a/f", 1);
    refused(ns.mkdir_p("/a/f"), ErrorKind::AlreadyExists);
    refused(ns.mkdir_p("/a/f/g"), ErrorKind::NotADirectory);
    refused(ns.mkdir("/a/f/g"), ErrorKind::NotADirectory);
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().inodes, 5);
}

#[test]
fn bad_paths_and_attributes_are_refused() {
    let mut ns = Namespace::new();
    for at in ["", "a", "/a/..", "/a\0b"] {
        refused(ns.mkdir(at), ErrorKind::InvalidArgument);
    }
    let long = MakeDirectory { path: bytes("/a"), owner: "x".repeat(256), ..Default::default() };
    refused(ns.run(long), ErrorKind::InvalidArgument);
    let mode = MakeDirectory { path: bytes("/a"), mode: 0o10000, ..Default::default() };
    refused(ns.run(mode), ErrorKind::InvalidArgument);
    assert_eq!(ns.names("/"), [""; 0]);
}

#[test]
fn names_are_any_bytes_and_lists_are_sorted_and_paged() {
    let mut ns = Namespace::new();
    let names: [&[u8]; 5] = [b"\x01", b"a", b"a ", b"%2F", b"\xff\xfe"];
    for name in names {
        let path = [b"/", name].concat().into();
        ns.run(MakeDirectory { path, ..Default::default() }).unwrap();
    }
    let list = |after: &[u8], limit| {
        let page = query::list(&*ns.snapshot(), InodeId::ROOT, after, limit).unwrap();
        page.iter().map(|(name, _)| name.as_bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(list(b"", 10), [&b"\x01"[..], b"%2F", b"a", b"a ", b"\xff\xfe"]);
    assert_eq!(list(b"%2F", 2), [&b"a"[..], b"a "]);
    assert_eq!(list(b"b", 2), [&b"\xff\xfe"[..]]);
    assert_eq!(list(b"\xff\xff", 2), [b""; 0]);
}

#[test]
fn a_changed_directory_gets_new_times() {
    let mut ns = Namespace::new();
    ns.mkdir("/d").unwrap();
    let before = ns.stat("/d").unwrap();
    ns.file("/d/f", 1);
    let after = ns.stat("/d").unwrap();
    assert!(after.modified_ms > before.modified_ms && after.changed_ms() > before.changed_ms());
    ns.delete("/d/f").unwrap();
    assert!(ns.stat("/d").unwrap().modified_ms > after.modified_ms);
}

#[test]
fn rename_moves_files_and_whole_directories() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/a/b").unwrap();
    ns.mkdir("/lake/x").unwrap();
    let file = ns.file("/lake/a/b/f", 5);
    ns.rename("/lake/a", "/lake/x/y").unwrap();
    assert_eq!(ns.stat("/lake/a"), None);
    assert_eq!(ns.stat("/lake/x/y/b/f"), Some(file.clone()));
    ns.rename("/lake/x/y/b/f", "/lake/g").unwrap();
    let moved = ns.stat("/lake/g").unwrap();
    assert_eq!((moved.id, moved.version, moved.length), (file.id, 1, 5));
    assert_eq!(ns.names("/lake/x/y/b"), [""; 0]);
    let b = ns.stat("/lake/x/y/b").unwrap();
    let path = query::path_of(&*ns.snapshot(), b.inode_id(), b"z").unwrap().unwrap();
    assert_eq!(path.to_string(), "/lake/x/y/b/z");
}

#[test]
fn rename_replaces_by_the_rules_of_posix() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/empty").unwrap();
    ns.mkdir_p("/lake/full/x").unwrap();
    ns.mkdir_p("/lake/dir/below").unwrap();
    let file = ns.file("/lake/file", 1);
    let other = ns.file("/lake/other", 2);
    refused(ns.rename("/lake/none", "/lake/x"), ErrorKind::NotFound);
    refused(ns.rename("/lake/file", "/lake/none/x"), ErrorKind::NotFound);
    refused(ns.rename("/lake/file", "/lake/other/x"), ErrorKind::NotADirectory);
    refused(ns.rename("/lake/file", "/lake/empty"), ErrorKind::IsADirectory);
    refused(ns.rename("/lake/dir", "/lake/file"), ErrorKind::NotADirectory);
    refused(ns.rename("/lake/dir", "/lake/full"), ErrorKind::NotEmpty);
    refused(ns.rename("/lake/dir/below", "/lake/dir"), ErrorKind::NotEmpty);
    refused_because(ns.rename("/lake/dir", "/lake/dir/below"), Reason::IntoItself);
    refused_because(ns.rename("/lake/dir", "/lake/dir/below/new"), Reason::IntoItself);
    refused(ns.rename("/", "/lake/x"), ErrorKind::InvalidArgument);
    refused(ns.rename("/lake/dir", "/"), ErrorKind::InvalidArgument);
    let strict = Rename { from: bytes("/lake/file"), to: bytes("/lake/other"), no_replace: true, ..Default::default() };
    refused(ns.run(strict), ErrorKind::AlreadyExists);
    let inodes = query::summary(&*ns.snapshot()).unwrap().inodes;
    match ns.rename("/lake/file", "/lake/other").unwrap() {
        Payload::Renamed(renamed) => assert_eq!((renamed.inode.id, renamed.replaced_inode), (file.id, other.id)),
        other => panic!("{other:?}"),
    }
    ns.rename("/lake/dir", "/lake/empty").unwrap();
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().inodes, inodes - 2);
    assert_eq!(ns.names("/lake"), ["empty", "full", "other"]);
    assert_eq!(ns.names("/lake/empty"), ["below"]);
    // Onto itself: nothing happens.
    let before = ns.stat("/lake/other");
    ns.rename("/lake/other", "/lake/other").unwrap();
    assert_eq!(ns.stat("/lake/other"), before);
}

#[test]
fn only_the_directory_that_was_looked_at_counts_as_loaded() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/a/b/c").unwrap();
    let loaded = |at: &str| ns.stat(at).unwrap().is_loaded();
    assert_eq!((loaded("/lake/a"), loaded("/lake/a/b"), loaded("/lake/a/b/c")), (false, false, true));
}

#[test]
fn rename_onto_a_directory_that_was_never_loaded_is_refused() {
    let mut ns = Namespace::with_lake();
    let unknown = ns.seen_directory("/lake", "unknown");
    ns.sync("/lake", vec![unknown], false).unwrap();
    ns.mkdir("/lake/d").unwrap();
    refused(ns.rename("/lake/d", "/lake/unknown"), ErrorKind::Conflict);
    refused(ns.delete("/lake/unknown"), ErrorKind::Conflict);
    ns.sync("/lake/unknown", vec![], true).unwrap();
    ns.rename("/lake/d", "/lake/unknown").unwrap();
}

#[test]
fn rename_takes_over_what_the_store_says_of_the_copy() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 5);
    let rename = Rename {
        from: bytes("/lake/f"),
        to: bytes("/lake/g"),
        tag: "copy".to_owned(),
        modified_ms: 77,
        no_replace: true,
    };
    ns.run(rename).unwrap();
    let copy = ns.stat("/lake/g").unwrap();
    assert_eq!((copy.tag.as_str(), copy.modified_ms, copy.version), ("copy", 77, 1));
}

#[test]
fn what_is_being_written_cannot_be_renamed_but_replaced() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/d").unwrap();
    ns.file("/lake/f", 1);
    let write = ns.create("/lake/d/w").unwrap().write.id;
    refused_because(ns.rename("/lake/d", "/lake/e"), Reason::BeingWritten);
    refused_because(ns.rename("/lake/d/w", "/lake/w"), Reason::BeingWritten);
    ns.rename("/lake/f", "/lake/d/w").unwrap();
    refused(ns.complete(write, 9), ErrorKind::NotFound);
    assert_eq!(ns.stat("/lake/d/w").unwrap().length, 1);
    ns.rename("/lake/d", "/lake/e").unwrap();
}

#[test]
fn a_deleted_subtree_is_gone_at_once_and_purged_in_pieces_children_first() {
    let mut ns = Namespace::with_lake();
    for at in ["/lake/d/a/1", "/lake/d/a/2", "/lake/d/b/1", "/lake/d/c"] {
        let parents = CreateFile { path: bytes(at), parents: true, ..creation() };
        let write = ns.create_with(parents).unwrap().write.id;
        ns.complete(write, 1).unwrap();
    }
    refused(ns.delete("/lake/d"), ErrorKind::NotEmpty);
    refused(ns.delete("/lake/none"), ErrorKind::NotFound);
    refused(ns.delete("/"), ErrorKind::InvalidArgument);
    ns.delete_all("/lake/d").unwrap();
    assert_eq!(ns.names("/lake"), [""; 0]);
    assert_eq!(query::summary(&*ns.snapshot()).unwrap().inodes, 2 + 7);
    let keys = ns.purge(2);
    assert_eq!(keys, ["d/a/1", "d/a/2", "d/a", "d/b/1", "d/b", "d/c", "d"]);
    let summary = query::summary(&*ns.snapshot()).unwrap();
    assert_eq!((summary.inodes, summary.trash_entries), (2, 0));
}

#[test]
fn purging_takes_nothing_but_trash() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/d/e").unwrap();
    let file = ns.file("/lake/f", 1);
    let lake = ns.stat("/lake").unwrap().id;
    ns.delete_all("/lake/d").unwrap();
    let trash = query::trash(&*ns.snapshot(), 0, 1).unwrap()[0].id;
    let name = |parent: u64, name: &[u8]| TrashedName { parent, name: name.to_vec().into() };
    let top = name(forebay_namespace::TRASH.0, &trash.to_be_bytes());
    // A file of the tree, the entry before its child, and what does not exist.
    let entries = vec![name(lake, b"f"), top, name(99, b"x")];
    match ns.run(PurgeTrash { trash, entries }).unwrap() {
        Payload::Purged(purged) => assert_eq!((purged.removed, purged.done), (0, false)),
        other => panic!("{other:?}"),
    }
    assert_eq!(ns.stat("/lake/f"), Some(file));
    assert_eq!(ns.purge(1), ["d/e", "d"]);
}

#[test]
fn nothing_is_made_where_objects_are_still_being_deleted() {
    let mut ns = Namespace::with_lake();
    ns.mkdir_p("/lake/d").unwrap();
    ns.file("/lake/d/f", 1);
    ns.file("/lake/g", 1);
    ns.delete_all("/lake/d").unwrap();
    let key = b"d/f";
    assert!(query::blockers(&*ns.snapshot(), MountId(1), key).unwrap().is_some());
    assert!(query::blockers(&*ns.snapshot(), MountId(1), b"dd").unwrap().is_none());
    refused_because(ns.mkdir("/lake/d"), Reason::Blocked);
    refused(ns.mkdir_p("/lake/d/x"), ErrorKind::Unavailable);
    refused_because(ns.create("/lake/d"), Reason::Blocked);
    refused_because(ns.rename("/lake/g", "/lake/d"), Reason::Blocked);
    ns.mkdir("/lake/dd").unwrap();
    ns.purge(100);
    ns.mkdir("/lake/d").unwrap();
}

#[test]
fn a_directory_waits_with_its_rename_until_what_was_deleted_below_is_purged() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/d").unwrap();
    ns.file("/lake/d/f", 1);
    ns.delete("/lake/d/f").unwrap();
    refused_because(ns.rename("/lake/d", "/lake/e"), Reason::Blocked);
    ns.purge(10);
    ns.rename("/lake/d", "/lake/e").unwrap();
}

#[test]
fn forgetting_metadata_leaves_the_store_alone() {
    let mut ns = Namespace::with_lake();
    ns.mkdir("/lake/d").unwrap();
    ns.file("/lake/d/f", 1);
    ns.file("/lake/f", 1);
    for at in ["/lake/d", "/lake/f"] {
        ns.run(Delete { path: bytes(at), recursive: true, namespace_only: true, ..Delete::default() }).unwrap();
    }
    assert!(query::blockers(&*ns.snapshot(), MountId(1), b"d").unwrap().is_none());
    assert!(!ns.stat("/lake").unwrap().is_loaded());
    assert!(query::trash(&*ns.snapshot(), 0, 9).unwrap().iter().all(|entry| !entry.purge_store));
    ns.mkdir("/lake/d").unwrap();
    ns.purge(10);
    assert_eq!(ns.names("/lake"), ["d"]);
}

#[test]
fn attributes_change_one_by_one_and_are_bounded() {
    let mut ns = Namespace::with_lake();
    let file = ns.file("/lake/f", 3);
    let set = |changes| SetAttributes { path: bytes("/lake/f"), targets: vec![], changes };
    let changes = AttributeChanges {
        owner: Some("eve".to_owned()),
        mode: Some(0o600),
        modified_ms: Some(5),
        set_xattrs: vec![xattr("user.b", "2"), xattr("user.a", "1")],
        ..Default::default()
    };
    let changed = crate::fixture::inode(ns.run(set(changes)).unwrap()).unwrap();
    assert_eq!((changed.owner.as_str(), changed.mode(), changed.modified_ms), ("eve", 0o600, 5));
    assert_eq!((changed.accessed_ms(), changed.version), (file.accessed_ms(), file.version));
    assert_eq!(changed.xattrs, [xattr("user.a", "1"), xattr("user.b", "2")]);
    let changes = AttributeChanges {
        remove_xattrs: vec![bytes("user.a"), bytes("none")],
        set_xattrs: vec![xattr("user.b", "3")],
        ..Default::default()
    };
    assert_eq!(crate::fixture::inode(ns.run(set(changes)).unwrap()).unwrap().xattrs, [xattr("user.b", "3")]);
    for bad in [xattr("", "x"), xattr("user.big", &"x".repeat(16 << 10))] {
        let changes = AttributeChanges { set_xattrs: vec![bad], ..Default::default() };
        refused(ns.run(set(changes)), ErrorKind::InvalidArgument);
    }
    assert_eq!(ns.stat("/lake/f").unwrap().xattrs.len(), 1);
}

#[test]
fn lists_of_extended_attributes_are_bounded_and_merged() {
    let mut ns = Namespace::with_lake();
    ns.file("/lake/f", 3);
    let set = |changes| SetAttributes { path: bytes("/lake/f"), targets: vec![], changes };
    let many: Vec<_> = (0..500_000u32).rev().map(|n| xattr(&format!("user.{n}"), "")).collect();
    // Also without a target that would feel it.
    let changes = AttributeChanges { set_xattrs: many.clone(), ..Default::default() };
    refused(ns.run(SetAttributes { path: bytes(""), targets: vec![], changes }), ErrorKind::InvalidArgument);
    let remove_xattrs: Vec<_> = many.into_iter().map(|xattr| xattr.name).collect();
    refused(ns.run(set(AttributeChanges { remove_xattrs, ..Default::default() })), ErrorKind::InvalidArgument);

    let a_to_e = ["d", "b", "e", "a", "c"].map(|name| xattr(name, "old"));
    ns.run(set(AttributeChanges { set_xattrs: a_to_e.to_vec(), ..Default::default() })).unwrap();
    // The last value of a name counts, and what is both removed and set is set.
    let changes = AttributeChanges {
        set_xattrs: vec![xattr("d", "1"), xattr("aa", "new"), xattr("d", "2"), xattr("b", "new")],
        remove_xattrs: vec![bytes("e"), bytes("b"), bytes("a")],
        ..Default::default()
    };
    ns.run(set(changes)).unwrap();
    let expected = [xattr("aa", "new"), xattr("b", "new"), xattr("c", "old"), xattr("d", "2")];
    assert_eq!(ns.stat("/lake/f").unwrap().xattrs, expected);
}

#[test]
fn attributes_of_a_batch_change_only_what_is_still_there() {
    let mut ns = Namespace::with_lake();
    let f = ns.file("/lake/f", 1);
    let g = ns.file("/lake/g", 1);
    let lake = ns.stat("/lake").unwrap().id;
    ns.rename("/lake/g", "/lake/h").unwrap();
    let target = |name: &str, inode| Target { parent: lake, name: bytes(name), inode };
    let changes = AttributeChanges { group: Some("new".to_owned()), ..Default::default() };
    let targets = vec![target("f", f.id), target("g", g.id), target("h", f.id)];
    ns.run(SetAttributes { path: bytes(""), targets, changes: changes.clone() }).unwrap();
    assert_eq!(ns.stat("/lake/f").unwrap().group, "new");
    assert_eq!(ns.stat("/lake/h").unwrap().group, "");
    let targets = vec![target("f", f.id); 1001];
    refused(ns.run(SetAttributes { path: bytes(""), targets, changes }), ErrorKind::InvalidArgument);
}

#[test]
fn a_walk_sums_up_wide_and_deep_directories() {
    let mut ns = Namespace::with_lake();
    let mut deep = "/lake".to_owned();
    for _ in 0..40 {
        deep.push_str("/d");
    }
    ns.mkdir_p(&deep).unwrap();
    for n in 0..600 {
        ns.file(&format!("/lake/{n}"), n);
    }
    let lake = ns.stat("/lake").unwrap();
    let summary = query::content_summary(&*ns.snapshot(), &lake).unwrap();
    assert_eq!((summary.files, summary.directories, summary.length), (600, 41, (0..600).sum()));
    let walked: Vec<_> =
        query::Walk::post_order(&*ns.snapshot(), lake.inode_id()).map(|it| it.unwrap().step.name).collect();
    assert_eq!((walked.len(), &walked[640 - 1][..]), (640, &b"d"[..]));
}

#[test]
fn a_delete_may_be_of_one_version_alone() {
    let mut ns = Namespace::with_lake();
    let found = ns.file("/lake/f", 1);
    let expecting = |id, version| Delete {
        path: bytes("/lake/f"),
        expected_inode: id,
        expected_version: version,
        ..Delete::default()
    };
    refused(ns.run(expecting(found.id, found.version + 1)), ErrorKind::Conflict);
    refused(ns.run(expecting(found.id + 1, found.version)), ErrorKind::Conflict);
    let write = ns.overwrite("/lake/f").unwrap().write.id;
    refused_because(ns.run(expecting(found.id, found.version)), Reason::BeingWritten);
    let newer = ns.complete(write, 2).unwrap();
    refused(ns.run(expecting(found.id, found.version)), ErrorKind::Conflict);
    ns.run(expecting(newer.id, newer.version)).unwrap();
    let trash = query::trash(&*ns.snapshot(), 0, 9).unwrap();
    assert!(trash.iter().all(|entry| entry.only_version), "another version in the store stays");
    ns.file("/lake/g", 1);
    ns.delete("/lake/g").unwrap();
    assert!(query::trash(&*ns.snapshot(), 0, 9).unwrap().iter().any(|entry| !entry.only_version));
}
