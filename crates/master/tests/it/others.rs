//! What other programs put into a store survives our renames and deletes, and shows again.
use crate::support::{Fixture, Home, eventually, keys, memory_store};
use forebay_base::{Clock, ErrorKind, SystemClock};
use forebay_proto::v1::*;
use forebay_ufs::UfsError;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

async fn setup() -> (Home, Arc<MemoryUfs>, Arc<Fixture>) {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount_with("/m", &uri, &[("sync", "0")]).await.unwrap();
    (home, store, Arc::new(fixture))
}

fn fill(store: &MemoryUfs, keys: &[&str]) {
    for key in keys {
        store.insert(key.as_bytes(), key.to_string());
    }
}

/// Holds the calls of an operation until permits are added.
fn hold(store: &MemoryUfs, operation: Operation) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |other, _| match other == operation {
        true => Fault::Hold(Arc::clone(&held)),
        false => Fault::None,
    });
    gate
}

/// Puts an object at a time that is told from all before: not within the same millisecond, and not at a whole second, which stands for the one
/// before it too.
async fn put_later(store: &MemoryUfs, key: &[u8], body: &'static str) {
    let before = SystemClock.now();
    eventually("the clock goes on", async || SystemClock.now().0 > before.0 + 1).await;
    eventually("no whole second", async || !store.insert(key, body).modified_ms.is_multiple_of(1000)).await;
}

#[tokio::test]
async fn what_others_put_below_a_directory_while_it_is_renamed_stays() {
    let (home, store, fixture) = setup().await;
    fill(&store, &["s/a", "s/b", "s/c/d"]);
    fixture.names("/m/s").await;
    let away = store.error(UfsError::Unavailable, "planted");
    store.set_faults(move |operation, _| match operation {
        Operation::Delete => Fault::Fail(away.clone()),
        _ => Fault::None,
    });
    fixture.rename("/m/s", "/m/t").await.unwrap();
    store.insert(b"s/a", "theirs, over ours");
    store.insert(b"s/c/new", "theirs");
    // Also after a restart it is known what was copied.
    Arc::into_inner(fixture).unwrap().master.shutdown().await;
    store.clear_faults();
    let fixture = home.start().await;
    eventually("the source is cleaned", async || keys(&store) == ["s/a", "s/c/new", "t/", "t/a", "t/b", "t/c/d"]).await;
    assert_eq!(store.bytes(b"s/a").unwrap(), b"theirs, over ours");
    assert_eq!(store.bytes(b"t/a").unwrap(), b"s/a");
    eventually("the rename has ended", async || fixture.exists("/m/s").await).await;
    assert_eq!(fixture.names("/m/s").await, ["a", "c/"]);
    assert_eq!(fixture.names("/m/s/c").await, ["new"]);
    assert_eq!(fixture.names("/m/t").await, ["a", "b", "c/"]);
}

#[tokio::test]
async fn who_waits_for_the_end_of_a_rename_does_not_hold_it_up() {
    let (_home, store, fixture) = setup().await;
    for wait in ["mkdir", "rename", "delete"] {
        fill(&store, &["s/a", "x/y"]);
        fixture.names("/m/s").await;
        let away = store.error(UfsError::Unavailable, "planted");
        store.set_faults(move |operation, _| match operation {
            Operation::Delete => Fault::Fail(away.clone()),
            _ => Fault::None,
        });
        fixture.rename("/m/s", "/m/t").await.unwrap();
        let waiting = Arc::clone(&fixture);
        let waiting = tokio::spawn(async move {
            match wait {
                "mkdir" => waiting.mkdir("/m/s").await.map(|_| ()),
                "rename" => waiting.rename("/m/x", "/m/s").await,
                _ => waiting.delete("/m/s").await,
            }
        });
        // Long enough for it to wait; the rename is taken up again after 2 seconds.
        for _ in 0..50 {
            fixture.stat("/m").await.unwrap();
        }
        store.clear_faults();
        match (wait, waiting.await.unwrap()) {
            ("delete", outcome) => assert_eq!(outcome.unwrap_err().kind, ErrorKind::NotFound),
            (_, outcome) => outcome.unwrap(),
        }
        fixture.delete("/m/t").await.unwrap();
        let _ = fixture.delete("/m/s").await;
        fixture.purged().await;
    }
}

#[tokio::test]
async fn a_renamed_tree_keeps_its_versions() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    fill(&store, &["s/a", "s/b/c"]);
    let before = fixture.stat("/m/s/b/c").await.unwrap();
    fixture.rename("/m/s", "/m/t").await.unwrap();
    let after = fixture.stat_as("/m/t/b/c", SyncMode::Now).await.unwrap();
    assert_eq!((after.inode, after.version), (before.inode, before.version), "still cached");
    fixture.delete("/m/t").await.unwrap();
    fixture.purged().await;
    assert_eq!(keys(&store), [""; 0]);
}

