//! docs/formats say what the bytes are; this checks that they are.

use crate::error::WireError;
use crate::frame::{Kind, ReadHead, encode_frame};
use crate::ticket::Ticket;
use crate::v1;
use forebay_base::ErrorKind;
use prost::Message;

const DATA_PLANE: &str = include_str!("../../../docs/formats/data-plane.md");
const RPC: &str = include_str!("../../../docs/formats/rpc.md");

/// The bytes of the hex dump under the heading `name` of the page of calls.
fn example(name: &str) -> Vec<u8> {
    let start = RPC.find(&format!("### {name}\n")).expect("the page has the example");
    let dump = RPC[start..].split("```").nth(1).expect("an example is a hex dump");
    let bytes = dump.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, bytes)| bytes.split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn check(name: &str, bytes: &[u8]) {
    assert_eq!(example(name), bytes, "{name} is: {bytes:02x?}");
}

#[test]
fn a_frame_is_as_the_page_says() {
    let example = DATA_PLANE.split("## Example\n").nth(1).expect("the page has an example");
    let lines = example.lines().filter(|line| line.starts_with("    "));
    let mut bytes = Vec::new();
    for line in lines {
        // Bytes first, then words about them.
        let hex =
            line.split_whitespace().map_while(|word| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?);
        bytes.extend(hex);
    }
    let head = ReadHead { ticket: bytes::Bytes::from_static(b"T"), offset: 4096, length: 100, ..ReadHead::default() };
    assert_eq!(bytes, encode_frame(Kind::Read, 5, &head, 0).to_vec());
}

#[test]
fn an_error_is_as_the_page_says() {
    let error = WireError::new(ErrorKind::NotFound, "mount not found: /lakee").with_hint("did you mean /lake?");
    check("An error", tonic::Status::from(error.clone()).details());
    let rows: Vec<&str> = RPC.lines().filter(|line| line.starts_with("| ")).collect();
    for kind in ErrorKind::ALL {
        let code = format!("{:?}", tonic::Status::from(WireError::new(kind, "x")).code());
        let says = |line: &&&str| {
            let columns: Vec<String> = line.split('|').map(|column| column.trim().replace('_', "")).collect();
            let numbers: Vec<&str> = columns[1].split(", ").collect();
            numbers.contains(&kind.code().to_string().as_str())
                && columns[2].split(", ").any(|name| name == kind.as_str().replace('_', ""))
                && columns[3] == code.to_uppercase()
        };
        assert!(rows.iter().any(|line| says(&line)), "{kind:?} with {code} is not on the page");
    }
}

#[test]
fn a_read_that_may_be_old_is_as_the_page_says() {
    let bound = v1::ReadBound { max_staleness_us: 1_000_000, seen_index: 7 };
    let stat = v1::StatRequest { path: "/lake/a".into(), bound: Some(bound), ..v1::StatRequest::default() };
    check("A read that may be old", &stat.encode_to_vec());
}

#[test]
fn calls_and_answers_are_as_the_page_says() {
    let request = v1::call::Request::Stat(v1::StatRequest { path: "/lake/a".into(), ..v1::StatRequest::default() });
    let call = v1::Call { id: 7, timeout_ms: 60_000, request: Some(request) };
    check("Calls", &v1::Calls { calls: vec![call], cancelled: vec![5] }.encode_to_vec());
    let error = WireError::new(ErrorKind::NotFound, "/lake/a does not exist");
    let answer = v1::Answer { id: 7, outcome: Some(v1::answer::Outcome::Error(error.into())) };
    check("Answers", &v1::Answers { answers: vec![answer] }.encode_to_vec());
}

#[test]
fn a_right_to_read_is_as_the_page_says_and_is_not_seen_in_logs() {
    let header = v1::HttpHeader { name: "if-match".to_owned(), value: "\"abc\"".to_owned() };
    let url = "https://h/b/t/a?X-Amz-Signature=0".to_owned();
    let http = v1::DirectHttp { url, headers: vec![header], ..v1::DirectHttp::default() };
    let reply = v1::GrantDirectReadReply {
        store: "s3://b".to_owned(),
        key: "t/a".into(),
        length: 5,
        version_tag: "abc".to_owned(),
        lifetime_ms: 300_000,
        way: Some(v1::grant_direct_read_reply::Way::Http(http)),
    };
    assert!(!format!("{reply:?}").contains("Signature"), "{reply:?}");
    check("A right to read", &reply.encode_to_vec());
}

#[test]
fn a_ticket_is_as_the_page_says() {
    let key: Vec<u8> = (0..32).collect();
    let ticket = Ticket {
        inode: 4711,
        version: 2,
        length: 1_000_000,
        page_size: 1 << 20,
        block_size: 64 << 20,
        mount: 1,
        key: "t/part-0.parquet".into(),
        version_tag: "9b2cf535f27731c974343645a3985328".to_owned(),
        read: true,
        expires_ms: 1_767_225_600_000,
        modified_ms: 1_700_000_000_000,
        ..Ticket::default()
    };
    check("A ticket", &ticket.sign(&key));
    assert_eq!(Ticket::verify(&example("A ticket"), &[&key]), Ok(ticket));
}
