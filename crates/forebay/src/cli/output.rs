//! What commands print: text for people, JSON for programs.

use super::quote::quote;
use anyhow::Context;
use forebay_base::{NsPath, TimestampMs};
use forebay_client::{Entry, EntryKind};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
    time::{Duration, UNIX_EPOCH},
};

/// The first error of [`line()`].
static LOST: OnceLock<io::Error> = OnceLock::new();

/// A line on standard output. A reader that has gone away (`forebay fs ls / | head`) ends the command quietly. After any other error the command
/// goes on with what it does, but prints nothing more: [`complete()`] tells at its end.
pub(crate) fn line(text: impl std::fmt::Display) {
    write_line(format_args!("{text}\n").to_string().as_bytes());
}

fn write_line(line: &[u8]) {
    if LOST.get().is_some() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(line).and_then(|()| out.flush()) {
        quit_on_closed_pipe(&error);
        let _ = LOST.set(error);
    }
}

/// A line that ends with a path or a name of the tree: as it is where a program reads it, quoted on a terminal (see [`quote`]).
pub(crate) fn named_line(before: impl std::fmt::Display, name: &[u8], after: &str) {
    let mut line = before.to_string().into_bytes();
    line.extend(match io::stdout().is_terminal() {
        true => quote(name).into_bytes(),
        false => name.to_vec(),
    });
    line.extend(after.bytes());
    line.push(b'\n');
    write_line(&line);
}

/// A path for a line of text: quoted on a terminal.
pub(crate) fn shown(path: &NsPath) -> String {
    match io::stdout().is_terminal() {
        true => quote(path.as_bytes()),
        false => path.to_string(),
    }
}

/// A message without characters that a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Whether all lines were written.
pub(crate) fn complete() -> anyhow::Result<()> {
    match LOST.get() {
        None => Ok(()),
        Some(error) => anyhow::bail!("the output is cut short: cannot write to standard output: {error}"),
    }
}

/// Bytes as they are, on standard output; [`flush()`] after the last.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let written = io::stdout().lock().write_all(bytes);
    written.inspect_err(quit_on_closed_pipe).context("cannot write to standard output")
}

/// Sends out what [`bytes()`] still holds.
pub(crate) fn flush() -> anyhow::Result<()> {
    io::stdout().lock().flush().inspect_err(quit_on_closed_pipe).context("cannot write to standard output")
}

/// Ends the process as other tools do when nobody reads their output any more.
pub(crate) fn quit_on_closed_pipe(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // 128 + SIGPIPE, as a shell reports it.
        std::process::exit(141);
    }
}

/// A time in UTC, to the second (RFC 3339).
pub(crate) fn time(time: TimestampMs) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(time.0.min(253_402_300_799_000))).to_string()
}

/// `drwxr-xr-x`.
pub(crate) fn mode(entry: &Entry) -> String {
    let kind = if entry.is_directory() { 'd' } else { '-' };
    let bits = (0..9).rev().map(|bit| if entry.mode >> bit & 1 == 1 { b"xwr"[bit % 3] as char } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

/// The text, or a dash where there is none, so that columns stay columns.
pub(crate) fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// `1 file`, `2 files`.
pub(crate) fn files(count: u64) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// The fields of a path: `path`, and `path_hex` when it is no UTF-8.
pub(crate) fn path_json(path: &NsPath) -> Value {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => json!({ "path": text }),
        Err(_) => json!({ "path": path.to_string(), "path_hex": hex(path.as_bytes()) }),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry for programs.
pub(crate) fn entry_json(entry: &Entry) -> Value {
    let mut value = path_json(&entry.path);
    let kind = match entry.kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
    };
    let fields = json!({
        "kind": kind,
        "length": entry.length,
        "modified_ms": entry.modified.0,
        "accessed_ms": entry.accessed.0,
        "changed_ms": entry.changed.0,
        "owner": entry.owner,
        "group": entry.group,
        "mode": format!("{:04o}", entry.mode),
        "inode": entry.inode.0,
        "version": entry.version,
        "version_tag": entry.version_tag.0,
        "complete": entry.complete,
        "persisted": entry.persisted,
        "mount": entry.mount.0,
        "mount_point": entry.mount_point,
        "page_size": entry.page_size,
        "block_size": entry.block_size,
    });
    merge(&mut value, fields);
    if !entry.xattrs.is_empty() {
        let xattrs = entry.xattrs.iter().map(|x| (String::from_utf8_lossy(&x.name).into_owned(), json!(hex(&x.value))));
        merge(&mut value, json!({ "xattrs_hex": xattrs.collect::<serde_json::Map<_, _>>() }));
    }
    value
}

/// Adds the fields of `more` to the object `value`.
pub(crate) fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(time(TimestampMs(0)), "1970-01-01T00:00:00Z");
        assert_eq!(time(TimestampMs(1_700_000_000_999)), "2023-11-14T22:13:20Z");
        assert_eq!(time(TimestampMs(u64::MAX)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn odd_paths_keep_their_bytes() {
        assert_eq!(path_json(&NsPath::parse(b"/\xff").unwrap())["path_hex"], "2fff");
        assert!(path_json(&NsPath::parse("/é".as_bytes()).unwrap()).get("path_hex").is_none());
    }
}
