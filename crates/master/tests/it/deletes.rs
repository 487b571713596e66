//! Deleting and renaming: at once for the caller, complete in the store, over failures and restarts.
use crate::support::{Fixture, Home, error, eventually, keys, local_store, memory_store};
use forebay_base::ErrorKind;
use forebay_master::fault;
use forebay_proto::v1::*;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use std::sync::Arc;
use tokio::sync::Semaphore;

async fn setup() -> (Home, Arc<MemoryUfs>, Fixture) {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    (home, store, fixture)
}

fn fill(store: &MemoryUfs, keys: &[&str]) {
    for key in keys {
        store.insert(key.as_bytes(), key.to_string());
    }
}

#[tokio::test]
async fn a_file_goes_and_its_directory_stays() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["d/a"]);
    assert!(fixture.exists("/m/d/a").await);
    fixture.delete("/m/d/a").await.unwrap();
    assert!(!fixture.exists("/m/d/a").await);
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/"], "the directory is marked, or it would vanish");
    assert_eq!(fixture.names_as("/m", SyncMode::Now).await, ["d/"]);
    assert_eq!(fixture.delete("/m/d/a").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_tree_goes_with_what_was_never_loaded() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["keep", "t/a", "t/b/c", "t/b/d/e", "t-not"]);
    for n in 0..2500 {
        store.insert(format!("t/many/{n}").as_bytes(), "x");
    }
    assert!(fixture.exists("/m/t/a").await);
    let error = fixture.delete_with("/m/t", false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotEmpty);
    fixture.delete("/m/t").await.unwrap();
    assert!(!fixture.exists("/m/t").await && !fixture.exists("/m/t/b/c").await);
    fixture.purged().await;
    assert_eq!(keys(&store), ["keep", "t-not"]);
}

#[tokio::test]
async fn an_empty_directory_goes_alone() {
    let (_home, store, fixture) = setup().await;
    fixture.mkdir("/m/d").await.unwrap();
    assert_eq!(keys(&store), ["d/"]);
    fixture.delete_with("/m/d", false).await.unwrap();
    fixture.purged().await;
    assert_eq!(keys(&store), [""; 0]);
    // What somebody else put there since the comparison survives.
    fixture.mkdir("/m/d").await.unwrap();
    assert_eq!(fixture.names("/m/d").await, [""; 0]);
    store.insert(b"d/theirs", "x");
    fixture.delete_with("/m/d", false).await.unwrap();
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/theirs"]);
    assert_eq!(fixture.names_as("/m/d", SyncMode::Now).await, ["theirs"]);
}

#[tokio::test]
async fn a_directory_of_a_disk_goes_after_what_was_deleted_from_it_before() {
    let home = Home::new();
    let disk = home.store_dir("disk");
    let fixture = home.start().await;
    fixture.mount("/m", &format!("file://{}", disk.display())).await;
    fixture.mkdir("/m/d").await.unwrap();
    fault::plant("purge: not begun");
    // More than are purged at a time.
    for n in 0..40 {
        fixture.mkdir(&format!("/m/d/{n}")).await.unwrap();
        fixture.delete_with(&format!("/m/d/{n}"), false).await.unwrap();
    }
    fixture.delete_with("/m/d", false).await.unwrap();
    assert_eq!(fixture.status().await.pending_deletes, 41);
    fault::clear("purge: not begun");
    fixture.purged().await;
    assert!(!disk.join("d").exists());
}

#[tokio::test]
async fn a_new_file_waits_for_the_old_one_to_go() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["d/a", "d/b"]);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::Delete => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    fixture.delete("/m/d").await.unwrap();
    assert!(!fixture.exists("/m/d/a").await, "not loaded again from its store");
    assert!(!fixture.exists("/m/d").await);
    let fixture = Arc::new(fixture);
    let (writer, target) = (Arc::clone(&fixture), Arc::clone(&store));
    let writing = tokio::spawn(async move { writer.write(&*target, "/m/d/a", b"new").await });
    eventually("the purge has begun", async || store.count(Operation::Delete) > 0).await;
    assert!(!writing.is_finished());
    gate.add_permits(1000);
    writing.await.unwrap().unwrap();
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/a"]);
    assert_eq!(store.bytes(b"d/a").unwrap(), b"new");
}

