//! Metadata calls: retries, request ids, listings that are taken up again.

use crate::fake::FakeCluster;
use forebay_client::{ErrorKind, ListOptions, MakeDirectoryOptions, Name};
use futures::TryStreamExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_under_the_same_id() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client().await;
    cluster.state.lose_replies.store(2, Ordering::Relaxed);
    let made = client.make_directory("/d", MakeDirectoryOptions::default()).await.unwrap();
    assert!(made.is_directory());
    client.make_directory("/e", MakeDirectoryOptions::default()).await.unwrap();
    let metas = cluster.state.mutations.lock().clone();
    let numbers: Vec<_> = metas.iter().map(|meta| (meta.sequence, meta.acked_below)).collect();
    assert_eq!(numbers, [(1, 1), (1, 1), (1, 1), (2, 2)]);
    assert!(metas.iter().all(|meta| meta.client == metas[0].client));
}

#[tokio::test]
async fn a_restart_of_the_master_is_a_pause() {
    let mut cluster = FakeCluster::start(1).await;
    cluster.put("/a", 10, 64 << 10);
    let client = cluster.client().await;
    client.stat("/a").await.unwrap();
    let calls = tokio::spawn(async move {
        for _ in 0..200 {
            client.stat("/a").await.unwrap();
            tokio::task::yield_now().await;
        }
        client
    });
    let state = cluster.state.clone();
    cluster.master.restart(state, Duration::from_millis(300)).await;
    let client = calls.await.unwrap();
    assert_eq!(client.stat("/a").await.unwrap().length, 10);
}

#[tokio::test]
async fn errors_come_with_kind_and_message() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client().await;
    let error = client.stat("/missing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("/missing"), "{error}");
    let error = client.stat("relative").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_listing_that_breaks_off_goes_on_where_it_was() {
    let cluster = FakeCluster::start(1).await;
    for n in 0..95 {
        cluster.put(&format!("/d/{n:03}"), n, 64 << 10);
    }
    let client = cluster.client().await;
    for lost in [0, 1, 2] {
        cluster.state.lose_replies.store(lost, Ordering::Relaxed);
        let entries: Vec<_> = client.list("/d").unwrap().try_collect().await.unwrap();
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.to_string()).collect();
        let expected: Vec<_> = (0..95).map(|n| format!("/d/{n:03}")).collect();
        assert_eq!(paths, expected, "after {lost} breaks");
    }
    cluster.state.lose_replies.store(1, Ordering::Relaxed);
    let options =
        ListOptions { start_after: Some(Name::new("019").unwrap()), limit: Some(45), ..ListOptions::default() };
    let entries: Vec<_> = client.list_with("/d", options).unwrap().try_collect().await.unwrap();
    assert_eq!(entries.len(), 45);
    assert_eq!(entries[0].name(), Some(Name::new("020").unwrap()));
    assert_eq!(entries[44].name(), Some(Name::new("064").unwrap()));
}
