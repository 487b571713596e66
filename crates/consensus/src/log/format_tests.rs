//! docs/formats/raft-log.md says what the bytes are; this checks that they are.

use bytes::Bytes;

use super::confirmed;
use super::record::{Record, RecordKind};
use super::segment::{Position, SegmentHeader};
use super::vote;

const PAGE: &str = include_str!("../../../../docs/formats/raft-log.md");

/// The bytes of the hex dump under the heading `name`.
fn example(name: &str) -> Vec<u8> {
    let start = PAGE.find(&format!("### {name}\n")).expect("the page has the example");
    let dump = PAGE[start..].split("```").nth(1).expect("an example is a hex dump");
    let lines = dump.lines().filter_map(|line| line.split_once(": "));
    let bytes = lines.flat_map(|(_, bytes)| bytes.split('#').next().unwrap_or("").split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn dump(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).enumerate().map(|(line, bytes)| {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:02x}: {}\n", line * 16, bytes.join(" "))
    });
    lines.collect()
}

fn check(name: &str, bytes: &[u8]) {
    assert_eq!(example(name), bytes, "{name} is:\n{}", dump(bytes));
}

#[test]
fn a_segment_is_as_the_page_says() {
    let header = SegmentHeader {
        salt: 0x1122_3344_5566_7788,
        first_index: 42,
        previous: Some(Position { term: 3, index: 41 }),
        starts_over: false,
    };
    check("A segment's header", &header.encode());
    assert_eq!(SegmentHeader::decode(&example("A segment's header")), Ok(header));
    let record = Record { index: 42, term: 3, kind: RecordKind::Command, payload: Bytes::from_static(b"forebay") };
    let mut bytes = Vec::new();
    record.encode(header.salt, 64, &mut bytes);
    check("A record", &bytes);
}

#[test]
fn a_vote_is_as_the_page_says() {
    let vote = vote::StoredVote { term: 4, member: 1, committed: true };
    check("A vote", &vote::encode(vote));
}

#[test]
fn a_mark_is_as_the_page_says() {
    check("A mark", &confirmed::encode(Some(Position { term: 4, index: 1042 })));
}
