//! The index takes less than 100 bytes a cached page, also when every file has just one.

mod counting;

use forebay_cache::measure::FilledIndex;

#[test]
fn less_than_100_bytes_a_page() {
    // Just past powers of two the hash tables are emptiest.
    for files in [300_000, 1_000_000, 1_900_000] {
        let before = counting::bytes();
        let index = FilledIndex::of_single_pages(files);
        let bytes_a_page = (counting::bytes() - before) as f64 / files as f64;
        drop(index);
        println!("{files} pages: {bytes_a_page:.1} bytes each");
        assert!(bytes_a_page < 100.0, "{files} pages: {bytes_a_page:.1} bytes each");
    }
}
