//! Which backup is newer: the log says, not the clock.

use crate::common::*;
use forebay_backup::{BackupError, find, list, sweep};

#[tokio::test]
async fn the_log_orders_backups_and_not_the_clock() {
    let (store, target) = in_memory("newer-order");
    // The second one is from a clock that was two weeks ahead.
    let all = [manifest(10, 1), manifest(27, 2), manifest(11, 3), manifest(12, 4)];
    for (manifest, content) in all.iter().zip(["a", "b", "c", "d"]) {
        send(&target, state(&[content]).path(), manifest.clone(), &yes).await.unwrap();
    }
    let ids: Vec<_> = all.iter().map(|manifest| manifest.id.clone()).collect();
    assert_eq!(listed(&target).await, ids);
    assert_eq!(find(&target, None).await.unwrap().id, ids[3]);
    assert_eq!(target.newest(CLUSTER).await.unwrap().unwrap().id, ids[3]);
    let made = find(&target, None).await.unwrap();
    assert_eq!(sweep(&target, &made, Some(2), &yes).await.unwrap().backups, 2);
    assert_eq!(listed(&target).await, ids[2..]);
    drop(store);
}

#[tokio::test]
async fn the_one_that_was_made_just_now_is_never_swept() {
    let (_store, target) = in_memory("newer-made");
    for (day, index) in [(10, 5), (11, 6)] {
        send(&target, state(&["later"]).path(), manifest(day, index), &yes).await.unwrap();
    }
    // By one who leads no more and does not know it.
    let made = send(&target, state(&["earlier"]).path(), manifest(9, 4), &yes).await.unwrap().manifest;
    sweep(&target, &made, Some(1), &yes).await.unwrap();
    assert_eq!(listed(&target).await, [made.id, manifest(11, 6).id]);
}

#[tokio::test]
async fn what_cannot_be_read_is_none_of_those_that_are_kept() {
    let (store, target) = in_memory("newer-unreadable");
    for (day, index) in [(10, 1), (11, 2), (12, 3)] {
        send(&target, state(&["same"]).path(), manifest(day, index), &yes).await.unwrap();
    }
    // Damaged ones before and after the others, and one of a newer version.
    let (before, after, newer) = (manifest(1, 0), manifest(28, 0), manifest(2, 0));
    store.insert(manifest_key(&before).as_bytes(), "damaged");
    store.insert(manifest_key(&after).as_bytes(), "damaged");
    let text = String::from_utf8(with_file(2, 0, "x").encode()).unwrap();
    store.insert(manifest_key(&newer).as_bytes(), text.replacen("backup 1", "backup 2", 1));
    let made = find(&target, Some(manifest(12, 3).id.as_str())).await.unwrap();
    let swept = sweep(&target, &made, Some(2), &yes).await.unwrap();
    assert_eq!(swept.backups, 2, "the oldest one that can be read, and the damaged one before those that are kept");
    assert_eq!(listed(&target).await, [newer.id, after.id.clone(), manifest(11, 2).id, manifest(12, 3).id]);
    // It may be newer than all others, so none of them is taken for it unasked.
    assert!(matches!(find(&target, None).await, Err(BackupError::Damaged { .. })));
    store.remove(manifest_key(&after).as_bytes());
    assert_eq!(find(&target, None).await.unwrap().id, manifest(12, 3).id);
}

#[tokio::test]
async fn one_that_is_taken_away_while_it_is_read_is_not_found() {
    let (store, target) = in_memory("newer-gone");
    let made = send(&target, state(&["a"]).path(), manifest(10, 1), &yes).await.unwrap().manifest;
    store.remove(file_key("a").as_bytes());
    let fetched = tempfile::tempdir().unwrap();
    let outcome = forebay_backup::fetch(&target, &made, fetched.path(), &|_| ()).await;
    assert!(matches!(outcome, Err(BackupError::Damaged { .. })), "{outcome:?}");
    store.remove(manifest_key(&made).as_bytes());
    let outcome = forebay_backup::fetch(&target, &made, fetched.path(), &|_| ()).await;
    assert!(matches!(outcome, Err(BackupError::NotFound { .. })), "{outcome:?}");
    assert!(list(&target).await.unwrap().is_empty());
}
