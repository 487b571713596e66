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
fn a_file_system_without_holes_is_refused() {
    const EOPNOTSUPP: i32 = 95;
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (settings, dir) = (fixture.settings.clone(), fixture.dir(0));
    fixture.fill(file(1), meta(LENGTH), 0..10);
    // One that changes under us (the directory is mounted anew) stays out of use.
    faults::set(&dir, Op::Punch, EOPNOTSUPP);
    fixture.store.drop_page(file(1), PageIndex(0));
    assert!(!fixture.store.inner.dirs[0].try_again());
    faults::clear(&dir);
    until("it is healthy", || is_healthy(&fixture, 0));
    let _fixture = fixture.reopen_after(|root| {
        let dir = root.join("0");
        faults::set(&dir, Op::Punch, EOPNOTSUPP);
        let refused = PageStore::open(settings).err();
        assert!(matches!(&refused, Some(crate::OpenError::NoHoles { path, .. }) if *path == dir), "{refused:?}");
        assert!(!dir.join("probe").exists());
        faults::clear(&dir);
    });
}

#[test]
fn a_page_written_without_its_record_takes_no_space() {
    // A disk that says it is full has what it holds for its limit: nothing of that may be evicted meanwhile.
    let fixture = Fixture::with(&[(TierKind::Ssd, ByteSize::mib(64))], |settings| settings.high_watermark = 1.0);
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
fn a_directory_that_was_removed_is_out_of_use_until_the_next_start() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let m = meta(LENGTH);
    fixture.fill(file(1), m, 0..10);
    let dir = fixture.dir(0);
    // Its keeper may be writing a note there.
    until("it is removed", || std::fs::remove_dir_all(&dir).is_ok());
    std::fs::create_dir(&dir).unwrap();
    // As many as are sure to need a directory of their own.
    for other in 2..20 {
        fixture.fill(file(other), m, 0..10);
    }
    let told = || match &fixture.store.status()[0].health {
        Health::Broken { reason, .. } => reason.contains("restart the worker"),
        _ => false,
    };
    until("it is out of use", told);
    assert!(!dir.join("pages").exists(), "nothing is made without a marker");
    // What the worker keeps of its own accord is no reason to refuse the directory.
    std::fs::write(dir.join("usage"), "1").unwrap();
    let fixture = fixture.reopen();
    assert_eq!(fixture.fill(file(1), m, 0..10), 10);
    fixture.check(file(1), m, 0..10 * PAGE);
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

#[test]
fn a_disk_that_hangs_is_out_of_use_until_it_has_answered() {
    let dirs = [(TierKind::Ssd, ByteSize::mib(64)), (TierKind::Hdd, ByteSize::mib(64))];
    let fixture = Fixture::with(&dirs, |settings| settings.silence_max = Duration::from_millis(200));
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..10);
    let hang = crate::testing::hang(&fixture.dir(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| fixture.store.read_verified(a, m, 0, &mut vec![0; PAGE as usize], Access::Read));
        until(
            "it is out of use",
            || matches!(&fixture.store.status()[0].health, Health::Broken { reason, .. } if reason.contains("answer")),
        );
        assert!(!reader.is_finished());
        // Nobody asks it any more.
        assert!(
            fixture.store.lookup(a, m, 0..LENGTH, Access::Read).iter().all(|run| matches!(run, Run::Missing { .. }))
        );
        assert_eq!(fixture.fill(file(2), m, 0..10), 10);
        assert_eq!(fixture.cached_pages(1), 10);
        drop(hang);
        assert_eq!(reader.join().unwrap(), PAGE as usize);
    });
    until("it is healthy", || is_healthy(&fixture, 0));
    assert!(fixture.store.wait_until_scanned(Duration::from_secs(60)));
    fixture.check(a, m, 0..10 * PAGE);
}

#[test]
fn a_store_whose_disk_hangs_closes() {
    let fixture = Fixture::with(&[(TierKind::Ssd, ByteSize::mib(64))], |settings| {
        settings.silence_max = Duration::from_millis(200)
    });
    let hang = crate::testing::hang(&fixture.dir(0));
    fixture.store.close();
    drop(hang);
}

