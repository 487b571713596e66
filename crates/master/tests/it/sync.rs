//! What the stores have is seen: loaded when first asked for, compared again when due, never a listing for one path.
use crate::support::{Fixture, Home, eventually, keys, memory_store};
use forebay_base::ErrorKind;
use forebay_proto::v1::*;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

struct Setup {
    home: Home,
    store: Arc<forebay_ufs::memory::MemoryUfs>,
    fixture: Fixture,
}

async fn setup(sync: &str) -> Setup {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount_with("/m", &uri, &[("sync", sync)]).await.unwrap();
    // Mounting looks whether the store has anything there.
    store.reset_counts();
    Setup { home, store, fixture }
}

#[tokio::test]
async fn one_path_asks_for_one_object() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    store.insert(b"a/b/c.txt", "hello");
    store.insert(b"a/other", "x");
    let entry = fixture.stat("/m/a/b/c.txt").await.unwrap();
    assert_eq!((entry.length, entry.version, entry.complete), (5, 1, true));
    assert_eq!(store.count(Operation::List), 0);
    let asked = store.count(Operation::Stat);
    fixture.stat("/m/a/b/c.txt").await.unwrap();
    assert_eq!(store.count(Operation::Stat), asked, "fresh within the interval");
    let directory = fixture.stat("/m/a").await.unwrap();
    assert_eq!(directory.kind(), EntryKind::Directory);
    assert_eq!(fixture.names("/m/a").await, ["b/", "other"]);
    assert!(!fixture.exists("/m/a/none").await);
}

#[tokio::test]
async fn new_changed_and_deleted_objects_are_seen() {
    let Setup { store, fixture, home: _home } = setup("0").await;
    store.insert(b"x", "one");
    let first = fixture.stat("/m/x").await.unwrap();
    store.insert(b"x", "two!");
    let second = fixture.stat("/m/x").await.unwrap();
    assert_eq!((second.inode, second.version, second.length), (first.inode, first.version + 1, 4));
    store.insert(b"d/y", "1");
    assert_eq!(fixture.names("/m").await, ["d/", "x"]);
    store.remove(b"x");
    assert!(!fixture.exists("/m/x").await);
    store.remove(b"d/y");
    store.insert(b"z", "");
    assert_eq!(fixture.names("/m").await, ["z"]);
    store.insert(b"z/now/a/directory", "1");
    assert_eq!(fixture.names("/m").await, ["z/"]);
    assert_eq!(fixture.names("/m/z/now").await, ["a/"]);
}

#[tokio::test]
async fn an_interval_holds_until_asked_now() {
    let Setup { store, fixture, home: _home } = setup("never").await;
    store.insert(b"a", "1");
    assert_eq!(fixture.names("/m").await, ["a"]);
    store.insert(b"b", "1");
    assert_eq!(fixture.names("/m").await, ["a"]);
    assert!(!fixture.exists("/m/b").await, "never again");
    assert_eq!(fixture.names_as("/m", SyncMode::Now).await, ["a", "b"]);
    store.remove(b"a");
    assert!(fixture.exists("/m/a").await);
    assert!(fixture.stat_as("/m/a", SyncMode::Now).await.is_err());
}

#[tokio::test]
async fn loaded_directories_stay_loaded_over_a_restart() {
    let Setup { store, fixture, home } = setup("never").await;
    store.insert(b"a/x", "1");
    assert_eq!(fixture.names("/m/a").await, ["x"]);
    fixture.master.shutdown().await;
    let fixture = home.start().await;
    store.insert(b"a/y", "1");
    let listed = store.count(Operation::List);
    assert_eq!(fixture.names("/m/a").await, ["x"]);
    assert_eq!(store.count(Operation::List), listed);
}

#[tokio::test]
async fn odd_keys_of_object_stores() {
    let Setup { store, fixture, home: _home } = setup("0").await;
    for key in ["a", "a/b", "a-c", "sp ace/%41+x", "ünï/ç", "s//t", "marker/", "empty", "empty/in", "dot/./x"] {
        let content = if key.ends_with('/') || key == "empty" { "" } else { "data" };
        store.insert(key.as_bytes(), content);
    }
    let expected = ["a", "a-c", "dot/", "empty/", "marker/", "s/", "sp ace/", "ünï/"];
    assert_eq!(fixture.names("/m").await, expected);
    assert_eq!(fixture.stat("/m/a").await.unwrap().kind(), EntryKind::File);
    assert_eq!(fixture.stat("/m/empty").await.unwrap().kind(), EntryKind::Directory);
    assert_eq!(fixture.names("/m/sp ace").await, ["%41+x"]);
    assert_eq!(fixture.names("/m/ünï").await, ["ç"]);
    assert_eq!(fixture.names("/m/s").await, [""; 0]);
    assert_eq!(fixture.names("/m/marker").await, [""; 0]);
    assert_eq!(fixture.names("/m/empty").await, ["in"]);
    let error = fixture.stat("/m/a/b").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotADirectory, "{error:?}");
    // The file in the way goes: what it hid appears.
    store.remove(b"a");
    assert!(fixture.exists("/m/a/b").await);
    assert_eq!(fixture.names("/m/a").await, ["b"]);
}

