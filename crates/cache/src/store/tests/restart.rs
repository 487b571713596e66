//! What an earlier process left.

use super::fixture::*;
use crate::{Access, PageStore, TierKind};
use forebay_base::{ByteSize, PageIndex};
use std::{fs, time::Duration};

const LENGTH: u64 = 300 * PAGE + 99;

fn scanned(fixture: &Fixture) {
    assert!(fixture.store.wait_until_scanned(Duration::from_secs(60)));
}

#[test]
fn a_restarted_store_serves_its_old_pages_at_once() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    for inode in 0..50 {
        fixture.fill(file(inode), meta(LENGTH), 10..12);
        fixture.fill(file(inode), meta(LENGTH), 290..301);
    }
    let (used, pages) = (fixture.used(), fixture.cached_pages(0));
    let fixture = fixture.reopen();
    // Asked before the scan can be through, and again after it.
    for _ in 0..2 {
        for inode in 0..50 {
            fixture.check(file(inode), meta(LENGTH), 10 * PAGE..12 * PAGE);
            assert_eq!(fixture.found(file(inode), meta(LENGTH)), [10 * PAGE..12 * PAGE, 290 * PAGE..LENGTH]);
        }
        scanned(&fixture);
    }
    assert_eq!((fixture.used(), fixture.cached_pages(0)), (used, pages));
}

#[test]
fn until_the_scan_is_through_the_noted_usage_counts() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    fixture.fill(file(1), meta(LENGTH), 0..301);
    let used = fixture.used();
    fixture.store.close();
    let settings = fixture.settings.clone();
    let keep = fixture.reopen_after(|root| {
        assert_eq!(crate::layout::read_usage(&crate::waits::Waits::default().enter(root), &root.join("0")), used);
        // A store whose threads do not run: it knows only what was noted, and what it was asked for.
        let inner = std::sync::Arc::new(crate::store::Inner::new(settings).unwrap());
        inner.dirs[0].attach().unwrap();
        assert_eq!((inner.usage()[0].used, inner.usage()[0].pages), (used, 0));
        inner.load(file(1));
        assert_eq!((inner.usage()[0].used, inner.usage()[0].pages), (used, 301), "what is found is not counted twice");
        assert!(!inner.dirs[0].is_scanned());
    });
    scanned(&keep);
    assert_eq!(keep.used(), used);
}

#[test]
fn damage_done_while_it_was_down_is_a_miss() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    for inode in 0..4 {
        fixture.fill(file(inode), meta(LENGTH), 0..301);
    }
    let fixture = fixture.reopen_after(|root| {
        let path = |inode: u64, ending: &str| {
            let name = format!("{}.{ending}", file(inode));
            files_with(root, ending).into_iter().find(|path| path.ends_with(&name)).unwrap()
        };
        // 0: header; 1: data file gone; 2: data cut short; 3: one byte.
        flip(&path(0, "sums"), 20);
        fs::remove_file(path(1, "data")).unwrap();
        fs::OpenOptions::new().write(true).open(path(2, "data")).unwrap().set_len(100 * PAGE + 5).unwrap();
        flip(&path(3, "data"), 7);
    });
    assert!(fixture.found(file(0), meta(LENGTH)).is_empty());
    assert!(fixture.found(file(1), meta(LENGTH)).is_empty());
    assert!(fixture.is_cached(file(2), meta(LENGTH), 0..100 * PAGE));
    assert!(!fixture.is_cached(file(2), meta(LENGTH), 100 * PAGE..100 * PAGE + 1));
    fixture.check(file(2), meta(LENGTH), 0..100 * PAGE);
    let mut buf = [0; 100];
    assert_eq!(fixture.store.read_verified(file(3), meta(LENGTH), 0, &mut buf, Access::Read), 0);
    fixture.check(file(3), meta(LENGTH), PAGE..LENGTH);
    scanned(&fixture);
    assert_eq!(files_with(&fixture.dir(0), ".data").len(), 2);
    for inode in 0..4 {
        fixture.fill(file(inode), meta(LENGTH), 0..301);
        fixture.check(file(inode), meta(LENGTH), 0..LENGTH);
    }
}

#[test]
fn the_scan_removes_what_a_crash_left() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(64)), (TierKind::Ssd, ByteSize::mib(64))]);
    fixture.fill(file(1), meta(LENGTH), 0..301);
    fixture.fill(file(2), meta(LENGTH), 0..1);
    let fixture = fixture.reopen_after(|root| {
        let [one, two] = [1, 2].map(|inode| crate::layout::paths(&root.join("0"), file(inode)));
        // A move that was interrupted before its old copy was removed.
        let copy = crate::layout::paths(&root.join("1"), file(1));
        fs::create_dir_all(&copy.leaf).unwrap();
        fs::copy(&one.data, &copy.data).unwrap();
        fs::copy(&one.sums, &copy.sums).unwrap();
        // A file whose maker died before its checksum file, a page whose writer died before its record, and something not ours.
        fs::remove_file(&two.sums).unwrap();
        fs::OpenOptions::new().write(true).open(&one.data).unwrap();
        std::os::unix::fs::FileExt::write_all_at(
            &fs::OpenOptions::new().write(true).open(&one.data).unwrap(),
            &[1; 4096],
            5_000 * PAGE,
        )
        .unwrap();
        fs::write(copy.leaf.join("README"), "hands off").unwrap();
    });
    scanned(&fixture);
    fixture.check(file(1), meta(LENGTH), 0..LENGTH);
    assert_eq!(fixture.cached_pages(0) + fixture.cached_pages(1), 301);
    let data = files_with(&fixture.dir(0), ".data").into_iter().chain(files_with(&fixture.dir(1), ".data"));
    let data: Vec<_> = data.collect();
    assert_eq!(data.len(), 1, "{data:?}");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&data[0]).unwrap()) * 512;
    assert!(blocks <= 302 * PAGE, "{blocks} bytes are left");
    assert_eq!(files_with(&fixture.dir(1), "README").len(), 1);
}

#[test]
fn a_directory_in_use_is_refused() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let second = PageStore::open(fixture.settings.clone());
    assert!(matches!(second.err(), Some(crate::OpenError::Locked(_))));
    fixture.fill(file(1), meta(PAGE), 0..1);
    fixture.check(file(1), meta(PAGE), 0..PAGE);
}

#[test]
fn dropping_finds_what_is_not_loaded_yet() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    for inode in 0..3 {
        fixture.fill(file(inode), meta(LENGTH), 0..10);
    }
    let fixture = fixture.reopen();
    fixture.store.drop_file(file(0));
    fixture.store.drop_inode(file(1).inode);
    fixture.store.drop_page(file(2), PageIndex(4));
    assert!(fixture.found(file(0), meta(LENGTH)).is_empty());
    assert!(fixture.found(file(1), meta(LENGTH)).is_empty());
    assert_eq!(fixture.found(file(2), meta(LENGTH)), [0..4 * PAGE, 5 * PAGE..10 * PAGE]);
    scanned(&fixture);
    assert_eq!(fixture.cached_pages(0), 9);
}
