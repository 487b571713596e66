//! Full and broken disks: never an error, only misses.

use super::fixture::*;
use crate::{
    Access, DirSettings, Health, PageStore, Run, TierKind,
    disk::{Op, faults},
};
use forebay_base::{ByteSize, PageIndex};
use std::time::Duration;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const LENGTH: u64 = EXTENT as u64 * PAGE;

fn is_healthy(fixture: &Fixture, dir: usize) -> bool {
    fixture.store.status()[dir].health == Health::Healthy
}

#[test]
fn a_full_disk_takes_no_more_and_comes_back() {
    let fixture = Fixture::new(&[(TierKind::Ssd, ByteSize::mib(64)), (TierKind::Hdd, ByteSize::mib(64))]);
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..10);
    let reservation = fixture.store.reserve(a, m, 10..20).unwrap();
    faults::set(&fixture.dir(0), Op::Write, ENOSPC);
    let bytes = content(a, pages_of(10..11, LENGTH));
    assert_eq!(reservation.write(PageIndex(10), &bytes, None), crate::Stored::No);
    drop(reservation);
    let status = fixture.store.status().remove(0);
    assert!(matches!(&status.health, Health::ReadOnly { reason, .. } if reason.contains("space")), "{status:?}");
    fixture.check(a, m, 0..10 * PAGE);
    assert_eq!(fixture.fill(a, m, 10..20), 0, "the extent lies there");
    assert_eq!(fixture.fill(file(2), m, 0..10), 10, "others go to the next tier");
    assert_eq!(fixture.cached_pages(1), 10);
    faults::clear(&fixture.dir(0));
    until("it is healthy", || is_healthy(&fixture, 0));
    until("its space is measured", || fixture.fill(a, m, 10..20) == 10 || fixture.is_cached(a, m, 0..20 * PAGE));
    fixture.check(a, m, 0..20 * PAGE);
}

#[test]
fn a_page_written_without_its_record_takes_no_space() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..10);
    let reservation = fixture.store.reserve(a, m, 10..11).unwrap();
    let sums = files_with(&fixture.dir(0), ".sums").remove(0);
    faults::set(&sums, Op::Write, ENOSPC);
    let bytes = content(a, pages_of(10..11, LENGTH));
    assert_eq!(reservation.write(PageIndex(10), &bytes, None), crate::Stored::No);
    drop(reservation);
    faults::clear(&sums);
    assert_eq!(allocated(&files_with(&fixture.dir(0), ".data")[0]), 10 * PAGE);
    assert_eq!(fixture.used(), 10 * PAGE + 4096);
    until("it is healthy", || is_healthy(&fixture, 0));
    assert_eq!(fixture.fill(a, m, 10..20), 10);
    fixture.check(a, m, 0..20 * PAGE);
}

#[test]
fn a_broken_disk_is_a_miss_and_its_pages_come_back_with_it() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(4 * LENGTH));
    fixture.fill(a, m, 0..4 * EXTENT);
    faults::set(&fixture.dir(0), Op::Read, EIO);
    faults::set(&fixture.dir(0), Op::Write, EIO);
    let mut buf = vec![0; PAGE as usize];
    for page in 0..8 {
        assert_eq!(fixture.store.read_verified(a, m, page * PAGE, &mut buf, Access::Read), 0);
    }
    until("it is out of use", || matches!(fixture.store.status()[0].health, Health::Broken { .. }));
    assert!(
        fixture.store.lookup(a, m, 0..4 * LENGTH, Access::Read).iter().all(|run| matches!(run, Run::Missing { .. }))
    );
    assert!(fixture.store.reserve(file(2), m, 0..1).is_none());
    assert!(fixture.store.lease(a, m).is_none());
    assert_eq!(fixture.store.usage()[0].capacity, 0);
    faults::clear(&fixture.dir(0));
    until("it is healthy", || is_healthy(&fixture, 0));
    assert!(fixture.store.wait_until_scanned(Duration::from_secs(60)));
    fixture.check(a, m, LENGTH..4 * LENGTH);
    assert_eq!(fixture.fill(file(2), m, 0..1), 1);
}

#[test]
fn what_was_fetched_into_another_directory_meanwhile_is_kept_once() {
    let fixture = Fixture::new(&[(TierKind::Ssd, ByteSize::mib(64)), (TierKind::Hdd, ByteSize::mib(64))]);
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..10);
    faults::set(&fixture.dir(0), Op::Write, EIO);
    faults::set(&fixture.dir(0), Op::Read, EIO);
    assert_eq!(fixture.fill(a, m, 10..11), 0, "the first write finds out");
    assert_eq!(fixture.fill(file(2), m, 0..1), 1);
    assert_eq!(fixture.fill(a, m, 0..5), 5);
    assert_eq!(fixture.cached_pages(1), 6);
    faults::clear(&fixture.dir(0));
    until("it is healthy", || is_healthy(&fixture, 0));
    until("it is scanned", || fixture.store.status()[0].scanned);
    fixture.check(a, m, 0..5 * PAGE);
    assert_eq!((fixture.cached_pages(0), fixture.cached_pages(1)), (0, 6));
    assert!(files_with(&fixture.dir(0), ".data").is_empty());
}

#[test]
fn a_directory_that_is_missing_at_the_start_joins_later() {
    let temp = tempfile::tempdir().unwrap();
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let mut settings = fixture.settings.clone();
    // A file is in the way.
    let blocked = temp.path().join("disk");
    std::fs::write(&blocked, "").unwrap();
    settings.tiers[0].dirs = vec![DirSettings { path: blocked.clone(), quota: ByteSize::mib(64) }];
    drop(fixture);
    let store = PageStore::open(settings).unwrap();
    assert!(matches!(store.status()[0].health, Health::Broken { .. }));
    assert!(store.reserve(file(1), meta(LENGTH), 0..1).is_none());
    std::fs::remove_file(&blocked).unwrap();
    until("it joins", || store.status()[0].health == Health::Healthy);
    until("pages are stored", || fill(&store, file(1), meta(LENGTH), 0..1) == 1);
    check(&store, file(1), meta(LENGTH), 0..PAGE);
}

#[test]
fn files_deleted_behind_our_back_are_misses() {
    let fixture = Fixture::with(&[(TierKind::Ssd, ByteSize::mib(64))], |settings| settings.open_files_max = 16);
    for inode in 0..100 {
        fixture.fill(file(inode), meta(PAGE), 0..1);
    }
    for path in files_with(&fixture.dir(0), ".data").iter().chain(&files_with(&fixture.dir(0), ".sums")) {
        std::fs::remove_file(path).unwrap();
    }
    let mut buf = vec![0; PAGE as usize];
    let read =
        (0..100).filter(|inode| fixture.store.read_verified(file(*inode), meta(PAGE), 0, &mut buf, Access::Read) != 0);
    assert!(read.count() <= 40, "only those that are still open");
    for inode in 0..100 {
        // Those still open may be closed, and lost, at any time: a miss then, which mends it.
        if fixture.store.read_verified(file(inode), meta(PAGE), 0, &mut buf, Access::Read) == 0 {
            assert_eq!(fixture.fill(file(inode), meta(PAGE), 0..1), 1);
        }
        fixture.check(file(inode), meta(PAGE), 0..PAGE);
    }
    assert!(is_healthy(&fixture, 0));
}