#[tokio::test]
async fn many_askers_cause_one_listing_and_hold_up_nobody() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    for n in 0..2500 {
        store.insert(format!("d/part-{n:05}").as_bytes(), "x");
    }
    store.insert(b"other", "x");
    let gate = Arc::new(Semaphore::new(0));
    let (held, pages) = (Arc::clone(&gate), Arc::new(AtomicU64::new(0)));
    let listed = Arc::clone(&pages);
    store.set_faults(move |operation, key| match operation {
        Operation::List => {
            listed.fetch_add(u64::from(key == b"d"), Ordering::SeqCst);
            Fault::Hold(Arc::clone(&held))
        }
        _ => Fault::None,
    });
    let fixture = Arc::new(fixture);
    let askers: Vec<_> = (0..20)
        .map(|_| {
            let fixture = Arc::clone(&fixture);
            tokio::spawn(async move { fixture.names("/m/d").await.len() })
        })
        .collect();
    eventually("the listing has begun", async || pages.load(Ordering::SeqCst) > 0).await;
    assert!(fixture.exists("/m/other").await, "other requests go on");
    fixture.mkdir("/m/new").await.unwrap();
    gate.add_permits(1000);
    for asker in askers {
        assert_eq!(asker.await.unwrap(), 2500);
    }
    assert_eq!(pages.load(Ordering::SeqCst), 3, "pages of one listing");
}

#[tokio::test]
async fn who_asks_now_does_not_get_an_older_answer() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    store.insert(b"a", "1");
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::List => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let fixture = Arc::new(fixture);
    let ask = || {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move { fixture.names_as("/m", SyncMode::Now).await })
    };
    let first = ask();
    eventually("the first listing has begun", async || store.count(Operation::List) == 1).await;
    let second = ask();
    store.insert(b"b", "1");
    gate.add_permits(1000);
    first.await.unwrap();
    assert_eq!(second.await.unwrap(), ["a", "b"]);
    assert!(store.count(Operation::List) >= 2);
}

#[tokio::test]
async fn a_large_directory_comes_in_pages_and_in_parts() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    const FILES: usize = 120_000;
    for n in 0..FILES {
        store.insert(format!("big/{n:06}").as_bytes(), "x");
    }
    let first =
        fixture.list_with(ListRequest { path: "/m/big".into(), limit: 10, ..ListRequest::default() }).await.unwrap();
    assert_eq!(first.len(), 10);
    assert!(store.count(Operation::List) <= 60, "a short listing stops early");
    let before = store.count(Operation::List);
    let middle = fixture
        .list_with(ListRequest {
            path: "/m/big".into(),
            start_after: "100000".into(),
            limit: 1500,
            ..ListRequest::default()
        })
        .await
        .unwrap();
    assert_eq!(&middle[0].path[..], b"100001");
    assert_eq!(middle.len(), 1500);
    assert!(store.count(Operation::List) - before <= 20, "it begins where it was asked to");
    let all = fixture.list_as("/m/big", SyncMode::ByInterval).await.unwrap();
    assert_eq!(all.len(), FILES);
    assert!(all.windows(2).all(|pair| pair[0].path < pair[1].path));
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_an_error_unless_stale_will_do() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount_with("/strict", &uri, &[("sync", "0")]).await.unwrap();
    fixture.mount_with("/lenient", &uri, &[("sync", "0"), ("serve_stale", "true")]).await.unwrap();
    store.insert(b"a", "1");
    assert!(fixture.exists("/strict/a").await && fixture.exists("/lenient/a").await);
    let down = store.error(forebay_ufs::UfsError::Unavailable, "planted");
    store.set_faults(move |_, _| Fault::Fail(down.clone()));
    let error = fixture.stat("/strict/a").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(fixture.stat("/lenient/a").await.unwrap().length, 1);
    assert!(fixture.stat("/lenient/b").await.is_err(), "what is not known is an error");
    let error = fixture.list_as("/strict", SyncMode::ByInterval).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    store.clear_faults();
    assert_eq!(fixture.names("/strict").await, ["a"]);
}

