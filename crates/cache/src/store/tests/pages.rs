//! Storing, finding and dropping pages.

use super::fixture::*;
use crate::{Access, FileMeta, Run, Stored};
use forebay_base::{ByteSize, FileId, InodeId, PageIndex, checksum::crc32c};

const LENGTH: u64 = 200 * PAGE + 1234;

#[test]
fn what_is_stored_is_found_and_the_rest_is_missing() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(LENGTH));
    assert!(!fixture.is_cached(a, m, 0..1));
    assert_eq!(fixture.fill(a, m, 60..70), 10);
    assert_eq!(fixture.fill(a, m, 199..300), 2, "pages past the end do not exist");
    fixture.check(a, m, 60 * PAGE..70 * PAGE);
    fixture.check(a, m, 199 * PAGE + 5..LENGTH);
    assert_eq!(fixture.found(a, m), [60 * PAGE..70 * PAGE, 199 * PAGE..LENGTH]);

    let runs = fixture.store.lookup(a, m, 0..LENGTH + 99, Access::Read);
    let mut at = 0;
    for run in &runs {
        let range = match run {
            Run::Present(pinned) => pinned.range(),
            Run::Missing { range, pages } => {
                assert_eq!(range.start / PAGE, pages.start as u64);
                assert_eq!(range.end.div_ceil(PAGE), pages.end as u64);
                range.clone()
            }
        };
        assert_eq!(range.start, at, "no gap: {runs:?}");
        at = range.end;
    }
    assert_eq!(at, LENGTH);
    // Missing, two extents' parts of the first ten, missing, the end.
    assert_eq!(runs.len(), 5, "{runs:?}");
    assert!(fixture.store.try_first_run(a, m, 0..0, Access::Read).is_some());
}

#[test]
fn checksums_are_cut_where_chunks_end() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let a = file(2);
    let m = FileMeta { page_size: 64 << 10, length: Some(150_000) };
    let reservation = fixture.store.reserve(a, m, 0..3).unwrap();
    for page in reservation.pages() {
        let start = page.0 as u64 * (64 << 10);
        let bytes = content(a, start..(start + (64 << 10)).min(150_000));
        assert_eq!(reservation.write(page, &bytes, None), Stored::Yes);
    }
    for range in [0..150_000u64, 5..6, 16_000..50_000, 65_536..81_920, 140_000..150_000] {
        let runs = fixture.store.lookup(a, m, range.clone(), Access::Read);
        let [Run::Present(pinned)] = &runs[..] else {
            panic!("{runs:?}");
        };
        let bytes = content(a, range.clone());
        let mut expected = Vec::new();
        let mut rest = &bytes[..];
        let mut at = range.start;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rest.len().min((16_384 - at % 16_384) as usize));
            expected.push(crc32c(piece));
            at += piece.len() as u64;
            rest = tail;
        }
        assert_eq!(pinned.piece_checksums().unwrap(), expected, "{range:?}");
        let mut buf = vec![0; bytes.len()];
        pinned.read_verified(range.start, &mut buf).unwrap();
        assert!(buf == bytes);
        // What sendfile sends.
        rustix::io::pread(pinned.fd(), &mut buf, range.start).unwrap();
        assert!(buf == bytes);
    }
}

#[test]
fn a_file_that_is_being_written_has_no_length_yet() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, growing) = (file(3), FileMeta { length: None, ..meta(0) });
    let reservation = fixture.store.reserve(a, growing, 0..4).unwrap();
    for (page, len) in [(0, PAGE), (1, PAGE), (2, 100)] {
        let start = page * PAGE;
        let bytes = content(a, start..start + len);
        assert_eq!(reservation.write(PageIndex(page as u32), &bytes, None), Stored::Yes);
    }
    drop(reservation);
    let length = 2 * PAGE + 100;
    fixture.check(a, meta(length), 0..length);
    // Three pages and the checksum file: nothing is left of what was reserved.
    assert_eq!(fixture.used(), 2 * PAGE + 4096 + 4096);
}

#[test]
fn a_page_has_one_writer_and_is_written_once() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(4), meta(10 * PAGE));
    let first = fixture.store.reserve(a, m, 0..4).unwrap();
    let second = fixture.store.reserve(a, m, 2..6).unwrap();
    assert_eq!(first.pages(), [0, 1, 2, 3].map(PageIndex));
    assert_eq!(second.pages(), [4, 5].map(PageIndex));
    let wrong = vec![7; PAGE as usize];
    assert_eq!(second.write(PageIndex(2), &wrong, None), Stored::No);
    let right = content(a, pages_of(2..3, u64::MAX));
    assert_eq!(first.write(PageIndex(2), &right, None), Stored::Yes);
    assert_eq!(first.write(PageIndex(2), &wrong, None), Stored::No);
    drop((first, second));
    assert_eq!(fixture.store.reserve(a, m, 0..10).unwrap().pages().len(), 9);
    fixture.check(a, m, 2 * PAGE..3 * PAGE);
}

