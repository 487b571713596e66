//! The index takes less than 100 bytes a cached page, also when every file has just one.

use forebay_cache::measure::FilledIndex;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
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

#[test]
fn less_than_100_bytes_a_page() {
    // Just past powers of two the hash tables are emptiest.
    for files in [300_000, 1_000_000, 1_900_000] {
        let before = BYTES.load(Relaxed);
        let index = FilledIndex::of_single_pages(files);
        let bytes_a_page = (BYTES.load(Relaxed) - before) as f64 / files as f64;
        drop(index);
        println!("{files} pages: {bytes_a_page:.1} bytes each");
        assert!(bytes_a_page < 100.0, "{files} pages: {bytes_a_page:.1} bytes each");
    }
}