#[tokio::test]
async fn a_delete_goes_on_after_failures_and_a_restart() {
    let (home, store, fixture) = setup().await;
    fill(&store, &["t/a", "t/b/c"]);
    let down = store.error(forebay_ufs::UfsError::Unavailable, "planted");
    store.set_faults(move |operation, _| match operation {
        Operation::Delete => Fault::Fail(down.clone()),
        _ => Fault::None,
    });
    fixture.delete("/m/t").await.unwrap();
    eventually("the purge was tried", async || store.count(Operation::Delete) > 0).await;
    assert_eq!(fixture.status().await.pending_deletes, 1);
    fixture.master.shutdown().await;
    let fixture = home.start().await;
    assert!(!fixture.exists("/m/t").await);
    store.clear_faults();
    fixture.purged().await;
    assert_eq!(keys(&store), [""; 0]);
}

#[tokio::test]
async fn forgetting_the_metadata_leaves_the_store_alone() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["d/a", "d/b"]);
    assert_eq!(fixture.names("/m/d").await, ["a", "b"]);
    let request = DeleteRequest { path: "/m/d".into(), recursive: true, namespace_only: true, ..Default::default() };
    fixture.delete_as(request).await.unwrap();
    assert_eq!(fixture.names("/m/d").await, ["a", "b"]);
    fixture.purged().await;
    assert_eq!(keys(&store), ["d/a", "d/b"]);
}

#[tokio::test]
async fn a_file_is_renamed_in_an_object_store() {
    let (_home, store, fixture) = setup().await;
    let before = fixture.write(&*store, "/m/d/a", b"one").await.unwrap();
    fixture.write(&*store, "/m/e/old", b"two").await.unwrap();
    fixture.rename("/m/d/a", "/m/e/old").await.unwrap();
    let after = fixture.stat_as("/m/e/old", SyncMode::Now).await.unwrap();
    assert_eq!((after.inode, after.version, after.length), (before.inode, before.version, 3), "still cached");
    assert!(!fixture.exists("/m/d/a").await);
    assert_eq!(keys(&store), ["d/", "e/old"]);
    assert_eq!(store.bytes(b"e/old").unwrap(), b"one");
    assert_eq!(fixture.names_as("/m/d", SyncMode::Now).await, [""; 0]);
    assert_eq!(fixture.rename("/m/d/a", "/m/d/b").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_directory_is_renamed_with_all_below() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["s/a", "s/b/c", "s/b/d/e", "s-not"]);
    store.insert(b"s/empty/", "");
    for n in 0..1500 {
        store.insert(format!("s/many/{n:04}").as_bytes(), "x");
    }
    let loaded = fixture.stat("/m/s/b/c").await.unwrap();
    fixture.rename("/m/s", "/m/t").await.unwrap();
    assert_eq!(fixture.names_as("/m", SyncMode::Now).await, ["s-not", "t/"]);
    assert_eq!(fixture.names_as("/m/t", SyncMode::Now).await, ["a", "b/", "empty/", "many/"]);
    assert_eq!(fixture.names("/m/t/many").await.len(), 1500);
    assert_eq!(fixture.stat("/m/t/b/c").await.unwrap().inode, loaded.inode);
    assert!(!keys(&store).iter().any(|key| key.starts_with("s/")));
    assert_eq!(store.bytes(b"t/b/d/e").unwrap(), b"s/b/d/e");
    let error = fixture.rename("/m/t", "/m/t/below").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    fixture.mkdir("/m/full/x").await.unwrap();
    assert_eq!(fixture.rename("/m/t", "/m/full").await.unwrap_err().kind, ErrorKind::NotEmpty);
}

#[tokio::test]
async fn a_rename_that_fails_at_the_store_leaves_everything_as_it_was() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["s/a", "s/b", "s/c/d"]);
    fixture.names("/m/s").await;
    let denied = store.error(forebay_ufs::UfsError::Denied, "planted");
    store.set_faults(move |operation, key| match operation {
        Operation::Copy if key.ends_with(b"d") => Fault::Fail(denied.clone()),
        _ => Fault::None,
    });
    let error = fixture.rename("/m/s", "/m/t").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert_eq!(keys(&store), ["s/a", "s/b", "s/c/d"]);
    assert_eq!(fixture.names_as("/m", SyncMode::Now).await, ["s/"]);
    store.clear_faults();
    fixture.rename("/m/s", "/m/t").await.unwrap();
    assert_eq!(fixture.names_as("/m/t", SyncMode::Now).await, ["a", "b", "c/"]);
}