const SILENCE_MAX: Duration = Duration::from_millis(200);

fn quick(dirs: &[(TierKind, ByteSize)]) -> Fixture {
    Fixture::with(dirs, |settings| settings.silence_max = SILENCE_MAX)
}

const TWO_DISKS: [(TierKind, ByteSize); 2] = [(TierKind::Ssd, ByteSize::mib(64)), (TierKind::Hdd, ByteSize::mib(64))];

fn is_silent(fixture: &Fixture, number: usize) -> bool {
    let health = &fixture.store.status()[number].health;
    matches!(health, Health::Broken { reason, .. } if reason.contains("answer"))
}

#[test]
fn a_page_whose_writing_fails_keeps_its_bytes_under_a_lease() {
    let fixture = Fixture::with(&[(TierKind::Ssd, ByteSize::mib(64))], |settings| settings.high_watermark = 1.0);
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..10);
    let lease = fixture.store.lease(a, m).unwrap();
    // Found to be damaged somewhere, and fetched again.
    fixture.store.drop_page(a, PageIndex(0));
    let sums = files_with(&fixture.dir(0), ".sums").remove(0);
    let reservation = fixture.store.reserve(a, m, 0..1).unwrap();
    faults::set(&sums, Op::Write, ENOSPC);
    assert_eq!(reservation.write(PageIndex(0), &content(a, pages_of(0..1, LENGTH)), None), crate::Stored::No);
    drop(reservation);
    faults::clear(&sums);
    let mut page = vec![0; PAGE as usize];
    rustix::io::pread(lease.data(), &mut page, 0).unwrap();
    assert!(page == content(a, 0..PAGE), "a client may have checked it before");
    drop(lease);
    let data = files_with(&fixture.dir(0), ".data").remove(0);
    until("it is punched after the lease", || allocated(&data) == 9 * PAGE);
    assert_eq!(fixture.used(), 9 * PAGE + 4096);
}

#[test]
fn letting_go_waits_for_no_disk() {
    let fixture = quick(&TWO_DISKS);
    let m = meta(LENGTH);
    fixture.fill(file(1), m, 0..10);
    let unwritten = fixture.store.reserve(file(2), m, 0..10).unwrap();
    let lease = fixture.store.lease(file(1), m).unwrap();
    let runs = fixture.store.lookup(file(1), m, 0..LENGTH, Access::Read);
    fixture.store.drop_file(file(1));
    let hang = crate::testing::hang(&fixture.dir(0));
    let dropping = std::thread::spawn(move || drop((unwritten, runs, lease)));
    until("all is let go of", || dropping.is_finished());
    until("the keeper waits in their place", || hang.waiting() > 0);
    drop(hang);
    until("it is healthy", || is_healthy(&fixture, 0));
    fixture.settle();
    assert!(files_with(&fixture.dir(0), ".data").is_empty(), "the empty file is unlinked");
    assert_eq!(fixture.used(), 0);
}

#[test]
fn a_file_that_was_asked_of_a_disk_that_hangs_goes_to_another() {
    let fixture = quick(&TWO_DISKS);
    let (a, m) = (file(1), meta(LENGTH));
    let hang = crate::testing::hang(&fixture.dir(0));
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(|| fixture.store.reserve(a, m, 0..1).is_some())).collect();
        until("it is out of use", || is_silent(&fixture, 0));
        until("one waits for the disk, and none for the one", || {
            hang.waiting() <= 2 && askers.iter().filter(|asker| asker.is_finished()).count() == 3
        });
        let waiting = hang.waiting();
        for page in 1..20 {
            let asked = std::time::Instant::now();
            assert!(fixture.store.reserve(a, m, page..page + 1).is_some());
            assert_eq!(fixture.fill(a, m, page..page + 1), 1, "page {page}");
            assert!(asked.elapsed() < SILENCE_MAX, "page {page}: {:?}", asked.elapsed());
        }
        fixture.store.drop_page(a, PageIndex(3));
        assert_eq!(hang.waiting(), waiting);
        drop(hang);
        assert!(askers.into_iter().map(|asker| asker.join().unwrap()).filter(|had| *had).count() >= 3);
    });
    until("it is healthy", || is_healthy(&fixture, 0));
    fixture.settle();
    fixture.check(a, m, 4 * PAGE..20 * PAGE);
}

