//! Descriptors in the hands of clients.

use super::fixture::*;
use crate::{Access, LEASE_GRACE, TierKind};
use forebay_base::{ByteSize, PageIndex};
use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::Arc,
    time::Instant,
};

const LENGTH: u64 = EXTENT as u64 * PAGE;

#[test]
fn a_client_reads_through_its_descriptors() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(3 * LENGTH + 777));
    let lease = fixture.store.lease(a, m).unwrap();
    let local = local_file(&lease, a);
    let mut buf = vec![0; 5 * PAGE as usize];
    assert_eq!(local.read_verified(0, &mut buf), 0);
    fixture.fill(a, m, 60..70);
    fixture.fill(a, m, 192..193);
    assert_eq!(local.read_verified(61 * PAGE + 5, &mut buf), buf.len());
    assert!(buf == content(a, 61 * PAGE + 5..66 * PAGE + 5));
    assert_eq!(local.read_verified(69 * PAGE + 1, &mut buf) as u64, PAGE - 1, "a miss follows");
    assert_eq!(local.read_verified(3 * LENGTH, &mut buf), 777, "the file ends");
    assert!(
        crate::LocalFile::new(
            file(2),
            lease.data().try_clone_to_owned().unwrap(),
            lease.checksums().try_clone_to_owned().unwrap()
        )
        .is_err()
    );
    assert!(rustix::io::pwrite(lease.data(), b"x", 0).is_err(), "clients only read");
}

#[test]
fn a_leased_file_is_never_punched_and_counts_until_the_end() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    let (a, m) = (file(1), meta(4 * LENGTH));
    fixture.fill(a, m, 0..4 * EXTENT);
    let lease = fixture.store.lease(a, m).unwrap();
    let local = local_file(&lease, a);
    for inode in 10..40 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
    }
    let mut buf = vec![0; 4 * LENGTH as usize];
    assert_eq!(local.read_verified(0, &mut buf), buf.len(), "nothing of it was evicted");
    fixture.store.drop_file(a);
    assert!(lease.is_stale() && fixture.found(a, m).is_empty());
    assert_eq!(local.read_verified(0, &mut buf), buf.len(), "the descriptor keeps its bytes");
    assert!(buf == content(a, 0..4 * LENGTH));
    fixture.store.drop_inode(file(1).inode);
    (10..40).for_each(|inode| fixture.store.drop_file(file(inode)));
    assert_eq!(fixture.used(), 4 * LENGTH + 4 * 4096, "its space counts");
    drop(lease);
    fixture.settle();
    assert_eq!(fixture.used(), 0);
}

#[test]
fn leases_are_bounded() {
    let fixture = Fixture::with(&[(TierKind::Ssd, ByteSize::mib(64))], |settings| settings.leases_max = 3);
    let leases: Vec<_> = (0..5).map(|inode| fixture.store.lease(file(inode), meta(PAGE))).collect();
    assert_eq!(leases.iter().flatten().count(), 3);
    drop(leases);
    assert_eq!(fixture.store.inner.lease_count(), 0);
    fixture.settle();
    assert!(files_with(&fixture.dir(0), ".data").is_empty(), "empty files go with their last lease");
    assert!(fixture.store.lease(file(9), meta(PAGE)).is_some());
}

#[test]
fn pages_come_to_the_leased_file() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(8)), (TierKind::Ssd, ByteSize::mib(64))]);
    let (a, m) = (file(1), meta(10 * LENGTH));
    // Too large for memory as a whole, so it is leased from the disk; its pages were put into memory before.
    fixture.fill(a, m, 0..2 * EXTENT);
    let lease = fixture.store.lease(a, m).unwrap();
    assert_eq!(lease.tier(), TierKind::Ssd);
    let local = local_file(&lease, a);
    assert!(!lease.localize(0..3 * LENGTH), "a part is not cached at all");
    assert!(lease.localize(0..2 * LENGTH));
    fixture.fill(a, m, 2 * EXTENT..4 * EXTENT);
    let mut buf = vec![0; 4 * LENGTH as usize];
    assert_eq!(local.read_verified(0, &mut buf), buf.len());
    assert!(buf == content(a, 0..4 * LENGTH));
    assert_eq!(fixture.cached_pages(0), 0);
    fixture.check(a, m, 0..4 * LENGTH);
}

#[test]
fn an_extent_that_leaves_a_leased_file_is_punched_after_the_lease() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(64)), (TierKind::Ssd, ByteSize::mib(64))]);
    let (a, m) = (file(1), meta(2 * LENGTH));
    fixture.fill(a, m, 0..2 * EXTENT);
    let lease = fixture.store.lease(a, m).unwrap();
    assert_eq!(lease.tier(), TierKind::Mem);
    let local = local_file(&lease, a);
    // Another process's client reads from the disk: the first extent moves there.
    let inner = &fixture.store.inner;
    let key = crate::index::ExtentKey { file: a, extent: 0 };
    let handle = inner.index.lock(&key).find(&key).unwrap().0;
    let space = LENGTH + 4096;
    assert!(inner.dirs[1].reserve(space));
    assert!(inner.move_extent(key, handle, &inner.dirs[1], space, crate::policy::Queue::Small));
    assert_eq!(fixture.store.usage()[0].used, 2 * space, "not punched under a lease");
    let mut buf = vec![0; LENGTH as usize];
    assert_eq!(local.read_verified(0, &mut buf), 0, "its records are blank");
    rustix::io::pread(lease.data(), &mut buf, 0).unwrap();
    assert!(buf == content(a, 0..LENGTH), "its bytes are not");
    drop(lease);
    fixture.settle();
    assert_eq!(fixture.store.usage()[0].used, space);
    assert_eq!(fixture.store.usage()[1].used, space);
    fixture.check(a, m, 0..2 * LENGTH);
}