#[tokio::test]
async fn a_file_that_others_put_at_the_target_is_not_lost() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["a", "old"]);
    fixture.names("/m").await;
    for (target, before) in [("new", None), ("old", Some("old"))] {
        let gate = hold(&store, Operation::Copy);
        let (renaming, path) = (Arc::clone(&fixture), format!("/m/{target}"));
        let count = store.count(Operation::Copy);
        let renaming = tokio::spawn(async move { renaming.rename("/m/a", &path).await });
        eventually("the copy has begun", async || store.count(Operation::Copy) > count).await;
        assert_eq!(store.bytes(target.as_bytes()).as_deref(), before.map(str::as_bytes));
        store.insert(target.as_bytes(), "theirs");
        store.clear_faults();
        gate.add_permits(100);
        let error = renaming.await.unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
        assert_eq!(store.bytes(target.as_bytes()).unwrap(), b"theirs");
        assert_eq!(store.bytes(b"a").unwrap(), b"a");
        assert_eq!(fixture.stat(&format!("/m/{target}")).await.unwrap().length, 6);
        assert!(fixture.exists("/m/a").await);
    }
}

#[tokio::test]
async fn what_others_put_below_the_target_is_not_lost() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["s/a", "s/b"]);
    fixture.names("/m/s").await;
    let gate = hold(&store, Operation::Copy);
    let renaming = Arc::clone(&fixture);
    let renaming = tokio::spawn(async move { renaming.rename("/m/s", "/m/t").await });
    eventually("copies have begun", async || store.count(Operation::Copy) == 2).await;
    store.insert(b"t/b", "theirs");
    store.clear_faults();
    gate.add_permits(100);
    assert_eq!(renaming.await.unwrap().unwrap_err().kind, ErrorKind::Conflict);
    eventually("our copies are gone", async || keys(&store) == ["s/a", "s/b", "t/b"]).await;
    assert_eq!(store.bytes(b"t/b").unwrap(), b"theirs");
    eventually("both show", async || fixture.names("/m").await == ["s/", "t/"]).await;
}

#[tokio::test]
async fn a_marker_that_others_put_below_the_target_is_not_lost() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["s/a"]);
    store.insert(b"s/sub/", "");
    fixture.names("/m/s").await;
    let gate = hold(&store, Operation::Copy);
    let renaming = Arc::clone(&fixture);
    let renaming = tokio::spawn(async move { renaming.rename("/m/s", "/m/t").await });
    eventually("copies have begun", async || store.count(Operation::Copy) == 2).await;
    store.insert(b"t/sub/", "");
    store.clear_faults();
    gate.add_permits(100);
    assert_eq!(renaming.await.unwrap().unwrap_err().kind, ErrorKind::Conflict);
    eventually("our copies are gone", async || keys(&store) == ["s/a", "s/sub/", "t/sub/"]).await;
}

#[tokio::test]
async fn a_rename_that_was_reported_as_failed_never_happens() {
    let (home, store, fixture) = setup().await;
    fill(&store, &["s/a", "s/b"]);
    fixture.names("/m/s").await;
    let (denied, away) = (store.error(UfsError::Denied, "planted"), store.error(UfsError::Unavailable, "planted"));
    store.set_faults(move |operation, key| match operation {
        Operation::Copy if key == b"s/b" => Fault::Fail(denied.clone()),
        // It cannot be undone for now either.
        Operation::Delete => Fault::Fail(away.clone()),
        _ => Fault::None,
    });
    let error = fixture.rename("/m/s", "/m/t").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error:?}");
    Arc::into_inner(fixture).unwrap().master.shutdown().await;
    store.clear_faults();
    let fixture = home.start().await;
    eventually("the copies are gone", async || keys(&store) == ["s/a", "s/b"]).await;
    eventually("all is as before", async || fixture.names("/m").await == ["s/"]).await;
    fixture.rename("/m/s", "/m/t").await.unwrap();
    assert_eq!(keys(&store), ["t/", "t/a", "t/b"]);
}

#[tokio::test]
async fn what_others_put_after_a_delete_survives() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["d/known", "d/loaded", "d/sub/unknown", "f", "g"]);
    fixture.names("/m/d").await;
    fixture.names("/m").await;
    let gate = hold(&store, Operation::Delete);
    for path in ["/m/f", "/m/g", "/m/d"] {
        fixture.delete(path).await.unwrap();
    }
    put_later(&store, b"f", "theirs").await;
    put_later(&store, b"d/known", "theirs").await;
    put_later(&store, b"d/sub/new", "theirs").await;
    store.clear_faults();
    gate.add_permits(100);
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/known", "d/sub/new", "f"]);
    eventually("theirs show again", async || fixture.names("/m").await == ["d/", "f"]).await;
    assert_eq!(fixture.names("/m/d").await, ["known", "sub/"]);
    assert_eq!(fixture.stat("/m/f").await.unwrap().length, 6);
}