/// A keeper that moves pages to a disk that hangs.
fn moving_to_a_hung_disk() -> (Fixture, crate::testing::Hang) {
    let dirs = [(TierKind::Ssd, ByteSize::mib(8)), (TierKind::Hdd, ByteSize::mib(64))];
    let fixture = Fixture::with(&dirs, |settings| {
        settings.silence_max = 5 * SILENCE_MAX;
        (settings.low_watermark, settings.high_watermark) = (0.5, 0.7);
    });
    for inode in 1..6 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
    }
    let hang = crate::testing::hang(&fixture.dir(1));
    // All of them have a place in the first.
    for inode in 6..8 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
    }
    until("a move waits for the disk", || hang.waiting() > 0);
    (fixture, hang)
}

#[test]
fn a_keeper_does_not_wait_for_the_disk_of_another() {
    let (fixture, hang) = moving_to_a_hung_disk();
    until("the other is out of use", || is_silent(&fixture, 1));
    drop(fixture.store.reserve(file(20), meta(LENGTH), 0..1));
    until("the first does its chores", || !fixture.store.inner.dirs[0].chores().are_pending());
    assert!(is_healthy(&fixture, 0));
    drop(hang);
    until("it is healthy", || is_healthy(&fixture, 1));
}

#[test]
fn a_store_closes_though_a_healthy_disks_keeper_waits_for_another() {
    let (fixture, hang) = moving_to_a_hung_disk();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| fixture.store.close());
        until("it is closed", || closing.is_finished());
    });
    drop(hang);
}

#[test]
fn a_store_opens_beside_a_disk_that_hangs() {
    let fixture = quick(&TWO_DISKS);
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..10);
    let mut hang = None;
    let fixture = fixture.reopen_after(|dirs| hang = Some(crate::testing::hang(&dirs.join("0"))));
    assert!(is_silent(&fixture, 0) && is_healthy(&fixture, 1));
    assert_eq!(fixture.fill(file(2), m, 0..10), 10);
    drop(hang);
    until("it joins", || is_healthy(&fixture, 0));
    assert!(fixture.store.wait_until_scanned(Duration::from_secs(60)));
    fixture.check(a, m, 0..10 * PAGE);
    fixture.check(file(2), m, 0..10 * PAGE);
}

#[test]
fn a_disk_that_hangs_again_is_left_alone_for_longer() {
    let fixture = quick(&TWO_DISKS);
    let (a, m) = (file(1), meta(LENGTH));
    for time in 0..2 {
        let hang = crate::testing::hang(&fixture.dir(0));
        let mut answered = std::time::Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| fixture.store.reserve(a, m, 0..1));
            until("it is out of use", || is_silent(&fixture, 0));
            answered = std::time::Instant::now();
            drop(hang);
        });
        until("it is healthy", || is_healthy(&fixture, 0));
        assert!(time == 0 || answered.elapsed() >= SILENCE_MAX, "{:?}", answered.elapsed());
    }
}

#[test]
fn only_a_file_system_that_is_memory_is_read_without_asking() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(64))]);
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..1);
    let Some(Run::Present(pinned)) = fixture.store.lookup(a, m, 0..PAGE, Access::Read).pop() else {
        panic!("it is cached");
    };
    let dir = fixture.dir(0);
    let is_memory = crate::disk::is_memory(&crate::waits::Waits::default().enter(&dir), &dir).unwrap();
    assert_eq!(pinned.is_on_memory(), is_memory, "whatever the tier is called");
    let hang = crate::testing::hang(&dir);
    let read = pinned.try_read_summed(&mut vec![0; PAGE as usize]);
    assert_eq!(read.is_some(), is_memory);
    drop(hang);
}