/// Lists `/m/d` in the background, up to where the store's answer has been taken and waits for permits.
async fn listing_on_its_way(store: &MemoryUfs, fixture: &Arc<Fixture>) -> (Arc<Semaphore>, JoinHandle<Vec<String>>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::List => Fault::HoldAnswer(Arc::clone(&held)),
        _ => Fault::None,
    });
    let (asker, listed) = (Arc::clone(fixture), store.count(Operation::List));
    let listing = tokio::spawn(async move { asker.names("/m/d").await });
    eventually("the answer is taken", async || store.count(Operation::List) > listed).await;
    (gate, listing)
}

#[tokio::test]
async fn a_change_here_wins_over_an_older_listing() {
    let Setup { store, fixture, home: _home } = setup("0").await;
    let fixture = Arc::new(fixture);
    store.insert(b"d/old", "1");
    assert_eq!(fixture.names("/m/d").await, ["old"]);
    // A listing that does not know the new file does not take it away.
    let (gate, listing) = listing_on_its_way(&store, &fixture).await;
    fixture.write(&*store, "/m/d/new", b"fresh").await.unwrap();
    gate.add_permits(10_000);
    listing.await.unwrap();
    store.clear_faults();
    assert_eq!(fixture.names_as("/m/d", SyncMode::Never).await, ["new", "old"]);
    // One that knows a deleted file does not bring it back.
    let (gate, listing) = listing_on_its_way(&store, &fixture).await;
    fixture.delete("/m/d/old").await.unwrap();
    gate.add_permits(10_000);
    listing.await.unwrap();
    store.clear_faults();
    assert_eq!(fixture.names_as("/m/d", SyncMode::Never).await, ["new"]);
    fixture.purged().await;
    assert_eq!(fixture.names("/m/d").await, ["new"]);
}

#[tokio::test]
async fn a_renamed_directory_is_not_taken_for_what_was_there_before() {
    for sync in ["60s", "never"] {
        let Setup { store, fixture, home: _home } = setup(sync).await;
        store.insert(b"a/x", "1");
        store.insert(b"a/sub/y", "1");
        store.insert(b"b/old", "1");
        assert_eq!(fixture.names("/m/b").await, ["old"]);
        assert!(!fixture.exists("/m/b/x").await && !fixture.exists("/m/b/sub/y").await);
        fixture.delete("/m/b").await.unwrap();
        fixture.purged().await;
        fixture.rename("/m/a", "/m/b").await.unwrap();
        assert!(fixture.exists("/m/b/sub/y").await, "{sync}");
        assert_eq!(fixture.names("/m/b").await, ["sub/", "x"], "{sync}");
        assert!(!fixture.exists("/m/a").await);
    }
}

#[tokio::test]
async fn parents_that_mkdir_makes_are_not_taken_for_loaded() {
    let Setup { store, fixture, home: _home } = setup("never").await;
    store.insert(b"p/other", "1");
    fixture.mkdir("/m/p/new/deep").await.unwrap();
    assert_eq!(fixture.names("/m/p").await, ["new/", "other"]);
    let asked = store.count(Operation::List);
    assert_eq!(fixture.names("/m/p/new/deep").await, [""; 0]);
    assert_eq!(store.count(Operation::List), asked, "nothing can be in there");
}

#[tokio::test]
async fn the_second_path_of_a_directory_loads_it_in_the_background() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    (0..3000).for_each(|n| drop(store.insert(format!("d/{n:04}").as_bytes(), "1")));
    assert!(fixture.exists("/m/d/0000").await);
    assert_eq!(store.count(Operation::List), 0, "one path is one object");
    assert!(fixture.exists("/m/d/0001").await);
    eventually("it is listed", async || store.count(Operation::List) == 3 && fixture.master.comparisons().1 == 0).await;
    let asked = store.count(Operation::Stat);
    for n in 2..3000 {
        assert!(fixture.exists(&format!("/m/d/{n:04}")).await);
    }
    assert_eq!((store.count(Operation::Stat), store.count(Operation::List)), (asked, 3));
    // What others put there since is seen as if there had been no listing.
    store.insert(b"d/new", "1");
    assert!(fixture.exists("/m/d/new").await);
    // Names that are not there do not have it listed again and again.
    assert!(!fixture.exists("/m/d/none").await && !fixture.exists("/m/d/neither").await);
    assert_eq!((store.count(Operation::List), fixture.master.comparisons().1), (3, 0));
}

