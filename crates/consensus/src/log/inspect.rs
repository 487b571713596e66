//! Reads the log of a member without changing anything, for people who look: also that of a member that runs, whose last records may
//! just be on their way.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{FORMAT, io_error};
use super::record::{RecordKind, decode};
use super::segment::{EXTENSION, SEGMENT_HEADER, Segment, SegmentHeader, damage_was_durable, scan};
use crate::error::OpenError;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place, from 0 without gaps.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// What the payload is.
    pub kind: LogEntryKind,
    /// The bytes that were proposed; of a list of members, JSON.
    pub payload: Bytes,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEntryKind {
    /// The first of a new leader.
    Blank,
    /// A command of the state machine.
    Command,
    /// The members of the group from here on.
    Members,
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The index of its first entry.
    pub first_index: u64,
    /// The index after its last one.
    pub next_index: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes at its end that are no whole record: on their way in a member that runs, torn by a crash in one that does not.
    pub torn_bytes: u64,
}

/// Reads the log in `dir`, oldest first, and shows each entry from `from` on; returns its files. `show` says whether to go on. One segment at a
/// time is in memory. Damage that no crash explains is [`OpenError::Corrupt`], after all that lies before it was shown.
pub fn inspect_log(dir: &Path, from: u64, mut show: impl FnMut(LogEntry) -> bool) -> Result<Vec<LogFile>, OpenError> {
    let mut files: Vec<LogFile> = Vec::new();
    let paths = segments_in(dir)?;
    let mut goes_on = true;
    for (at, path) in paths.iter().enumerate() {
        // A running member forgets old segments meanwhile.
        let bytes: Bytes = match fs::read(path) {
            Ok(bytes) => bytes.into(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && files.is_empty() => continue,
            Err(e) => return Err(io_error("read", path)(e)),
        };
        let header = header_of(dir, path, &bytes)?;
        let follows = files.last().is_none_or(|before: &LogFile| before.next_index == header.first_index);
        if !follows && !header.starts_over {
            return Err(corrupt(path, 0, &format!("the entries before {} are missing", header.first_index)));
        }
        let scanned = scan(&bytes, &header);
        if goes_on {
            goes_on = show_all(&bytes.slice(..scanned.end as usize), &header, from, &mut show);
        }
        if let Some(reason) = scanned.damage
            && (at + 1 < paths.len() || damage_was_durable(&bytes, &header, &scanned))
        {
            return Err(corrupt(path, scanned.end, reason));
        }
        files.push(LogFile {
            path: path.clone(),
            first_index: header.first_index,
            next_index: scanned.next_index,
            bytes: bytes.len() as u64,
            torn_bytes: bytes.len() as u64 - u64::from(scanned.end),
        });
    }
    Ok(files)
}

fn show_all(bytes: &Bytes, header: &SegmentHeader, from: u64, show: &mut impl FnMut(LogEntry) -> bool) -> bool {
    let mut at = SEGMENT_HEADER as usize;
    while at < bytes.len() {
        // They were all read just before.
        let Ok(found) = decode(&bytes.slice(at..), header.salt) else { return true };
        at += found.record.stored_len();
        let record = found.record;
        let kind = match record.kind {
            RecordKind::Blank => LogEntryKind::Blank,
            RecordKind::Command => LogEntryKind::Command,
            RecordKind::Members => LogEntryKind::Members,
        };
        let entry = LogEntry { index: record.index, term: record.term, kind, payload: record.payload };
        if entry.index >= from && !show(entry) {
            return false;
        }
    }
    true
}

fn segments_in(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        paths.push(entry.map_err(io_error("list", dir))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    paths.sort();
    Ok(paths)
}

fn header_of(dir: &Path, path: &Path, bytes: &[u8]) -> Result<SegmentHeader, OpenError> {
    let header = SegmentHeader::decode(bytes).map_err(|version| match version {
        Some(found) => OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT },
        None => corrupt(path, 0, "the segment's header does not match its checksum"),
    })?;
    match *path == Segment::path(dir, header.first_index) {
        true => Ok(header),
        false => Err(corrupt(path, 0, "the file's name is not that of its first entry")),
    }
}

fn corrupt(path: &Path, offset: u32, reason: &str) -> OpenError {
    OpenError::Corrupt { file: path.to_owned(), offset: u64::from(offset), reason: reason.to_owned() }
}
