//! A store whose process is killed at any moment: what it calls cached afterwards has the right bytes.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use forebay_base::{ByteSize, FileId, InodeId, PageIndex};
use forebay_cache::{Access, DirSettings, FileMeta, PageStore, Run, Settings, TierKind, TierSettings};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const PAGE: u64 = 16 << 10;
const LENGTH: u64 = 150 * PAGE + 500;
const FILES: u64 = 30;
const META: FileMeta = FileMeta { page_size: PAGE as u32, length: Some(LENGTH) };
/// Tells the child where to work; without it the child's test has nothing to do.
const CHILD_DIR: &str = "FOREBAY_CACHE_CRASH_DIR";

/// Numbers below a bound from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn file(number: u64) -> FileId {
    FileId { inode: InodeId(number / 2), version: 1 + number % 2 }
}

/// What a file has in a range: every word depends on file and offset.
fn content(file: FileId, range: std::ops::Range<u64>) -> Vec<u8> {
    let seed = file.inode.0 << 40 ^ file.version << 32;
    let byte = |at: u64| Random(seed ^ (at / 8)).below(u64::MAX).to_le_bytes()[(at % 8) as usize];
    range.map(byte).collect()
}

fn open(root: &Path) -> PageStore {
    let tier = |kind, name: &str, mib| TierSettings {
        kind,
        dirs: vec![DirSettings { path: root.join(name), quota: ByteSize::mib(mib) }],
    };
    let tiers = vec![tier(TierKind::Mem, "mem", 3), tier(TierKind::Ssd, "ssd", 4), tier(TierKind::Hdd, "hdd", 5)];
    PageStore::open(Settings::new(tiers)).unwrap()
}

/// Fills, reads, promotes and drops until it is killed.
#[test]
fn child() {
    let Some(root) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let store = open(Path::new(&root));
    let seed = std::process::id() as u64;
    for thread in 0..3 {
        let store = store.clone();
        std::thread::spawn(move || {
            let mut random = Random(seed << 8 | thread);
            loop {
                act(&store, &mut random);
            }
        });
    }
    let mut random = Random(seed);
    loop {
        (0..5).for_each(|_| act(&store, &mut random));
        writeln!(std::io::stdout(), "working").unwrap();
    }
}

fn act(store: &PageStore, random: &mut Random) {
    let (id, first) = (file(random.below(FILES)), random.below(150) as u32);
    match random.below(20) {
        0 => store.drop_file(id),
        1 => store.drop_page(id, PageIndex(first)),
        2 => drop(store.lease(id, META).map(|lease| lease.localize(0..LENGTH))),
        3..6 => {
            let mut buf = vec![0; 10 * PAGE as usize];
            store.read_verified(id, META, first as u64 * PAGE, &mut buf, Access::ReadPromote);
        }
        _ => {
            let Some(reservation) = store.reserve(id, META, first..first + 20) else {
                return;
            };
            for page in reservation.pages() {
                let start = page.0 as u64 * PAGE;
                reservation.write(page, &content(id, start..(start + PAGE).min(LENGTH)), None);
            }
        }
    }
}

fn run_and_kill(root: &Path, lines: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD_DIR, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let working = output.lines().map_while(Result::ok).filter(|line| line.contains("working"));
    let seen = working.take(lines as usize).count() as u64;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen, lines, "the child ended by itself");
}

/// Every page that is called cached has the right bytes; their number.
fn check_all(store: &PageStore) -> u64 {
    let mut pages = 0;
    for id in (0..FILES).map(file) {
        for run in store.lookup(id, META, 0..LENGTH, Access::Peek) {
            let Run::Present(pinned) = run else { continue };
            let range = pinned.range();
            let mut buf = vec![0; (range.end - range.start) as usize];
            pinned.read_verified(range.start, &mut buf).unwrap();
            assert!(buf == content(id, range.clone()), "{id} {range:?}");
            pages += (range.end - range.start).div_ceil(PAGE);
        }
    }
    pages
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn killed_at_any_moment() {
    let temp = tempfile::tempdir().unwrap();
    let rounds = std::env::var("FOREBAY_CRASH_ROUNDS").map_or(15, |text| text.parse().unwrap());
    let mut random = Random(42);
    let mut found = 0;
    for round in 0..rounds {
        run_and_kill(temp.path(), 1 + random.below(60));
        let store = open(temp.path());
        let at_once = check_all(&store);
        assert!(store.wait_until_scanned(Duration::from_secs(60)));
        // No eviction from here on: the books can be compared.
        store.close();
        let pages = check_all(&store);
        assert!(pages <= at_once, "round {round}: the scan found {pages} pages, lookups before it only {at_once}");
        let usage = store.usage();
        assert_eq!(usage.iter().map(|tier| tier.pages).sum::<u64>(), pages, "round {round}");
        assert!(usage.iter().all(|tier| tier.used <= tier.capacity), "round {round}: {usage:?}");
        assert_eq!(store.counts().damaged_pages, 0, "round {round}");
        drop(store);
        let files = files_below(temp.path());
        let ending = |ending: &str| files.iter().filter(|path| path.extension().is_some_and(|e| e == ending)).count();
        assert_eq!(ending("data"), ending("sums"), "round {round}: half files are left");
        found += pages;
    }
    assert!(found > rounds * 50, "only {found} pages were ever found");
}
