//! Single objects: stat, put, read, conditions, delete, copy, rename, directories, names.

use super::{Suite, assert_fails, collect, pattern};
use crate::{DeleteCondition, DeleteTarget, Expected, ObjectKind, PutCondition};
use bytes::Bytes;
use forebay_base::VersionTag;
use futures::future::join_all;

pub(super) async fn run(suite: &Suite) {
    stat(suite).await;
    read(suite).await;
    read_of_another_version(suite).await;
    put_conditions(suite).await;
    writers_race(suite).await;
    delete(suite).await;
    delete_of_a_version(suite).await;
    copy(suite).await;
    rename(suite).await;
    directories(suite).await;
    markers(suite).await;
    names(suite).await;
    bad_keys(suite).await;
}

async fn stat(suite: &Suite) {
    assert_eq!(suite.stat("cf-stat/none").await, None);
    assert_eq!(suite.stat("cf-stat/none/deeper").await, None);
    let put = suite.put("cf-stat/dir/file", "hello").await;
    let file = suite.stat("cf-stat/dir/file").await.expect("the file");
    assert_eq!((file.kind, file.length), (ObjectKind::File, 5));
    assert_eq!(file.tag, put.tag, "put and stat name one version alike");
    assert!(!file.tag.is_unknown());
    assert!(file.modified_ms > 1_600_000_000_000, "{}", file.modified_ms);
    for directory in ["cf-stat/dir", "cf-stat", ""] {
        let meta = suite.stat(directory).await.expect(directory);
        assert!(meta.is_directory(), "{directory}");
    }
    assert_eq!(suite.stat("cf-stat/di").await, None, "a prefix is no directory");
    assert_eq!(suite.stat("cf-stat/dir/file/x").await, None, "a file has no entries");
    suite.clear("cf-stat").await;
    if !suite.store.capabilities().real_directories {
        assert_eq!(suite.stat("cf-stat").await, None, "implied directories go with their last entry");
    }
}

async fn read(suite: &Suite) {
    let body = pattern(7, 3_000_000);
    let chunks: Vec<Bytes> = body.chunks(700_001).map(Bytes::copy_from_slice).collect();
    let key = "cf-read/file";
    let put = suite.store.put(key.as_bytes(), chunks, &PutCondition::None).await;
    let meta = put.expect("put in chunks");
    assert_eq!(meta.length, 3_000_000);
    for range in [0..3_000_000, 0..1, 2_999_999..3_000_000, 1_000_000..2_000_001, 5..5, 0..0] {
        let stream = suite.store.read(key.as_bytes(), range.clone(), &meta.expected()).await;
        let got = collect(stream.expect("read")).await.expect("stream");
        let wanted = &body[range.start as usize..range.end as usize];
        assert!(got == wanted, "range {range:?} gave {} other bytes", got.len());
    }
    for range in [0..3_000_001, 3_000_001..3_000_001] {
        let read = suite.store.read(key.as_bytes(), range, &meta.expected()).await;
        assert_fails!(read, Invalid, "a range past the end");
    }
    let empty = suite.put("cf-read/empty", "").await;
    assert_eq!(empty.length, 0);
    assert_eq!(suite.content("cf-read/empty").await, b"");
    assert_fails!(suite.try_read("cf-read/none", &meta).await, NotFound, "a missing file");
    suite.clear("cf-read").await;
}

async fn read_of_another_version(suite: &Suite) {
    let old = suite.put("cf-version/file", "the first content").await;
    let new = suite.put("cf-version/file", "the other content").await;
    assert_ne!(old.tag, new.tag, "another content has another tag");
    assert_fails!(suite.try_read("cf-version/file", &old).await, VersionChanged, "the old version");
    let shorter = Expected { tag: new.tag.clone(), length: 3 };
    let read = suite.store.read(b"cf-version/file", 0..3, &shorter).await;
    let outcome = match read {
        Ok(stream) => collect(stream).await,
        Err(error) => Err(error),
    };
    assert_fails!(outcome, VersionChanged, "another length");
    assert_eq!(suite.try_read("cf-version/file", &new).await.expect("read"), b"the other content");
    suite.clear("cf-version").await;
}

