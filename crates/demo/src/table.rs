//! The table at the end.

use std::fmt::Write as _;

use crate::measure::Reading;

/// One line for each reading.
pub(crate) fn render(readings: &[Reading]) -> String {
    let mut text = format!(
        "{:<12} {:<11} {:<5} {:>6} {:>9} {:>9} {:>8} {:>14} {:>6}\n",
        "mount", "bytes from", "read", "files", "MB", "time", "MB/s", "fetched, MB", "hits"
    );
    for reading in readings {
        let seconds = reading.time.as_secs_f64();
        let megabytes = reading.bytes as f64 / 1e6;
        let fetched = reading.fetched.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
        let hits = reading.hit_ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0));
        writeln!(
            text,
            "{:<12} {:<11} {:<5} {:>6} {megabytes:>9.1} {:>9} {:>8.0} {fetched:>14} {hits:>6}",
            reading.mount,
            reading.place,
            reading.pass.name(),
            reading.files,
            format!("{seconds:.2} s"),
            megabytes / seconds,
        )
        .expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Pass;
    use std::time::Duration;

    #[test]
    fn a_line_says_what_came_from_the_store() {
        let reading = Reading {
            mount: "/images",
            place: "near store",
            pass: Pass::Hot,
            files: 2,
            bytes: 200_000_000,
            time: Duration::from_millis(500),
            fetched: Some(20_000_000),
        };
        let text = render(&[reading]);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["/images", "near", "store", "hot", "2", "200.0", "0.50", "s", "400", "20.0", "90", "%"]);
    }
}