#[tokio::test]
async fn what_survives_a_delete_is_walked_past_once() {
    let (_home, store, fixture) = setup().await;
    store.insert(b"d/0000", "1");
    assert!(fixture.exists("/m/d").await);
    (0..4000).for_each(|n| drop(store.insert(format!("d/1{n:04}").as_bytes(), "1")));
    let gate = hold(&store, Operation::List);
    let listed = store.count(Operation::List);
    fixture.delete("/m/d").await.unwrap();
    put_later(&store, b"d/0000", "theirs").await;
    for n in 1..3000 {
        let key = format!("d/0{n:04}");
        while store.insert(key.as_bytes(), "theirs").modified_ms.is_multiple_of(1000) {}
    }
    store.clear_faults();
    gate.add_permits(100);
    fixture.purged().await;
    assert_eq!(store.keys().len(), 3000);
    let listed = store.count(Operation::List) - listed;
    assert!(listed <= 9, "{listed} listings of 7 pages");
}

#[tokio::test]
async fn a_delete_goes_on_after_a_restart_where_it_was() {
    let (home, store, fixture) = setup().await;
    store.insert(b"d/00000", "1");
    assert!(fixture.exists("/m/d").await);
    (0..4000).for_each(|n| drop(store.insert(format!("d/1{n:04}").as_bytes(), "1")));
    let gate = hold(&store, Operation::List);
    fixture.delete("/m/d").await.unwrap();
    put_later(&store, b"d/00000", "theirs").await;
    for n in 1..6000 {
        let key = format!("d/0{n:04}");
        while store.insert(key.as_bytes(), "theirs").modified_ms.is_multiple_of(1000) {}
    }
    // The store takes two pages of deletes, and then no more.
    let (away, taken) = (store.error(UfsError::Unavailable, "planted"), AtomicUsize::new(0));
    store.set_faults(move |operation, _| match operation {
        Operation::Delete if taken.fetch_add(1, Ordering::Relaxed) >= 2000 => Fault::Fail(away.clone()),
        _ => Fault::None,
    });
    gate.add_permits(100);
    eventually("two pages are gone", async || store.keys().len() == 8000).await;
    eventually("the third one is tried", async || store.count(Operation::Delete) > 2000).await;
    Arc::into_inner(fixture).unwrap().master.shutdown().await;
    store.clear_faults();
    let listed = store.count(Operation::List);
    let fixture = home.start().await;
    fixture.purged().await;
    assert_eq!(store.keys().len(), 6000);
    let listed = store.count(Operation::List) - listed;
    assert!(listed <= 4, "{listed} listings of the last pages, of ten");
}

#[tokio::test]
async fn a_delete_that_meets_only_what_others_put_there_goes_on_where_it_was() {
    let (home, store, fixture) = setup().await;
    store.insert(b"d/00000", "1");
    assert!(fixture.exists("/m/d").await);
    let gate = hold(&store, Operation::List);
    fixture.delete("/m/d").await.unwrap();
    put_later(&store, b"d/00000", "theirs").await;
    for n in 1..12_000 {
        let key = format!("d/{n:05}");
        while store.insert(key.as_bytes(), "theirs").modified_ms.is_multiple_of(1000) {}
    }
    // Of twelve pages seven come, the held one among them.
    let (away, taken) = (store.error(UfsError::Unavailable, "planted"), AtomicUsize::new(0));
    store.set_faults(move |operation, _| match operation {
        Operation::List if taken.fetch_add(1, Ordering::Relaxed) >= 6 => Fault::Fail(away.clone()),
        _ => Fault::None,
    });
    let before = store.count(Operation::List);
    gate.add_permits(100);
    eventually("the eighth page is asked for", async || store.count(Operation::List) > before + 6).await;
    Arc::into_inner(fixture).unwrap().master.shutdown().await;
    store.clear_faults();
    let listed = store.count(Operation::List);
    let fixture = home.start().await;
    fixture.purged().await;
    assert_eq!((store.keys().len(), store.count(Operation::Delete)), (12_000, 0));
    let listed = store.count(Operation::List) - listed;
    assert!(listed <= 9, "{listed} listings of the last pages, of twelve");
}

