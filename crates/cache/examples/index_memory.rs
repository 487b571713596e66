//! Measures what the index takes for many single-page files, by a counting allocator: `cargo run --release --example index_memory [FILES]`.

use forebay_cache::measure::FilledIndex;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the counts are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = BYTES.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(bytes, Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let files: u64 = std::env::args().nth(1).map_or(10_000_000, |text| text.parse().expect("a number of files"));
    let started = std::time::Instant::now();
    let before = BYTES.load(Relaxed);
    let _index = FilledIndex::of_single_pages(files);
    let (now, peak) = (BYTES.load(Relaxed) - before, PEAK.load(Relaxed) - before);
    println!(
        "{files} single-page files: {:.1} bytes a page ({} MiB), at the peak {:.1}; filled in {:.1?}",
        now as f64 / files as f64,
        now >> 20,
        peak as f64 / files as f64,
        started.elapsed()
    );
}
