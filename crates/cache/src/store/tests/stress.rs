//! Many threads at once on a tiny quota: every byte that is read is right, and at the end the books are.

use super::fixture::*;
use crate::{Access, PageStore, Run, TierKind};
use forebay_base::{ByteSize, FileId, InodeId, PageIndex};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

const FILES: u64 = 40;
const LENGTH: u64 = 150 * PAGE + 500;
const PAGES: u64 = 151;

fn random_file(random: &mut Random) -> FileId {
    FileId { inode: InodeId(random.below(FILES)), version: 1 + random.below(2) }
}

fn random_range(random: &mut Random) -> std::ops::Range<u64> {
    let start = random.below(LENGTH);
    start..(start + 1 + random.below(12 * PAGE)).min(LENGTH)
}

/// One random act; the bytes that were found right.
fn act(store: &PageStore, random: &mut Random) -> u64 {
    let id = random_file(random);
    match random.below(100) {
        0..50 => read(store, id, random),
        50..90 => {
            let first = random.below(PAGES) as u32;
            fill(store, id, meta(LENGTH), first..first + 1 + random.below(20) as u32);
            0
        }
        90..94 => lease(store, id, random),
        94..96 => {
            store.drop_file(id);
            0
        }
        96 => {
            store.drop_inode(id.inode);
            0
        }
        97 => {
            store.drop_page(id, PageIndex(random.below(PAGES) as u32));
            0
        }
        _ => {
            // A reservation that is given up.
            let first = random.below(PAGES) as u32;
            drop(store.reserve(id, meta(LENGTH), first..first + 30));
            0
        }
    }
}

fn read(store: &PageStore, id: FileId, random: &mut Random) -> u64 {
    let range = random_range(random);
    let access = if random.below(2) == 0 { Access::Read } else { Access::ReadPromote };
    let mut right = 0;
    for run in store.lookup(id, meta(LENGTH), range, access) {
        let Run::Present(pinned) = run else { continue };
        let range = pinned.range();
        let mut buf = vec![0; (range.end - range.start) as usize];
        // As sendfile would: the bytes under a pin are the right ones, unchecked, and match the checksums.
        rustix::io::pread(pinned.fd(), &mut buf, range.start).unwrap();
        let dropped_meanwhile = pinned.piece_checksums().is_err();
        if !dropped_meanwhile {
            assert!(buf == content(id, range.clone()), "{id} {range:?}");
            right += buf.len() as u64;
        }
    }
    right
}

fn lease(store: &PageStore, id: FileId, random: &mut Random) -> u64 {
    let Some(lease) = store.lease(id, meta(LENGTH)) else {
        return 0;
    };
    let local = local_file(&lease, id);
    let range = random_range(random);
    lease.localize(range.clone());
    let mut buf = vec![0; (range.end - range.start) as usize];
    let read = local.read_verified(range.start, &mut buf);
    assert!(buf[..read] == content(id, range.start..range.start + read as u64)[..]);
    read as u64
}

fn run(seed: u64, rounds: u64) {
    let fixture = Fixture::with(
        &[
            (TierKind::Mem, ByteSize::mib(3)),
            (TierKind::Ssd, ByteSize::mib(4)),
            (TierKind::Ssd, ByteSize::mib(4)),
            (TierKind::Hdd, ByteSize::mib(6)),
        ],
        |settings| settings.open_files_max = 16,
    );
    let right: u64 = std::thread::scope(|scope| {
        let store = &fixture.store;
        let threads: Vec<_> = (0..6)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random(seed * 1000 + thread);
                    (0..rounds).map(|_| act(store, &mut random)).sum::<u64>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(right > 100 * PAGE, "seed {seed}: too few hits to mean anything: {right}");
    fixture.store.close();
    // Pages that were dropped under readers are punched with their extent, or by the next scan.
    balance(&fixture, seed, 64 * PAGE);
    let fixture = fixture.reopen();
    assert!(fixture.store.wait_until_scanned(Duration::from_secs(60)));
    // No eviction from here on: what is found stays.
    fixture.store.close();
    balance(&fixture, seed, 0);
    for inode in 0..FILES {
        for version in 1..=2 {
            let id = FileId { inode: InodeId(inode), version };
            for range in fixture.found(id, meta(LENGTH)) {
                fixture.check(id, meta(LENGTH), range);
            }
        }
    }
    assert_eq!(fixture.store.counts().damaged_pages, 0, "seed {seed}");
}

/// What the directories count is what the index holds and what the files take.
fn balance(fixture: &Fixture, seed: u64, slack: u64) {
    let inner = &fixture.store.inner;
    for (number, dir) in inner.dirs.iter().enumerate() {
        let (used, limit) = dir.used_and_limit();
        let (pages, extents) = (dir.pages.load(Relaxed), dir.extents.load(Relaxed));
        let on_disk: u64 = files_with(&fixture.dir(number), ".data").iter().map(|path| allocated(path)).sum();
        assert!(used <= limit, "seed {seed}, directory {number}: {used} of {limit}");
        assert!(pages >= extents && extents >= 0, "seed {seed}: {pages} pages in {extents} extents");
        // All pages are full but a file's last one, of one block.
        let full = pages as u64 * PAGE + extents as u64 * 4096;
        let short = 2 * FILES * (PAGE - 4096);
        assert!(used <= full && used + short >= full, "seed {seed}, directory {number}: {used} counted, {full} held");
        assert!(on_disk <= used + slack, "seed {seed}, directory {number}: {on_disk} on disk, {used} counted");
    }
    let entries: i64 = inner.dirs.iter().map(|dir| dir.extents.load(Relaxed)).sum();
    assert_eq!(entries, inner.index.len() as i64, "seed {seed}");
}

#[test]
fn readers_writers_and_evictors() {
    for seed in 1..=4 {
        run(seed, 1500);
    }
}