#[test]
fn what_is_reserved_counts_until_it_is_given_back() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(5), meta(100 * PAGE));
    let reservation = fixture.store.reserve(a, m, 0..100).unwrap();
    assert_eq!(fixture.used(), 100 * PAGE + 2 * 4096);
    drop(reservation);
    assert_eq!(fixture.used(), 0);
    fixture.settle();
    assert!(files_with(&fixture.dir(0), ".data").is_empty(), "an empty file stays");
    assert_eq!(fixture.store.inner.index.len(), 0);
}

#[test]
fn given_checksums_are_kept_so_that_later_damage_shows() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(6), meta(PAGE));
    let reservation = fixture.store.reserve(a, m, 0..1).unwrap();
    let mut bytes = content(a, 0..PAGE);
    let checksums = [crc32c(&bytes)];
    bytes[100] ^= 1;
    assert_eq!(reservation.write(PageIndex(0), &bytes, Some(&checksums)), Stored::Yes);
    let mut buf = vec![0; PAGE as usize];
    assert_eq!(fixture.store.read_verified(a, m, 0, &mut buf, Access::Read), 0);
    assert_eq!(fixture.store.counts().damaged_pages, 1);
    assert!(!fixture.is_cached(a, m, 0..1));
}

#[test]
fn damaged_bytes_are_a_miss_and_are_fetched_anew() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(7), meta(LENGTH));
    fixture.fill(a, m, 0..201);
    let used = fixture.used();
    let data = files_with(&fixture.dir(0), ".data").remove(0);
    let sums = files_with(&fixture.dir(0), ".sums").remove(0);
    flip(&data, 5 * PAGE + 77);
    flip(&data, LENGTH - 1);
    // The record of page 9: length, one checksum, mark.
    flip(&sums, 64 + 9 * 12 + 5);
    let mut buf = vec![0; LENGTH as usize];
    let read = fixture.store.read_verified(a, m, 0, &mut buf, Access::Read) as u64;
    assert_eq!(read, 0, "a run is believed whole or not at all");
    fixture.check(a, m, 0..5 * PAGE);
    for page in [9, 200] {
        let mut buf = [0; 100];
        let read = fixture.store.read_verified(a, m, page * PAGE + 1134, &mut buf, Access::Read);
        assert_eq!(read, 0, "page {page}");
    }
    assert_eq!(fixture.store.counts().damaged_pages, 3);
    assert_eq!(fixture.found(a, m), [0..5 * PAGE, 6 * PAGE..9 * PAGE, 10 * PAGE..200 * PAGE]);
    assert_eq!(fixture.fill(a, m, 0..201), 3);
    fixture.check(a, m, 0..LENGTH);
    assert_eq!(fixture.used(), used);
}

#[test]
fn dropping_a_file_leaves_its_readers_alone() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(8), meta(LENGTH));
    fixture.fill(a, m, 0..201);
    let runs = fixture.store.lookup(a, m, 0..LENGTH, Access::Read);
    let unfinished = {
        fixture.store.drop_page(a, PageIndex(3));
        fixture.store.reserve(a, m, 3..4).unwrap()
    };
    fixture.store.drop_file(a);
    assert!(fixture.found(a, m).is_empty());
    assert!(fixture.used() > 0, "who reads still takes the space");
    fixture.fill(a, m, 100..120);
    for run in &runs {
        let Run::Present(pinned) = run else { panic!() };
        let range = pinned.range();
        let mut buf = vec![0; (range.end - range.start) as usize];
        rustix::io::pread(pinned.fd(), &mut buf, range.start).unwrap();
        assert!(buf == content(a, range));
    }
    let bytes = content(a, pages_of(3..4, LENGTH));
    assert_eq!(unfinished.write(PageIndex(3), &bytes, None), Stored::No);
    drop((runs, unfinished));
    assert_eq!(fixture.used(), 20 * PAGE + 4096);
    fixture.check(a, m, 100 * PAGE..120 * PAGE);
}