async fn put_conditions(suite: &Suite) {
    let key = b"cf-cond/file";
    let body = || vec![Bytes::from_static(b"body")];
    let none = PutCondition::IfTag(VersionTag("no-such-tag".into()));
    let put = suite.store.put(key, body(), &none).await;
    assert_fails!(put, VersionChanged, "replacing what is not there");
    assert_eq!(suite.stat("cf-cond/file").await, None);
    let first = suite.store.put(key, body(), &PutCondition::IfAbsent).await.expect("create");
    let put = suite.store.put(key, vec![Bytes::from_static(b"x")], &PutCondition::IfAbsent).await;
    assert_fails!(put, AlreadyExists, "creating what is there");
    assert_eq!(suite.content("cf-cond/file").await, b"body");
    let if_first = PutCondition::IfTag(first.tag.clone());
    let second = suite.store.put(key, vec![Bytes::from_static(b"second")], &if_first).await;
    let second = second.expect("replace");
    assert_ne!(second.tag, first.tag);
    let put = suite.store.put(key, body(), &if_first).await;
    assert_fails!(put, VersionChanged, "replacing what was replaced");
    assert_eq!(suite.content("cf-cond/file").await, b"second");
    suite.clear("cf-cond").await;
}

async fn writers_race(suite: &Suite) {
    if !suite.holds.atomic_if_absent {
        return;
    }
    suite.put("cf-race/stays", "x").await;
    for round in 0..5 {
        let key = format!("cf-race/file-{round}");
        let writes = (0..8u8).map(|writer| {
            let body = vec![Bytes::from(vec![writer; 1000])];
            suite.store.put(key.as_bytes(), body, &PutCondition::IfAbsent)
        });
        let results = join_all(writes).await;
        let winners: Vec<usize> = (0..8).filter(|writer| results[*writer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "winners of round {round}: {winners:?}");
        for loser in results.into_iter().filter(Result::is_err) {
            assert_fails!(loser, AlreadyExists, "losing a race");
        }
        assert_eq!(suite.content(&key).await, vec![winners[0] as u8; 1000]);
    }
    suite.clear("cf-race").await;
}

async fn delete(suite: &Suite) {
    suite.put("cf-delete/stays", "x").await;
    for name in ["a", "b", "c"] {
        suite.put(&format!("cf-delete/{name}"), name).await;
    }
    let targets: Vec<DeleteTarget> = ["a", "missing", "b", "none/deeper"]
        .iter()
        .map(|name| DeleteTarget::file(format!("cf-delete/{name}")))
        .collect();
    suite.delete(&targets).await;
    assert_eq!(suite.list("cf-delete", 10).await, ["c", "stays"]);
    suite.delete(&targets).await;
    suite.delete(&[]).await;
    suite.clear("cf-delete").await;
}

async fn delete_of_a_version(suite: &Suite) {
    type Condition = fn(VersionTag) -> DeleteCondition;
    suite.put("cf-delver/stays", "x").await;
    let old = suite.put("cf-delver/a", "the first content").await;
    let new = suite.put("cf-delver/a", "the other content").await;
    let conditions: [(Condition, bool); 2] =
        [(DeleteCondition::IfTag, true), (DeleteCondition::IfListed, suite.holds.deletes_if_listed)];
    for (condition, compared) in conditions {
        let doomed =
            |name: &str, tag: &VersionTag| DeleteTarget::file(format!("cf-delver/{name}")).when(condition(tag.clone()));
        if compared {
            let result = suite.store.delete(&[doomed("a", &old.tag)]).await.expect("delete").pop();
            assert_fails!(result.expect("one result"), VersionChanged, "deleting another version");
        }
        assert_eq!(suite.content("cf-delver/a").await, b"the other content");
        let (b, c) = (suite.put("cf-delver/b", "b").await, suite.put("cf-delver/c", "c").await);
        let mut targets = vec![doomed("b", &b.tag), doomed("missing", &b.tag), doomed("c", &c.tag)];
        if compared {
            targets.insert(1, doomed("a", &old.tag));
        }
        for (target, result) in targets.iter().zip(suite.store.delete(&targets).await.expect("delete")) {
            match target.key.ends_with(b"a") {
                true => assert_fails!(result, VersionChanged, "deleting another version among others"),
                false => result.unwrap_or_else(|error| panic!("delete {target:?}: {error}")),
            }
        }
        assert_eq!(suite.list("cf-delver", 10).await, ["a", "stays"]);
    }
    suite.delete(&[DeleteTarget::file("cf-delver/a").when(DeleteCondition::IfTag(new.tag))]).await;
    assert_eq!(suite.list("cf-delver", 10).await, ["stays"]);
    suite.clear("cf-delver").await;
}

async fn copy(suite: &Suite) {
    let source = suite.put("cf-copy/source", pattern(3, 100_000)).await;
    let target = suite
        .store
        .copy(b"cf-copy/source", b"cf-copy/deep/target", &source.expected(), &PutCondition::None)
        .await
        .expect("copy");
    assert_eq!(target.length, 100_000);
    assert_eq!(suite.stat("cf-copy/deep/target").await.expect("target").tag, target.tag);
    assert!(suite.content("cf-copy/deep/target").await == pattern(3, 100_000));
    suite.put("cf-copy/source", "changed").await;
    let copied = suite.store.copy(b"cf-copy/source", b"cf-copy/other", &source.expected(), &PutCondition::None).await;
    assert_fails!(copied, VersionChanged, "copying an old version");
    assert_eq!(suite.stat("cf-copy/other").await, None);
    let source = suite.stat("cf-copy/source").await.expect("source").expected();
    let copied = suite.store.copy(b"cf-copy/source", b"cf-copy/deep/target", &source, &PutCondition::IfAbsent).await;
    assert_fails!(copied, AlreadyExists, "copying over a file");
    let copied = suite.store.copy(b"cf-copy/none", b"cf-copy/other", &source, &PutCondition::None).await;
    assert_fails!(copied, NotFound, "copying nothing");
    suite.clear("cf-copy").await;
}

async fn rename(suite: &Suite) {
    suite.put("cf-rename/a/file", "content").await;
    if !suite.store.capabilities().native_rename {
        let renamed = suite.store.rename(b"cf-rename/a", b"cf-rename/b").await;
        assert_fails!(renamed, Unsupported, "renaming without the means");
    } else {
        suite.store.rename(b"cf-rename/a", b"cf-rename/b").await.expect("a directory");
        assert_eq!(suite.content("cf-rename/b/file").await, b"content");
        assert_eq!(suite.stat("cf-rename/a").await, None);
        suite.put("cf-rename/over", "old").await;
        suite.store.rename(b"cf-rename/b/file", b"cf-rename/over").await.expect("a file");
        assert_eq!(suite.content("cf-rename/over").await, b"content");
        let renamed = suite.store.rename(b"cf-rename/none", b"cf-rename/x").await;
        assert_fails!(renamed, NotFound, "renaming nothing");
    }
    suite.clear("cf-rename").await;
}

async fn directories(suite: &Suite) {
    let made = suite.holds.made_directories;
    suite.store.make_directory(b"cf-dir/empty").await.expect("make");
    suite.store.make_directory(b"cf-dir/empty").await.expect("make again");
    if made {
        assert!(suite.stat("cf-dir/empty").await.expect("the directory").is_directory());
        assert_eq!(suite.list("cf-dir", 10).await, ["empty/"]);
        assert_eq!(suite.list("cf-dir/empty", 10).await, [] as [&str; 0]);
        suite.put("cf-dir/empty/file", "x").await;
        suite.delete_file("cf-dir/empty/file").await;
        assert!(suite.stat("cf-dir/empty").await.expect("it stays").is_directory());
    }
    suite.delete(&[DeleteTarget::directory("cf-dir/empty")]).await;
    assert_eq!(suite.stat("cf-dir/empty").await, None);
    suite.put("cf-dir/full/file", "x").await;
    let results = suite.store.delete(&[DeleteTarget::directory("cf-dir/full")]).await;
    let result = results.expect("delete").pop().expect("one result");
    // In an object store it is the marker alone that goes, or, at a gateway over a file system, stays.
    if suite.store.capabilities().real_directories || result.is_err() {
        assert_fails!(result, NotEmpty, "deleting a directory with entries");
    }
    assert_eq!(suite.content("cf-dir/full/file").await, b"x");
    suite.clear("cf-dir").await;
}

/// The object that marks a directory, apart from the directory that it marks.
async fn markers(suite: &Suite) {
    let store = &suite.store;
    if store.capabilities().real_directories || !suite.holds.made_directories {
        return;
    }
    store.make_directory(b"cf-mark/from").await.expect("make");
    suite.put("cf-mark/from/file", "x").await;
    assert_eq!(store.stat_object(b"cf-mark/from", ObjectKind::File).await.expect("stat"), None);
    assert_eq!(store.stat_object(b"cf-mark/to", ObjectKind::Directory).await.expect("stat"), None);
    let marker = store.stat_object(b"cf-mark/from", ObjectKind::Directory).await.expect("stat").expect("the marker");
    assert_eq!(marker.length, 0);
    let page = suite.list_from("cf-mark/from", None, 10).await;
    assert_eq!(page.marker.map(|marker| marker.tag), Some(marker.tag.clone()), "the first page names it");
    let (expected, absent) = (marker.expected(), PutCondition::IfAbsent);
    store.copy_marker(b"cf-mark/from", b"cf-mark/to", &expected, &absent).await.expect("copy");
    assert!(suite.stat("cf-mark/to").await.expect("the copy").is_directory());
    let copied = store.copy_marker(b"cf-mark/from", b"cf-mark/to", &expected, &absent).await;
    assert_fails!(copied, AlreadyExists, "copying over a marker");
    let wrong = DeleteCondition::IfTag(VersionTag("no-such-tag".into()));
    let result = store.delete(&[DeleteTarget::directory("cf-mark/to").when(wrong)]).await.expect("delete").pop();
    assert_fails!(result.expect("one result"), VersionChanged, "deleting another marker");
    assert!(suite.stat("cf-mark/to").await.is_some());
    // An implied directory stays once it is made, though its last entry goes.
    suite.put("cf-mark/implied/file", "x").await;
    store.make_directory(b"cf-mark/implied").await.expect("make what is implied");
    suite.delete_file("cf-mark/implied/file").await;
    assert!(suite.stat("cf-mark/implied").await.expect("it stays").is_directory());
    suite.clear("cf-mark").await;
}

async fn names(suite: &Suite) {
    let long = "n".repeat(255);
    let names = [
        "with space",
        " lead",
        "trail ",
        "per%cent",
        "%2F",
        "a+b",
        "q?x=1&y",
        "h#sh",
        "\"quotes\"",
        "'single'",
        "<tag>",
        "colon:semi;",
        "star*",
        "paren(s)",
        "[b]{c}",
        "at@",
        "comma,",
        "eq=",
        "tilde~",
        "dollar$",
        "excl!",
        "caret^",
        "pipe|",
        "back`tick",
        "é",
        "e\u{301}",
        "日本語",
        "😀",
        "...",
        ".hidden",
        long.as_str(),
    ];
    for name in names {
        let directory = format!("cf-names/{}", short(name));
        let key = format!("{directory}/{name}");
        suite.put(&key, name.as_bytes().to_vec()).await;
        assert_eq!(suite.content(&key).await, name.as_bytes(), "{name:?}");
        assert_eq!(suite.list(&directory, 10).await, [name]);
    }
    let mut listed = suite.list("cf-names", 7).await;
    let mut wanted: Vec<String> = names.iter().map(|name| format!("{}/", short(name))).collect();
    listed.sort();
    wanted.sort();
    assert_eq!(listed, wanted);
    let source = suite.stat("cf-names/😀/😀").await.expect("source").expected();
    let target = "cf-names/a+b/per%cent é";
    let copied = suite.store.copy("cf-names/😀/😀".as_bytes(), target.as_bytes(), &source, &PutCondition::None).await;
    copied.expect("copy between odd names");
    assert_eq!(suite.content(target).await, "😀".as_bytes());
    suite.clear("cf-names").await;
    assert_eq!(suite.stat("cf-names/a+b/per%cent é").await, None);
}

/// A name for a directory: some stores add a few bytes to it.
fn short(name: &str) -> &str {
    if name.len() > 200 { &name[..200] } else { name }
}

async fn bad_keys(suite: &Suite) {
    let long = "x".repeat(256);
    for key in ["/a", "a/", "a//b", "..", "a/../b", "a/./b", "a\0b", long.as_str()] {
        assert_fails!(suite.store.stat(key.as_bytes()).await, Invalid, key);
        let put = suite.store.put(key.as_bytes(), Vec::new(), &PutCondition::None).await;
        assert_fails!(put, Invalid, key);
        let results = suite.store.delete(&[DeleteTarget::file(key.to_owned())]).await;
        let result = results.expect("delete").pop().expect("one result");
        assert_fails!(result, Invalid, key);
    }
    let put = suite.store.put(b"", Vec::new(), &PutCondition::None).await;
    assert_fails!(put, IsADirectory, "writing the root");
}
