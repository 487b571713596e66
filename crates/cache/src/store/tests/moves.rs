//! Extents on their way between directories, and who else wants something of them there.

use super::fixture::*;
use crate::{
    Access, Run, TierKind,
    dir::Dir,
    index::{ExtentKey, Handle},
    policy::Queue,
    store::inner::Inner,
    verify::RecordBytes,
};
use forebay_base::{ByteSize, FileId, PageIndex};
use std::sync::Arc;

const LENGTH: u64 = EXTENT as u64 * PAGE;

fn two_tiers() -> Fixture {
    Fixture::new(&[(TierKind::Ssd, ByteSize::mib(8)), (TierKind::Hdd, ByteSize::mib(8))])
}

fn handle_of(inner: &Inner, key: &ExtentKey) -> (Handle, u8) {
    let mut shard = inner.index.lock(key);
    let (handle, entry) = shard.find(key).expect("the extent is cached");
    (handle, entry.dir)
}

/// Moves an extent of a file of two to the other directory, and does something when it has been copied and a reader still holds up the switch.
fn move_with(fixture: &Fixture, file: FileId, extent: u32, meanwhile: impl Fn(&Inner, &Arc<Dir>)) {
    let (inner, m) = (&fixture.store.inner, meta(2 * LENGTH));
    let key = ExtentKey { file, extent };
    let range = u64::from(extent) * LENGTH..u64::from(extent + 1) * LENGTH;
    let (handle, from) = handle_of(inner, &key);
    let to = &inner.dirs[1 - usize::from(from)];
    let space = LENGTH + 4096;
    // The patience with readers may end first, on a machine that is busy: then again.
    for _ in 0..100 {
        let reader = fixture.store.lookup(file, m, range.start..range.start + PAGE, Access::Peek);
        assert!(matches!(reader[..], [Run::Present(_)]));
        assert!(to.reserve(space));
        let moved = std::thread::scope(|scope| {
            let moving = scope.spawn(|| inner.move_extent(key, handle, to, space, Queue::Small));
            until("it is copied", || has_last_record(inner, to, &key) || moving.is_finished());
            meanwhile(inner, to);
            drop(reader);
            moving.join().unwrap()
        });
        if moved {
            return assert_eq!(handle_of(inner, &key).1, to.number);
        }
    }
    panic!("it was never moved");
}

/// Whether a copy of an extent in a directory is complete: its last record is there.
fn has_last_record(inner: &Inner, dir: &Dir, key: &ExtentKey) -> bool {
    let page = key.extent * EXTENT + EXTENT - 1;
    inner.open.get(key.file, dir.number).is_some_and(|file| {
        let record = RecordBytes::read(&*file, page);
        record.is_ok_and(|record| record.decode(&file.header, page).is_ok())
    })
}

/// A file with its first extent in the first directory, and its second in the second.
fn file_in_both(fixture: &Fixture, file: FileId) {
    fixture.fill(file, meta(2 * LENGTH), 0..2 * EXTENT);
    move_with(fixture, file, 1, |_, _| ());
}

#[test]
fn what_is_left_of_an_extent_is_not_removed_while_it_comes_back() {
    let fixture = two_tiers();
    let (a, m) = (file(1), meta(2 * LENGTH));
    file_in_both(&fixture, a);
    // As after a move away from there, whose thread has not come to remove the old copy yet.
    move_with(&fixture, a, 0, |inner, to| {
        let pass = inner.gates.enter(a, to).unwrap();
        let left = inner.file_in(&pass, to).unwrap();
        inner.give_back_copy(&pass, &left, 0, 0);
    });
    fixture.check(a, m, 0..2 * LENGTH);
    let fixture = fixture.reopen();
    fixture.check(a, m, 0..2 * LENGTH);
    assert_eq!(fixture.store.counts().damaged_pages, 0);
}

#[test]
fn the_scan_of_a_directory_leaves_what_is_being_copied_there() {
    let fixture = two_tiers();
    let (a, m) = (file(1), meta(2 * LENGTH));
    file_in_both(&fixture, a);
    move_with(&fixture, a, 0, |inner, to| assert!(inner.load_from(&inner.gates.enter(a, to).unwrap(), to)));
    fixture.check(a, m, 0..2 * LENGTH);
    let fixture = fixture.reopen();
    fixture.check(a, m, 0..2 * LENGTH);
    assert_eq!(fixture.store.counts().damaged_pages, 0);
}

#[test]
fn a_page_dropped_while_it_was_copied_does_not_come_back_as_a_hole() {
    let fixture = two_tiers();
    let (a, m) = (file(1), meta(2 * LENGTH));
    file_in_both(&fixture, a);
    move_with(&fixture, a, 0, |inner, _| inner.drop_page(a, 7));
    assert_eq!(fixture.found(a, m), [0..7 * PAGE, 8 * PAGE..2 * LENGTH]);
    let lease = fixture.store.lease(a, m).unwrap();
    assert_eq!(lease.tier(), TierKind::Hdd);
    assert_eq!(local_file(&lease, a).read_verified(7 * PAGE, &mut [0; 100]), 0, "clients do not find it either");
    // What is kept for a lease is removed at its end.
    fixture.store.drop_page(a, PageIndex(3));
    drop(lease);
    fixture.settle();
    let fixture = fixture.reopen();
    let found = fixture.found(a, m);
    found.iter().for_each(|range| fixture.check(a, m, range.clone()));
    assert_eq!(found, [0..3 * PAGE, 4 * PAGE..7 * PAGE, 8 * PAGE..2 * LENGTH]);
    assert_eq!(fixture.store.counts().damaged_pages, 0);
}

#[test]
fn a_page_dropped_while_it_comes_to_a_leased_file_is_not_found_there() {
    let fixture = two_tiers();
    let (a, m) = (file(1), meta(2 * LENGTH));
    file_in_both(&fixture, a);
    let lease = fixture.store.lease(a, m).unwrap();
    let local = local_file(&lease, a);
    let extent = if lease.tier() == TierKind::Ssd { 1 } else { 0 };
    let page = extent * EXTENT + 7;
    let at = u64::from(page) * PAGE;
    move_with(&fixture, a, extent, |inner, _| inner.drop_page(a, page));
    assert_eq!(local.read_verified(at, &mut [0; 100]), 0);
    assert_eq!(fixture.found(a, m), [0..at, at + PAGE..2 * LENGTH]);
    let mut buf = vec![0; (2 * LENGTH - at - PAGE) as usize];
    assert_eq!(local.read_verified(at + PAGE, &mut buf), buf.len());
    assert!(buf == content(a, at + PAGE..2 * LENGTH));
    drop(lease);
    fixture.settle();
    let fixture = fixture.reopen();
    assert_eq!(fixture.found(a, m), [0..at, at + PAGE..2 * LENGTH]);
}
