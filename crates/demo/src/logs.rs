//! A tree of log files, one a host and hour.

use std::fmt::Write as _;

use bytes::Bytes;
use forebay_testkit::data::Seeded;

use crate::dataset::Dataset;

const HOSTS: usize = 8;
const HOURS: usize = 24;
const LINES: u64 = 400;

/// 192 files, 8 MB.
pub(crate) fn dataset() -> Dataset {
    Dataset { count: HOSTS * HOURS, make: file }
}

fn file(index: usize) -> (String, Bytes) {
    let (host, hour) = (index % HOSTS, index / HOSTS);
    let key = format!("2026/01/31/{hour:02}/host-{host}.log");
    let random = Seeded::named(&key).bytes(0..LINES * 4);
    let mut text = String::new();
    for (line, random) in random.chunks_exact(4).enumerate() {
        let (minute, second) = (line * 9 / 60 % 60, line * 9 % 60);
        let status = if random[0] < 250 { 200 } else { 503 };
        let [_, user, low, high] = random else { unreachable!("the chunks are of four bytes") };
        let bytes = u16::from_le_bytes([*low, *high]);
        writeln!(text, "2026-01-31T{hour:02}:{minute:02}:{second:02}Z host-{host} GET /u/{user} {status} {bytes}")
            .expect("writing to a string does not fail");
    }
    (key, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_whole_lines_and_keys_of_their_own() {
        let (key, bytes) = file(9);
        assert_eq!(key, "2026/01/31/01/host-1.log");
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text.lines().count() as u64, LINES);
        assert!(text.starts_with("2026-01-31T01:00:00Z host-1 GET /u/"), "{text}");
    }
}