#[tokio::test]
async fn the_bytes_of_a_marker_stay_and_move_along() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["d/a", "d/sub/x"]);
    store.insert(b"d/", "somebody's bytes");
    store.insert(b"d/sub/", "and more");
    assert_eq!(fixture.names("/m/d").await, ["a", "sub/"]);
    fixture.mkdir("/m/d").await.unwrap();
    fixture.delete("/m/d/a").await.unwrap();
    fixture.delete("/m/d/sub/x").await.unwrap();
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/", "d/sub/"]);
    fixture.rename("/m/d", "/m/e").await.unwrap();
    assert_eq!(keys(&store), ["e/", "e/sub/"]);
    assert_eq!(store.bytes(b"e/").unwrap(), b"somebody's bytes");
    assert_eq!(store.bytes(b"e/sub/").unwrap(), b"and more");
}

#[tokio::test]
async fn a_marker_that_others_gave_bytes_after_the_delete_stays() {
    let (_home, store, fixture) = setup().await;
    fixture.mkdir("/m/d").await.unwrap();
    let gate = hold(&store, Operation::Delete);
    fixture.delete("/m/d").await.unwrap();
    put_later(&store, b"d/", "theirs").await;
    store.clear_faults();
    gate.add_permits(100);
    fixture.purged().await;
    assert_eq!(store.bytes(b"d/").unwrap(), b"theirs");
}

#[tokio::test]
async fn a_huge_delete_holds_up_no_other() {
    let (home, (store, uri), (other, other_uri)) = (Home::new(), memory_store(), memory_store());
    let mut settings = home.settings();
    settings.purge_objects_per_second = 2000;
    let fixture = Fixture::start(settings).await;
    fixture.mount("/m", &uri).await;
    fixture.mount("/hung", &other_uri).await;
    for n in 0..20_000 {
        store.insert(format!("huge/{}/{n}", n % 10).as_bytes(), "x");
    }
    fill(&store, &["small/a"]);
    fill(&other, &["a"]);
    for path in ["/m/huge", "/m/small", "/hung/a"] {
        assert!(fixture.exists(path).await);
    }
    let gate = hold(&other, Operation::Delete);
    for path in ["/hung/a", "/m/huge", "/m/small"] {
        fixture.delete(path).await.unwrap();
    }
    // It waits for the small one alone, which gets its turn among the huge one's.
    let written = tokio::time::timeout(Duration::from_secs(8), fixture.write(&*store, "/m/small/a", b"new")).await;
    written.expect("in time").unwrap();
    assert!(keys(&store).len() > 2000, "the huge one is not done yet: {}", keys(&store).len());
    gate.add_permits(100);
    fixture.purged().await;
    assert_eq!(keys(&store), ["small/a"]);
    assert_eq!(keys(&other), [""; 0]);
}

#[tokio::test]
async fn a_file_that_others_changed_before_it_was_deleted_goes_too() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount_with("/m", &uri, &[("sync", "never")]).await.unwrap();
    fill(&store, &["f", "g"]);
    assert_eq!(fixture.names("/m").await, ["f", "g"]);
    store.insert(b"f", "changed, and nobody has looked");
    fixture.delete("/m/f").await.unwrap();
    eventually("it is gone", async || keys(&store) == ["g"]).await;
}

/// A request to delete what was found there.
fn just(path: &str, found: &Entry) -> DeleteRequest {
    DeleteRequest {
        path: path.to_owned().into(),
        expected_inode: found.inode,
        expected_version: found.version,
        ..DeleteRequest::default()
    }
}

#[tokio::test]
async fn a_delete_of_one_version_takes_no_other() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount_with("/m", &uri, &[("sync", "never")]).await.unwrap();
    fill(&store, &["f", "g", "d/x", "e/x"]);
    let (f, g) = (fixture.stat("/m/f").await.unwrap(), fixture.stat("/m/g").await.unwrap());
    // The store is asked, though the mount says never.
    store.insert(b"f", "theirs");
    assert_eq!(fixture.delete_as(just("/m/f", &f)).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(fixture.delete_as(just("/m/f", &g)).await.unwrap_err().kind, ErrorKind::Conflict);
    fixture.delete_as(just("/m/g", &g)).await.unwrap();
    // Nor do directories go that are not as empty as they look.
    for directory in ["d", "e"] {
        let path = format!("/m/{directory}");
        assert_eq!(fixture.names(&path).await, ["x"]);
        let found = fixture.stat(&path).await.unwrap();
        fixture.delete(&format!("{path}/x")).await.unwrap();
        fixture.purged().await;
        if directory == "d" {
            store.insert(b"d/new", "theirs");
            assert_eq!(fixture.delete_as(just(&path, &found)).await.unwrap_err().kind, ErrorKind::NotEmpty);
        } else {
            fixture.delete_as(just(&path, &found)).await.unwrap();
        }
    }
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/", "d/new", "f"]);
    assert_eq!(store.bytes(b"f").unwrap(), b"theirs");
}
