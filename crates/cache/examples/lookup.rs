//! Measures the page store's hot path in a directory: `cargo run --release --example lookup [DIRECTORY]`.

use forebay_base::{ByteSize, FileId, InodeId};
use forebay_cache::{Access, DirSettings, FileMeta, PageStore, Run, Settings, TierKind, TierSettings};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const PAGE: u64 = 1 << 20;
const PAGES: u32 = 512;
const META: FileMeta = FileMeta { page_size: PAGE as u32, length: Some(PAGES as u64 * PAGE) };

fn file() -> FileId {
    FileId { inode: InodeId(1), version: 1 }
}

/// Runs `act` with random offsets of 4 KiB blocks on so many threads, and returns the time of one.
fn measure(threads: usize, rounds: u32, act: impl Fn(u64) + Sync) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads as u64 {
            let act = &act;
            scope.spawn(move || {
                let mut state = thread + 1;
                for _ in 0..rounds {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    act((state >> 33) % (PAGES as u64 * PAGE / 4096) * 4096);
                }
            });
        }
    });
    started.elapsed() / rounds
}

fn main() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let path = std::env::args().nth(1).map_or(temp.path().join("cache"), PathBuf::from);
    let store = PageStore::open(Settings::new(vec![TierSettings {
        kind: TierKind::Ssd,
        dirs: vec![DirSettings { path, quota: ByteSize::gib(2) }],
    }]))
    .expect("the store opens");
    assert!(store.wait_until_scanned(Duration::from_secs(60)));

    let bytes = vec![7u8; PAGE as usize];
    let started = Instant::now();
    let reservation = store.reserve(file(), META, 0..PAGES).expect("there is room");
    for page in reservation.pages() {
        reservation.write(page, &bytes, None);
    }
    drop(reservation);
    println!("fill: {:.2} GB/s", (PAGES as u64 * PAGE) as f64 / started.elapsed().as_secs_f64() / 1e9);

    let lookup = |offset| {
        let run = store.try_first_run(file(), META, offset..offset + 4096, Access::Read);
        assert!(matches!(run, Some(Run::Present(_))));
    };
    let read = |offset| {
        let mut buf = [0; 4096];
        assert_eq!(store.read_verified(file(), META, offset, &mut buf, Access::Read), 4096);
    };
    let read_sequential = |offset: u64| {
        thread_local! {
            static BUF: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; PAGE as usize]);
        }
        BUF.with_borrow_mut(|buf| {
            let read = store.read_verified(file(), META, offset / PAGE * PAGE, buf, Access::Read);
            assert_eq!(read, PAGE as usize);
        });
    };
    let sums = |offset| {
        let Some(Run::Present(pinned)) =
            store.try_first_run(file(), META, offset / 16384 * 16384..offset / 16384 * 16384 + 16384, Access::Read)
        else {
            unreachable!("it was filled");
        };
        assert_eq!(pinned.piece_checksums().expect("it is not damaged").len(), 1);
    };
    for threads in [1, 2] {
        println!("{threads} threads: look up, pin and let go of 4 KiB: {:?}", measure(threads, 2_000_000, lookup));
        println!("{threads} threads: the same with 16 KiB's stored checksum: {:?}", measure(threads, 500_000, sums));
        println!("{threads} threads: read 4 KiB verified: {:?}", measure(threads, 200_000, read));
        println!("{threads} threads: read 1 MiB verified: {:?}", measure(threads, 2_000, read_sequential));
    }
    store.drop_file(file());
}
