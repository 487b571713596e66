//! Sending while another one sweeps or sends.

use crate::common::*;
use forebay_backup::{BackupError, sweep};
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Who led before sweeps while the manifest is on its way: the files are sent again, as long as the copy is there.
#[tokio::test]
async fn files_that_go_while_the_manifest_is_put_are_sent_again() {
    let (store, target) = in_memory("sending-gone");
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    store.set_faults(move |operation, key| {
        match operation == Operation::Put && String::from_utf8_lossy(key).contains("/backups/") {
            true => Fault::Hold(held.clone()),
            false => Fault::None,
        }
    });
    let state = state(&["a", "b"]);
    let mut sending = std::pin::pin!(send(&target, state.path(), manifest(10, 1), &yes));
    while store.count(Operation::Put) < 3 {
        assert!(futures::poll!(&mut sending).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(store.remove(file_key("a").as_bytes()), "it was there");
    gate.add_permits(1);
    let sent = sending.await.unwrap();
    assert_eq!((sent.sent_files, sent.manifest.files.len()), (3, 2));
    assert_eq!(store.bytes(file_key("a").as_bytes()).unwrap(), b"a");
    assert_eq!(listed(&target).await, [sent.manifest.id]);
}

#[tokio::test]
async fn a_backup_whose_files_cannot_be_brought_back_is_none() {
    let (store, target) = in_memory("sending-lost");
    // As soon as the manifest is there, all files go again and again.
    let seen = Arc::downgrade(&store);
    store.set_faults(move |operation, key| {
        if let Some(store) = seen.upgrade().filter(|_| operation == Operation::List && key.ends_with(b"/files"))
            && store.keys().iter().any(|key| String::from_utf8_lossy(key).contains("/backups/"))
        {
            store.remove(file_key("a").as_bytes());
        }
        Fault::None
    });
    let outcome = send(&target, state(&["a"]).path(), manifest(10, 1), &yes).await;
    assert!(matches!(outcome, Err(BackupError::GivenUp { .. })), "{outcome:?}");
    assert!(listed(&target).await.is_empty(), "its manifest is there");
}

#[tokio::test]
async fn who_may_no_more_changes_nothing() {
    let (store, target) = in_memory("sending-refused");
    store.insert(format!("{CLUSTER}/files/{}", sum("other")).as_bytes(), "other");
    let before = store.keys();
    let state = state(&["a"]);
    assert!(matches!(send(&target, state.path(), manifest(10, 1), &no).await, Err(BackupError::GivenUp { .. })));
    assert_eq!(store.keys(), before);
    assert_eq!(store.count(Operation::ListUploads), 0, "uploads of who leads now are left alone");
    // It learns it after its files are there.
    let files = state.path().to_owned();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let still = || match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 | 1 => yes(),
        _ => no(),
    };
    assert!(matches!(send(&target, &files, manifest(10, 1), &still).await, Err(BackupError::GivenUp { .. })));
    assert!(listed(&target).await.is_empty(), "its manifest is there");
}

/// Two that both believe that they lead, each of which may have the other's files for left ones: what is listed in the end has all its files.
#[tokio::test]
async fn two_at_once_leave_only_whole_backups() {
    let mut swept = 0;
    for round in 0..ROUNDS {
        let (store, target) = in_memory(&format!("sending-two-{round}"));
        // Left by some that were given up, long ago: whoever has one of them takes it for sent.
        for content in ["both", "one", "two"] {
            store.insert(file_key(content).as_bytes(), content);
            store.set_modified(file_key(content).as_bytes(), 0);
        }
        interleave(&store, round);
        let (one, two) = (state(&["both", "one"]), state(&["both", "two"]));
        let work = async |state: &tempfile::TempDir, day| {
            let sent = send(&target, state.path(), manifest(day, u64::from(day)), &yes).await.unwrap();
            match sweep(&target, &sent.manifest, Some(1 + round as usize % 2), &yes).await {
                Ok(swept) => swept.files,
                // The other one may have swept it already.
                Err(BackupError::NotFound { .. }) => 0,
                Err(error) => panic!("round {round}: {error}"),
            }
        };
        let (by_one, by_two) = tokio::join!(work(&one, 10), work(&two, 11));
        swept += by_one + by_two;
        let all = forebay_backup::list(&target).await.unwrap();
        assert!(!all.is_empty(), "round {round}");
        for listed in all {
            for file in listed.manifest.unwrap().files {
                let key = format!("{CLUSTER}/files/{}", file.sha256);
                let length = store.bytes(key.as_bytes()).map(|bytes| bytes.len() as u64);
                assert_eq!(length, Some(file.length), "round {round}: {} of backup {}", file.name, listed.id);
            }
        }
    }
    assert!(swept > 0, "nothing was ever old enough to be swept");
}

/// Enough that each of the two is overtaken by the other at every step.
const ROUNDS: u64 = 200;

/// Has each call wait for a while that `seed` says. A delete does not wait: it follows the look at the manifests at once.
fn interleave(store: &MemoryUfs, seed: u64) {
    let random = Mutex::new(StdRng::seed_from_u64(seed));
    store.set_faults(move |operation, _| {
        if operation == Operation::Delete {
            return Fault::None;
        }
        let (gate, turns) = (Arc::new(Semaphore::new(0)), random.lock().unwrap().random_range(0..TURNS_MAX));
        let held = gate.clone();
        tokio::spawn(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            gate.add_permits(1);
        });
        Fault::Hold(held)
    });
}

/// Turns of the scheduler that a call waits at most.
const TURNS_MAX: u32 = 64;