#[tokio::test]
async fn who_asks_for_entries_makes_a_listing_ahead_theirs() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    ["x/d/a", "x/d/b", "y/e/a", "y/e/b"].iter().for_each(|key| drop(store.insert(key.as_bytes(), "1")));
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::List => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let fixture = Arc::new(fixture);
    // What each needs: all entries, to know that there are none, and to show them.
    for name in ["a", "b"] {
        fixture.delete(&format!("/m/x/d/{name}")).await.unwrap();
        assert!(fixture.exists(&format!("/m/y/e/{name}")).await);
    }
    eventually("both are listed ahead", async || store.count(Operation::List) == 2).await;
    let (deleter, reader) = (Arc::clone(&fixture), Arc::clone(&fixture));
    let deleting = tokio::spawn(async move { deleter.delete_with("/m/x/d", false).await });
    let reading = tokio::spawn(async move { reader.names("/m/y/e").await });
    eventually("they follow", async || fixture.master.listing_followers() == 4).await;
    gate.add_permits(100);
    deleting.await.unwrap().unwrap();
    assert_eq!(reading.await.unwrap(), ["a", "b"]);
    let listed = store.count(Operation::List);
    assert_eq!(fixture.names("/m/y/e").await, ["a", "b"]);
    assert_eq!(store.count(Operation::List), listed, "it was compared just now");
}

#[tokio::test]
async fn a_directory_that_is_too_large_is_not_loaded_ahead_for_ever() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::List => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    (0..50_000).for_each(|n| drop(store.insert(format!("d/{n:05}").as_bytes(), "1")));
    assert!(fixture.exists("/m/d/00000").await && fixture.exists("/m/d/40000").await);
    eventually("it has begun", async || store.count(Operation::List) > 0).await;
    // Nobody waits for it.
    assert!(fixture.exists("/m/d/40001").await);
    gate.add_permits(1);
    eventually("a page has come", async || store.count(Operation::List) > 1).await;
    let asked = store.count(Operation::Stat);
    assert!(fixture.exists("/m/d/00900").await, "passed already");
    assert_eq!(store.count(Operation::Stat), asked);
    gate.add_permits(1000);
    eventually("it is left", async || fixture.master.comparisons().1 == 0).await;
    let listed = store.count(Operation::List);
    assert!(listed < 50, "{listed} pages");
    assert!(fixture.exists("/m/d/40002").await && fixture.exists("/m/d/40003").await);
    assert_eq!(store.count(Operation::List), listed);
}

