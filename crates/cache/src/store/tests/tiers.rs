//! Quotas, eviction, demotion, promotion.

use super::fixture::*;
use crate::{Access, Run, TierKind};
use forebay_base::ByteSize;

/// A file of one extent.
const LENGTH: u64 = EXTENT as u64 * PAGE;

fn read(fixture: &Fixture, inode: u64, access: Access) -> bool {
    let mut buf = vec![0; LENGTH as usize];
    let read = fixture.store.read_verified(file(inode), meta(LENGTH), 0, &mut buf, access);
    assert!(buf[..read] == content(file(inode), 0..read as u64));
    read as u64 == LENGTH
}

#[test]
fn a_quota_is_kept_and_new_pages_always_find_room() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    for inode in 0..100 {
        assert_eq!(fixture.fill(file(inode), meta(LENGTH), 0..EXTENT), EXTENT as usize, "{inode}");
        assert!(fixture.used() <= 8 << 20);
        assert!(read(&fixture, inode, Access::Read));
    }
    assert!(fixture.store.counts().evicted_bytes >= 90 << 20);
    let on_disk: u64 = files_with(&fixture.dir(0), ".data")
        .iter()
        .map(|path| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap()) * 512)
        .sum();
    assert!(on_disk <= 8 << 20, "{on_disk}");
}

#[test]
fn parts_of_a_large_file_are_evicted_by_punching() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    let length = 40 * LENGTH;
    for extent in 0..40 {
        assert_eq!(fixture.fill(file(1), meta(length), extent * EXTENT..(extent + 1) * EXTENT), EXTENT as usize);
    }
    // No eviction from here on: what is found stays.
    fixture.store.close();
    let found = fixture.found(file(1), meta(length));
    let bytes: u64 = found.iter().map(|range| range.end - range.start).sum();
    assert!((2 << 20..=8 << 20).contains(&bytes), "{found:?}");
    for range in found {
        fixture.check(file(1), meta(length), range);
    }
    let data = files_with(&fixture.dir(0), ".data");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&data[0]).unwrap()) * 512;
    assert!(data.len() == 1 && blocks <= (8 << 20) + 65_536, "{blocks}");
    fixture.store.drop_file(file(1));
    assert_eq!(fixture.used(), 0);
}

#[test]
fn room_is_made_before_the_tier_is_full() {
    let fixture = Fixture::ssd(ByteSize::mib(16));
    for inode in 0..16 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
    }
    until("below the high watermark", || fixture.used() as f64 <= 0.95 * (16 << 20) as f64);
}

#[test]
fn what_leaves_a_tier_goes_to_the_one_below() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(8)), (TierKind::Ssd, ByteSize::mib(64))]);
    for inode in 0..30 {
        assert_eq!(fixture.fill(file(inode), meta(LENGTH), 0..EXTENT), EXTENT as usize);
    }
    until("the memory tier has room again", || fixture.store.usage()[0].used as f64 <= 0.95 * (8 << 20) as f64);
    for inode in 0..30 {
        assert!(read(&fixture, inode, Access::Read), "{inode}");
    }
    assert!(fixture.cached_pages(0) > 0);
    assert_eq!(fixture.cached_pages(0) + fixture.cached_pages(1), 30 * EXTENT as u64);
    assert_eq!(fixture.store.counts().evicted_bytes, 0);
    let fixture = fixture.reopen();
    for inode in 0..30 {
        assert!(read(&fixture, inode, Access::Read), "{inode}");
    }
}

#[test]
fn a_page_read_again_is_promoted_when_its_reader_asks() {
    let fixture = Fixture::new(&[(TierKind::Mem, ByteSize::mib(8)), (TierKind::Ssd, ByteSize::mib(64))]);
    for inode in 0..30 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
    }
    let tier_of = |inode, access| match fixture.store.lookup(file(inode), meta(LENGTH), 0..1, access).remove(0) {
        Run::Present(pinned) => Some(pinned.tier()),
        Run::Missing { .. } => None,
    };
    let in_ssd = (0..30).find(|inode| tier_of(*inode, Access::Peek) == Some(TierKind::Ssd)).unwrap();
    for _ in 0..10 {
        assert!(read(&fixture, in_ssd, Access::Read));
    }
    assert_eq!(fixture.store.counts().promoted_bytes, 0, "not asked for");
    until("it is in memory", || {
        read(&fixture, in_ssd, Access::ReadPromote);
        tier_of(in_ssd, Access::Peek) == Some(TierKind::Mem)
    });
    // The page can be seen a moment before it is counted.
    until("it is counted", || fixture.store.counts().promoted_bytes >= LENGTH);
}

#[test]
fn a_scan_leaves_the_working_set_alone() {
    let fixture = Fixture::ssd(ByteSize::mib(20));
    for round in 0..3 {
        for inode in 0..12 {
            if !read(&fixture, inode, Access::Read) {
                fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
                assert!(read(&fixture, inode, Access::Read));
            }
        }
        assert!(round == 0 || fixture.store.counts().missed_bytes <= 12 * LENGTH);
    }
    for inode in 100..160 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
        assert!(read(&fixture, inode, Access::Read));
    }
    let kept = (0..12).filter(|inode| read(&fixture, *inode, Access::Read)).count();
    assert!(kept >= 11, "{kept} of 12 are left");
}

#[test]
fn what_is_being_read_is_not_evicted_and_the_rest_reads_through() {
    let fixture = Fixture::ssd(ByteSize::mib(8));
    let mut pinned = Vec::new();
    for inode in 0..7 {
        fixture.fill(file(inode), meta(LENGTH), 0..EXTENT);
        pinned.extend(fixture.store.lookup(file(inode), meta(LENGTH), 0..LENGTH, Access::Read));
    }
    assert!(pinned.iter().all(|run| matches!(run, Run::Present(_))));
    assert!(fixture.store.reserve(file(100), meta(LENGTH), 0..EXTENT).is_none());
    assert_eq!(fixture.store.counts().refused, 1);
    assert!(read(&fixture, 0, Access::Read));
    drop(pinned);
    assert_eq!(fixture.fill(file(100), meta(LENGTH), 0..EXTENT), EXTENT as usize);
}

#[test]
fn directories_of_a_tier_share_the_files() {
    let fixture = Fixture::new(&[(TierKind::Ssd, ByteSize::mib(60)), (TierKind::Ssd, ByteSize::mib(20))]);
    for inode in 0..400 {
        fixture.fill(file(inode), meta(PAGE), 0..1);
    }
    let [large, small] = [0, 1].map(|dir| files_with(&fixture.dir(dir), ".data").len());
    assert_eq!(large + small, 400);
    assert!((250..350).contains(&large), "{large} and {small}: by quota it were 300 and 100");
}
