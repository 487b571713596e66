//! Measures what the index takes for many single-page files, by a counting allocator: `cargo run --release --example index_memory [FILES]`.

#[path = "../tests/counting/mod.rs"]
mod counting;

use forebay_cache::measure::FilledIndex;

fn main() {
    let files: u64 = std::env::args().nth(1).map_or(10_000_000, |text| text.parse().expect("a number of files"));
    let started = std::time::Instant::now();
    let before = counting::bytes();
    let _index = FilledIndex::of_single_pages(files);
    let (now, peak) = (counting::bytes() - before, counting::peak() - before);
    println!(
        "{files} single-page files: {:.1} bytes a page ({} MiB), at the peak {:.1}; filled in {:.1?}",
        now as f64 / files as f64,
        now >> 20,
        peak as f64 / files as f64,
        started.elapsed()
    );
}