#[tokio::test]
async fn a_listing_starts_after_a_name() {
    let Setup { store, fixture, home: _home } = setup("60s").await;
    store.insert(b"d/a", "1");
    for start_after in ["x".repeat(256), "a/b".to_owned()] {
        let request = ListRequest { path: "/m/d".into(), start_after: start_after.into(), ..ListRequest::default() };
        assert_eq!(fixture.list_with(request).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    }
    assert_eq!(store.count(Operation::List), 0);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_left_alone() {
    let Setup { store, fixture, home: _home } = setup("0").await;
    let created = fixture.create("/m/new/deep/file").await.unwrap();
    assert_eq!(fixture.names("/m").await, ["new/"]);
    let entry = fixture.stat("/m/new/deep/file").await.unwrap();
    assert_eq!((entry.length, entry.complete), (0, false));
    let meta = fixture.put_whole(&*store, &created, b"abc").await;
    assert_eq!(fixture.stat("/m/new/deep/file").await.unwrap().length, 0, "not before it is complete");
    let done = fixture
        .complete_with(CompleteRequest {
            meta: fixture.meta(),
            write: created.write,
            length: 3,
            whole_tag: meta.tag.0,
            ..CompleteRequest::default()
        })
        .await
        .unwrap();
    assert_eq!((done.length, done.version, done.complete), (3, 1, true));
    let again = fixture.stat("/m/new/deep/file").await.unwrap();
    assert_eq!((again.inode, again.version), (done.inode, 1), "the store agrees");
}

#[tokio::test]
async fn nested_mounts_survive_a_listing_around_them() {
    let Setup { store, fixture, home: _home } = setup("0").await;
    let (inner, uri) = memory_store();
    inner.insert(b"i", "1");
    store.insert(b"o", "1");
    fixture.mount("/m/deep/inner", &uri).await;
    assert_eq!(fixture.names("/m").await, ["deep/", "o"]);
    assert_eq!(fixture.names("/m/deep").await, ["inner/"]);
    assert_eq!(fixture.names("/m/deep/inner").await, ["i"]);
    assert_eq!(fixture.names("/m").await, ["deep/", "o"]);
}

#[tokio::test]
async fn a_local_directory_is_a_store_too() {
    let home = Home::new();
    let dir = home.store_dir("data");
    std::fs::create_dir_all(dir.join("sub/empty")).unwrap();
    std::fs::write(dir.join("sub/a"), "12345").unwrap();
    let fixture = home.start().await;
    fixture.mount_with("/l", &format!("file://{}", dir.display()), &[("sync", "0")]).await.unwrap();
    assert_eq!(fixture.stat("/l/sub/a").await.unwrap().length, 5);
    assert_eq!(fixture.names("/l/sub").await, ["a", "empty/"]);
    std::fs::remove_dir(dir.join("sub/empty")).unwrap();
    std::fs::write(dir.join("sub/a"), "123").unwrap();
    assert_eq!(fixture.names("/l/sub").await, ["a"]);
    let entry = fixture.stat("/l/sub/a").await.unwrap();
    assert_eq!((entry.length, entry.version), (3, 2));
}

#[tokio::test]
async fn a_store_whose_root_is_gone_is_not_taken_for_an_empty_one() {
    let home = Home::new();
    let dir = home.store_dir("data");
    std::fs::write(dir.join("a"), "12345").unwrap();
    let fixture = home.start().await;
    fixture.mount_with("/l", &format!("file://{}", dir.display()), &[("sync", "0")]).await.unwrap();
    assert_eq!(fixture.names("/l").await, ["a"]);
    let before = fixture.stat("/l/a").await.unwrap();
    // As a file system that is not mounted any more.
    let away = dir.with_extension("away");
    std::fs::rename(&dir, &away).unwrap();
    for path in ["/l/a", "/l/new"] {
        assert_eq!(fixture.stat(path).await.unwrap_err().kind, ErrorKind::Unavailable, "{path}");
    }
    let error = fixture.list_as("/l", SyncMode::ByInterval).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("the root directory does not exist"), "{error}");
    std::fs::rename(&away, &dir).unwrap();
    assert_eq!(fixture.stat("/l/a").await.unwrap().inode, before.inode, "nothing was forgotten");
}

#[tokio::test]
async fn a_listing_does_not_bring_back_what_was_deleted_while_it_ran() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    store.insert(b"stays", "x");
    for n in 0..1500 {
        store.insert(format!("d/{n:04}").as_bytes(), "x");
    }
    assert!(fixture.exists("/m/d").await);
    let gate = Arc::new(Semaphore::new(0));
    let (held, pages) = (Arc::clone(&gate), Arc::new(AtomicU64::new(0)));
    let asked = Arc::clone(&pages);
    store.set_faults(move |operation, key| match (operation, key) {
        // The second page of the listing; the delete lists too.
        (Operation::List, b"d") if pages.fetch_add(1, Ordering::SeqCst) == 1 => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let fixture = Arc::new(fixture);
    let lister = Arc::clone(&fixture);
    let listing = tokio::spawn(async move { lister.list_as("/m/d", SyncMode::ByInterval).await });
    eventually("the second page is asked for", async || asked.load(Ordering::SeqCst) >= 2).await;
    fixture.delete("/m/d").await.unwrap();
    fixture.purged().await;
    assert_eq!(keys(&store), ["stays"]);
    gate.add_permits(100);
    let _ = listing.await.unwrap();
    eventually("no listing runs", async || fixture.master.comparisons() == (0, 0)).await;
    assert!(!fixture.exists("/m/d").await);
    assert_eq!(fixture.names("/m").await, ["stays"]);
}

#[tokio::test]
async fn comparisons_end_with_the_last_who_waits_for_them() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::Stat | Operation::List => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let fixture = Arc::new(fixture);
    let asked: Vec<_> = (0..50)
        .map(|n| {
            let fixture = Arc::clone(&fixture);
            tokio::spawn(async move { fixture.stat(&format!("/m/{n}/x")).await })
        })
        .collect();
    let lister = Arc::clone(&fixture);
    let listing = tokio::spawn(async move { lister.list_as("/m", SyncMode::Now).await });
    eventually("all are asked", async || fixture.master.comparisons() == (50, 1)).await;
    asked.iter().for_each(|task| task.abort());
    listing.abort();
    eventually("none goes on", async || fixture.master.comparisons() == (0, 0)).await;
    store.clear_faults();
    store.insert(b"7", "x");
    assert!(fixture.exists("/m/7").await, "the next asker begins anew");
}
