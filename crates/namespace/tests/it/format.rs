//! docs/formats/namespace.md says what is stored: its worked example, byte by byte.
use bytes::Bytes;
use forebay_metastore::{Direction, KeyRange, MemStore, Read};
use forebay_namespace::command::{CompleteFile, CreateFile, MakeDirectory};
use forebay_namespace::{Command, Request, StateMachine};
use std::sync::Arc;

const PAGE: &str = include_str!("../../../../docs/formats/namespace.md");

/// The lines of the page's block of this name.
fn block(name: &str) -> Vec<&'static str> {
    let start = format!("```{name}\n");
    let from = PAGE.find(&start).unwrap() + start.len();
    let len = PAGE[from..].find("```").unwrap();
    PAGE[from..from + len].lines().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn or_dash(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { hex(bytes) }
}

fn commands() -> [Command; 3] {
    let mkdir = MakeDirectory { path: "/d".into(), mode: 0o755, ..Default::default() };
    let create = CreateFile {
        path: "/d/f".into(),
        owner: "ann".to_owned(),
        mode: 0o640,
        lease_ms: 60_000,
        ..Default::default()
    };
    let complete = CompleteFile { write: 1, length: 5, tag: "\"e\"".to_owned(), modified_ms: 0 };
    let request = Request { client: 7, sequence: 1, acked_below: 1 };
    [Command::internal(1000, mkdir), Command::requested(request, 2000, create), Command::internal(3000, complete)]
}

/// The bytes on a line before its remark, which two spaces divide from them.
fn bytes_of(line: &str) -> String {
    let line = line.trim_start();
    let end = line.find("  ").unwrap_or(line.len());
    line[..end].replace(' ', "")
}

#[test]
fn the_command_is_as_the_page_says() {
    let expected: String = block("command").into_iter().map(bytes_of).collect();
    assert_eq!(hex(&commands()[1].to_bytes()), expected);
}

#[test]
fn the_rows_are_as_the_page_says() {
    let store = Arc::new(MemStore::new());
    let mut machine = StateMachine::open(store.clone()).unwrap();
    for (position, command) in (1u8..).zip(commands()) {
        machine.apply(&[(Bytes::from(vec![position]), command.to_bytes())]).unwrap();
    }
    let rows = store.scan(KeyRange::all(), Direction::Forward).map(|row| {
        let (key, value) = row.unwrap();
        format!("{} {} = {}", key[0] as char, or_dash(&key[1..]), or_dash(&value))
    });
    let rows: Vec<String> = rows.collect();
    assert_eq!(rows, block("rows"), "the rows are\n{}", rows.join("\n"));
}
