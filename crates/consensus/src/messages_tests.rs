//! docs/formats/raft-messages.md says what the bytes are; this checks that they are.

use bytes::Bytes;

use crate::log::{Record, RecordKind};
use crate::messages::{Answer, Append, Appended, Ask, At, Outcome, Reply, Request, UpTo, Vote, open, seal};

const PAGE: &str = include_str!("../../../docs/formats/raft-messages.md");

/// The bytes of the hex dump under the heading `name`.
fn example(name: &str) -> Vec<u8> {
    let start = PAGE.find(&format!("### {name}\n")).expect("the page has the example");
    let dump = PAGE[start..].split("```").nth(1).expect("an example is a hex dump");
    let bytes = dump.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, bytes)| bytes.split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn dump(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).enumerate().map(|(line, bytes)| {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:02x}: {}\n", line * 16, bytes.join(" "))
    });
    lines.collect()
}

fn request() -> Request {
    let record = Record { index: 42, term: 3, kind: RecordKind::Command, payload: Bytes::from_static(b"forebay") };
    Request {
        group: 0x1122_3344_5566_7788,
        from: 1,
        to: 2,
        incarnation: 0x99aa_bbcc_ddee_ff00,
        ask: Some(Ask::Append(Append {
            vote: Vote { term: 3, member: 1, committed: true },
            previous: Some(At { term: 3, index: 41 }),
            committed: Some(At { term: 3, index: 40 }),
            entries: vec![record.into()],
        })),
        lease_ms: 1050,
        cluster_version: 1,
    }
}

fn reply() -> Reply {
    let outcome = Outcome::Durable(UpTo { at: Some(At { term: 3, index: 42 }) });
    Reply { answer: Some(Answer::Appended(Appended { outcome: Some(outcome) })) }
}

#[test]
fn messages_are_as_the_page_says() {
    for (name, bytes) in [("A request", seal(&request())), ("Its reply", seal(&reply()))] {
        assert_eq!(example(name), bytes, "{name} is:\n{}", dump(&bytes));
    }
    assert_eq!(open(example("A request").into()), Ok(request()));
    assert_eq!(open(example("Its reply").into()), Ok(reply()));
}

#[test]
fn damage_is_refused() {
    let whole = seal(&request());
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x20;
        assert!(open::<Request>(bytes.into()).is_err(), "byte {at}");
        assert!(open::<Request>(whole.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn entries_of_an_unknown_kind_are_refused() {
    let Some(Ask::Append(append)) = request().ask else { panic!("it appends") };
    let mut entry = append.entries[0].clone();
    entry.kind = 77;
    assert!(entry.record().unwrap_err().contains("entry 42"));
}