#[tokio::test]
async fn a_rename_is_joined_and_goes_on_after_a_restart() {
    for point in ["rename: moved, not committed", "rename: committed, not cleaned"] {
        let (home, store, fixture) = setup().await;
        fill(&store, &["s/a", "s/b/c"]);
        fixture.names("/m/s").await;
        let request = RenameRequest { meta: fixture.meta(), from: "/m/s".into(), to: "/m/t".into(), no_replace: false };
        fault::plant(point);
        fixture.namespace.clone().rename(request.clone()).await.unwrap_err();
        fixture.master.shutdown().await;
        fault::clear(point);
        let fixture = home.start().await;
        fixture.namespace.clone().rename(request.clone()).await.unwrap();
        fixture.namespace.clone().rename(request).await.unwrap();
        eventually("the source is gone", async || keys(&store) == ["t/", "t/a", "t/b/c"]).await;
        assert_eq!(fixture.names_as("/m", SyncMode::Now).await, ["t/"]);
        assert_eq!(fixture.names_as("/m/t/b", SyncMode::Now).await, ["c"]);
    }
}

#[tokio::test]
async fn a_local_directory_renames_at_once() {
    let home = Home::new();
    let dir = home.store_dir("data");
    let fixture = home.start().await;
    fixture.mount("/l", &format!("file://{}", dir.display())).await;
    let store = local_store(&dir).await;
    let before = fixture.write(&*store, "/l/a/x", b"1").await.unwrap();
    fixture.rename("/l/a", "/l/b").await.unwrap();
    assert!(dir.join("b/x").is_file() && !dir.join("a").exists());
    let after = fixture.stat_as("/l/b/x", SyncMode::Now).await.unwrap();
    assert_eq!((after.inode, after.version), (before.inode, before.version));
    fixture.delete("/l/b").await.unwrap();
    fixture.purged().await;
    assert!(!dir.join("b").exists());
}

#[tokio::test]
async fn renames_outside_and_across_mounts() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["a"]);
    fixture.mkdir("/plain/x").await.unwrap();
    fixture.rename("/plain/x", "/plain/y").await.unwrap();
    assert_eq!(fixture.names("/plain").await, ["y/"]);
    let error = fixture.rename("/m/a", "/plain/a").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.hint.contains("copy"), "{error:?}");
    assert_eq!(fixture.rename("/m", "/n").await.unwrap_err().kind, ErrorKind::InvalidArgument);
    assert_eq!(fixture.delete("/m").await.unwrap_err().kind, ErrorKind::InvalidArgument);
    assert_eq!(keys(&store), ["a"]);
}

#[tokio::test]
async fn attributes_and_summaries_of_a_whole_tree() {
    let (_home, store, fixture) = setup().await;
    fill(&store, &["t/a", "t/b/c", "t/b/d/e"]);
    let summary = fixture
        .namespace
        .clone()
        .content_summary(ContentSummaryRequest { path: "/m/t".into(), ..ContentSummaryRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((summary.files, summary.directories, summary.length), (3, 3, 3 + 5 + 7));
    let request = SetAttributesRequest {
        meta: fixture.meta(),
        path: "/m/t".into(),
        owner: Some("ann".into()),
        mode: Some(0o750),
        set_xattrs: vec![Xattr { name: "user.k".into(), value: "v".into() }],
        recursive: true,
        ..SetAttributesRequest::default()
    };
    fixture.namespace.clone().set_attributes(request).await.unwrap();
    for path in ["/m/t", "/m/t/a", "/m/t/b/d/e"] {
        let entry = fixture.stat_as(path, SyncMode::Now).await.unwrap();
        assert_eq!((entry.owner.as_str(), entry.mode, entry.xattrs.len()), ("ann", 0o750, 1), "{path}");
    }
    let request = SetAttributesRequest {
        meta: fixture.meta(),
        path: "/m/t".into(),
        mode: Some(0o17777),
        ..SetAttributesRequest::default()
    };
    let refused = fixture.namespace.clone().set_attributes(request).await.unwrap_err();
    assert_eq!(error(refused).kind, ErrorKind::InvalidArgument);
}