#[test]
fn dropping_an_inode_drops_its_versions() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let version = |inode, version| FileId { inode: InodeId(inode), version };
    let all = [version(1, 1), version(1, 2), version(1, 0x10), version(0x11, 1)];
    for id in all {
        fixture.fill(id, meta(PAGE), 0..1);
    }
    fixture.store.drop_inode(InodeId(1));
    for id in all {
        assert_eq!(fixture.is_cached(id, meta(PAGE), 0..PAGE), id.inode == InodeId(0x11), "{id}");
    }
    assert_eq!(files_with(&fixture.dir(0), ".data").len(), 1);
}

#[test]
fn another_page_size_replaces_the_file() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let a = file(9);
    fixture.fill(a, meta(LENGTH), 0..201);
    let large = FileMeta { page_size: 1 << 20, length: Some(LENGTH) };
    assert!(fixture.found(a, large).is_empty());
    assert!(!fixture.is_cached(a, large, 0..LENGTH));
    let reservation = fixture.store.reserve(a, large, 0..1).unwrap();
    assert_eq!(reservation.write(PageIndex(0), &content(a, 0..1 << 20), None), Stored::Yes);
    fixture.check(a, large, 0..1 << 20);
    assert!(fixture.found(a, meta(LENGTH)).is_empty());
}

#[test]
fn odd_requests_are_misses() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let odd = FileMeta { page_size: 12_345, length: Some(LENGTH) };
    assert!(!fixture.is_cached(file(1), odd, 0..LENGTH));
    assert!(fixture.store.reserve(file(1), odd, 0..1).is_none());
    let m = FileMeta { length: None, ..meta(0) };
    assert!(!fixture.is_cached(file(1), m, u64::MAX - 5..u64::MAX));
    assert!(fixture.store.lookup(file(1), m, 10..10, Access::Read).is_empty());
    let mut nothing = [0; 8];
    assert_eq!(fixture.store.read_verified(file(1), m, u64::MAX - 2, &mut nothing, Access::Read), 0);
    assert!(fixture.store.reserve(file(1), meta(PAGE), 5..9).unwrap().pages().is_empty());
}

#[test]
fn open_files_are_bounded() {
    let fixture = Fixture::with(&[(crate::TierKind::Ssd, ByteSize::mib(256))], |settings| settings.open_files_max = 32);
    for inode in 0..500 {
        fixture.fill(file(inode), meta(PAGE), 0..1);
    }
    assert!(fixture.store.inner.open.len() <= 48, "{}", fixture.store.inner.open.len());
    for inode in 0..500 {
        fixture.check(file(inode), meta(PAGE), 0..PAGE);
    }
}

#[test]
fn the_index_is_bounded() {
    let fixture = Fixture::with(&[(crate::TierKind::Ssd, ByteSize::mib(256))], |settings| settings.extents_max = 100);
    for inode in 0..300 {
        assert_eq!(fixture.fill(file(inode), meta(PAGE), 0..1), 1);
        assert!(fixture.store.inner.index.len() <= 100);
    }
    assert_eq!(files_with(&fixture.dir(0), ".sums").len(), 100);
}

#[test]
fn the_first_run_is_all_that_is_counted() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(3 * EXTENT as u64 * PAGE));
    fixture.fill(a, m, 0..3 * EXTENT);
    let before = fixture.store.counts();
    let run = fixture.store.first_run(a, m, 5..u64::MAX, Access::Read);
    let Run::Present(pinned) = run else { panic!("{run:?}") };
    let extent = EXTENT as u64 * PAGE;
    assert_eq!(pinned.range(), 5..extent);
    assert_eq!(fixture.store.counts().hit_bytes - before.hit_bytes, extent - 5);
    assert!(matches!(fixture.store.first_run(file(2), m, 0..PAGE, Access::Peek), Run::Missing { .. }));
}

#[test]
fn what_is_read_comes_with_the_checksums_of_its_pieces() {
    let fixture = Fixture::ssd(ByteSize::mib(64));
    let (a, m) = (file(1), meta(LENGTH));
    fixture.fill(a, m, 0..201);
    for range in [0..PAGE, 5..PAGE, 7..3 * PAGE + 1, PAGE - 1..PAGE + 1, 199 * PAGE..LENGTH, LENGTH - 1..LENGTH] {
        let Run::Present(pinned) = fixture.store.first_run(a, m, range.clone(), Access::Peek) else {
            panic!("{range:?} is cached");
        };
        let range = pinned.range();
        let mut buf = vec![0; (range.end - range.start) as usize];
        let sums = pinned.read_summed(&mut buf).unwrap();
        assert!(buf == content(a, range.clone()));
        assert_eq!(sums, pinned.piece_checksums().unwrap(), "{range:?}");
    }
}