#[test]
fn an_extent_that_comes_back_to_a_leased_file_counts_once() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(8)), (TierKind::Ssd, ByteSize::mib(8))]);
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..EXTENT);
    let lease = fixture.store.lease(a, m).unwrap();
    assert_eq!(lease.tier(), TierKind::Mem);
    let inner = &fixture.store.inner;
    assert!(!inner.evict_one(&inner.dirs[0], crate::store::evict::How::Demote), "nothing would be won");
    let key = crate::index::ExtentKey { file: a, extent: 0 };
    let space = LENGTH + 4096;
    for _ in 0..20 {
        let handle = inner.index.lock(&key).find(&key).unwrap().0;
        assert!(inner.dirs[1].reserve(space));
        assert!(inner.move_extent(key, handle, &inner.dirs[1], space, crate::policy::Queue::Small));
        assert!(lease.localize(0..LENGTH));
    }
    let used = || fixture.store.usage().iter().map(|tier| tier.used).collect::<Vec<_>>();
    assert_eq!(used(), [space, 0]);
    drop(lease);
    fixture.settle();
    assert_eq!(used(), [space, 0]);
    fixture.check(a, m, 0..LENGTH);
}

#[test]
fn what_is_leased_does_not_keep_the_rest_from_being_evicted() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    let (a, b, m) = (file(1), file(2), meta(2 * LENGTH));
    fixture.fill(b, m, 0..2 * EXTENT);
    // What was there at the start is in the main queue, what comes in the small one.
    let fixture = fixture.reopen();
    assert!(fixture.store.wait_until_scanned(std::time::Duration::from_secs(60)));
    fixture.fill(a, m, 0..2 * EXTENT);
    let lease = fixture.store.lease(a, m).unwrap();
    let inner = &fixture.store.inner;
    let evict = || inner.evict_one(&inner.dirs[0], crate::store::evict::How::Drop);
    // The first looks may only find out that the others are leased.
    assert!((0..4).filter(|_| evict()).count() >= 2);
    assert_eq!(fixture.found(b, m), []);
    let whole = 0..2 * LENGTH;
    assert_eq!(fixture.found(a, m), std::slice::from_ref(&whole));
    drop(lease);
}

#[test]
fn damage_in_a_leased_file_is_mended_in_place() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..EXTENT);
    let lease = Arc::new(fixture.store.lease(a, m).unwrap());
    let local = local_file(&lease, a);
    flip(&files_with(&fixture.dir(0), ".data")[0], 3 * PAGE + 9);
    let mut buf = vec![0; PAGE as usize];
    assert_eq!(local.read_verified(3 * PAGE, &mut buf), 0);
    // The client asks the worker to verify.
    assert_eq!(fixture.store.read_verified(a, m, 3 * PAGE, &mut buf, Access::Read), 0);
    assert_eq!(fixture.fill(a, m, 0..EXTENT), 1);
    assert_eq!(local.read_verified(3 * PAGE, &mut buf), buf.len());
    assert!(buf == content(a, 3 * PAGE..4 * PAGE) && !lease.is_stale());
}

fn first_page(data: &File) -> Vec<u8> {
    let mut page = vec![0; PAGE as usize];
    data.read_exact_at(&mut page, 0).unwrap();
    page
}

#[test]
fn what_a_killed_process_handed_out_stays_for_a_while() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..EXTENT);
    let data = File::from(fixture.store.lease(a, m).unwrap().data().as_fd().try_clone_to_owned().unwrap());
    let killed = Instant::now();
    let fixture = fixture.reopen();
    std::thread::scope(|scope| {
        scope.spawn(|| fixture.store.drop_page(a, PageIndex(0)));
        until("the page is punched", || first_page(&data) == vec![0; PAGE as usize]);
    });
    assert!(killed.elapsed() >= LEASE_GRACE, "punched after {:?}", killed.elapsed());
    fixture.fill(a, m, 0..1);
    let again = Instant::now();
    fixture.store.drop_page(a, PageIndex(0));
    assert!(first_page(&data) == vec![0; PAGE as usize] && again.elapsed() < LEASE_GRACE, "only once");
}

#[test]
fn a_store_that_stops_takes_nothing_from_its_clients() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..EXTENT);
    let lease = fixture.store.lease(a, m).unwrap();
    let data = File::from(lease.data().as_fd().try_clone_to_owned().unwrap());
    fixture.store.drop_page(a, PageIndex(0));
    fixture.store.stop_punching();
    drop(lease);
    assert!(first_page(&data) == content(a, 0..PAGE));
    let fixture = fixture.reopen();
    assert!(fixture.store.wait_until_scanned(std::time::Duration::from_secs(60)));
    until("the scan gives back what was left", || allocated(&files_with(&fixture.dir(0), ".data")[0]) == LENGTH - PAGE);
    assert_eq!(fixture.used(), LENGTH - PAGE + 4096);
}
