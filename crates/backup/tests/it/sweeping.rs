//! Sweeping while backups come.

use crate::common::*;
use forebay_backup::{BackupError, Manifest, Swept, Target, sweep};
use forebay_ufs::memory::{Fault, Operation};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// A target with one backup and a file that is of none, stored so long ago.
async fn with_leftover(ago: Duration) -> (TempDir, Target, Manifest) {
    let directory = tempfile::tempdir().unwrap();
    let target = in_directory(directory.path());
    let made = send(&target, state(&["used"]).path(), manifest(10, 1), &yes).await.unwrap().manifest;
    let left = directory.path().join(file_key("left"));
    std::fs::write(&left, "left").unwrap();
    for content in ["left", "used"] {
        age(&directory.path().join(file_key(content)), ago);
    }
    (directory, target, made)
}

fn age(path: &Path, ago: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - ago).unwrap();
}

#[tokio::test]
async fn what_no_backup_has_goes_when_it_is_an_hour_old() {
    for (minutes, goes) in [(50, false), (70, true)] {
        let (directory, target, made) = with_leftover(Duration::from_secs(minutes * 60)).await;
        let swept = sweep(&target, &made, None, &yes).await.unwrap();
        assert_eq!(swept, Swept { backups: 0, files: usize::from(goes), bytes: if goes { 4 } else { 0 } }, "{minutes}");
        assert_eq!(directory.path().join(file_key("left")).exists(), !goes, "after {minutes} minutes");
        assert!(directory.path().join(file_key("used")).exists());
    }
}

/// It asks before each request, so that one that leads no more takes nothing away.
#[tokio::test]
async fn who_may_no_more_takes_nothing_away() {
    let (directory, target, made) = with_leftover(Duration::from_secs(7200)).await;
    assert!(matches!(sweep(&target, &made, None, &no).await, Err(BackupError::GivenUp { .. })));
    assert!(directory.path().join(file_key("left")).exists());
    let newer = send(&target, state(&["used"]).path(), manifest(11, 2), &yes).await.unwrap().manifest;
    assert!(matches!(sweep(&target, &newer, Some(1), &no).await, Err(BackupError::GivenUp { .. })));
    assert_eq!(listed(&target).await, [made.id, newer.id]);
}

/// The next leader's manifest comes when the files have been listed already.
#[tokio::test]
async fn a_manifest_that_comes_late_keeps_its_files() {
    let (directory, target, made) = with_leftover(Duration::from_secs(7200)).await;
    let late = with_file(11, 2, "left");
    let path = directory.path().join(manifest_key(&late));
    let still = || {
        std::fs::write(&path, late.encode()).unwrap();
        yes()
    };
    assert_eq!(sweep(&target, &made, None, &still).await.unwrap().files, 0);
    assert!(directory.path().join(file_key("left")).exists());
}

/// Sweeps in memory, after backups with these files, the oldest first, all of which are old by now; the contents that stay.
async fn swept(name: &str, backups: &[[&str; 2]], made: usize, keep: usize) -> Vec<String> {
    let (store, target) = in_memory(name);
    let mut sent = Vec::new();
    for (day, contents) in (10..).zip(backups) {
        let manifest = manifest(day, u64::from(day));
        sent.push(send(&target, state(contents).path(), manifest, &yes).await.unwrap().manifest);
    }
    let contents: BTreeSet<&str> = backups.iter().flatten().copied().collect();
    contents.iter().for_each(|content| assert!(store.set_modified(file_key(content).as_bytes(), 0)));
    sweep(&target, &sent[made], Some(keep), &yes).await.unwrap();
    contents
        .into_iter()
        .filter(|content| store.bytes(file_key(content).as_bytes()).is_some())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn what_only_backups_have_that_go_goes_with_them() {
    let backups = [["all", "a"], ["all", "ab"], ["ab", "b"], ["all", "c"]];
    assert_eq!(swept("sweeping-last", &backups, 3, 2).await, ["ab", "all", "b", "c"]);
    assert_eq!(swept("sweeping-one", &backups, 3, 1).await, ["all", "c"]);
    // By one who leads no more: what was made just now stays beside those that are kept.
    assert_eq!(swept("sweeping-first", &backups, 0, 1).await, ["a", "all", "c"]);
}

#[tokio::test]
async fn manifests_are_read_once_and_side_by_side() {
    let (store, target) = in_memory("sweeping-reads");
    let mut made = None;
    for day in 10..14 {
        made =
            Some(send(&target, state(&["same"]).path(), manifest(day, u64::from(day)), &yes).await.unwrap().manifest);
    }
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    store.set_faults(move |operation, _| match operation {
        Operation::Read => Fault::Hold(held.clone()),
        _ => Fault::None,
    });
    let made = made.unwrap();
    let mut sweeping = std::pin::pin!(sweep(&target, &made, Some(2), &yes));
    while store.count(Operation::Read) < 4 {
        assert!(futures::poll!(&mut sweeping).is_pending());
        tokio::task::yield_now().await;
    }
    gate.add_permits(4);
    assert_eq!(sweeping.await.unwrap().backups, 2);
    assert_eq!(store.count(Operation::Read), 4);
}
