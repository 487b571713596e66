//! One file of the log: a header, then records without gaps (docs/formats/raft-log.md).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use forebay_base::checksum::crc32c;

use super::disk::{Disk, DiskFile, replace_file};
use super::record::{ALIGNMENT, Header, PAYLOAD_MAX, Record, decode, stored_len};
use crate::runtime::draw;

/// Bytes before the first record.
pub(crate) const SEGMENT_HEADER: u32 = 64;
/// Extension of segments.
pub(crate) const EXTENSION: &str = "log";
/// The newest version of a segment that this release knows.
pub(crate) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"fbraflog";
const HAS_PREVIOUS: u32 = 1;
const STARTS_OVER: u32 = 2;
/// A place in the file is remembered every so many bytes: a read starts at most that far before what it wants, and a 32 MiB
/// segment costs 2,048 × 16 bytes of memory.
const MARK_DISTANCE: u32 = 16 << 10;
/// Bytes read at once.
const READ_BYTES: u64 = 256 << 10;

/// A place in the log: what openraft calls a log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The term of the entry's leader.
    pub(crate) term: u64,
    /// The entry's index.
    pub(crate) index: u64,
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// A random number that goes into the checksums of its records, so that bytes of another file are never taken for records.
    pub(crate) salt: u64,
    /// The index of its first record.
    pub(crate) first_index: u64,
    /// The entry before its first record; `None` only at the start of the log.
    pub(crate) previous: Option<Position>,
    /// Everything before is forgotten, even if older segments still lie around.
    pub(crate) starts_over: bool,
}

impl SegmentHeader {
    /// The header of a new segment that starts with `first_index`, after `previous`.
    pub(crate) fn new(first_index: u64, previous: Option<Position>, starts_over: bool) -> SegmentHeader {
        SegmentHeader { salt: draw(), first_index, previous, starts_over }
    }

    /// The bytes of the header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        flags |= if self.previous.is_some() { HAS_PREVIOUS } else { 0 };
        flags |= if self.starts_over { STARTS_OVER } else { 0 };
        let mut out = Vec::with_capacity(SEGMENT_HEADER as usize);
        out.extend_from_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(flags);
        out.put_u64_le(self.salt);
        out.put_u64_le(self.first_index);
        out.put_u64_le(self.previous.map_or(0, |p| p.term));
        out.put_bytes(0, SEGMENT_HEADER as usize - 4 - out.len());
        out.put_u32_le(crc32c(&out));
        out
    }

    /// Reads a header. `Err(Some(version))`: of a newer version; `Err(None)`: damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, Option<u32>> {
        let bytes = bytes.get(..SEGMENT_HEADER as usize).ok_or(None)?;
        let (fields, mut crc) = bytes.split_at(SEGMENT_HEADER as usize - 4);
        if &fields[..8] != MAGIC || crc.get_u32_le() != crc32c(fields) {
            return Err(None);
        }
        let mut fields = &fields[8..];
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(Some(version));
        }
        let flags = fields.get_u32_le();
        let salt = fields.get_u64_le();
        let first_index = fields.get_u64_le();
        let term = fields.get_u64_le();
        let previous = (flags & HAS_PREVIOUS != 0).then(|| Position { term, index: first_index.saturating_sub(1) });
        Ok(SegmentHeader { salt, first_index, previous, starts_over: flags & STARTS_OVER != 0 })
    }
}

/// A segment as readers see it: everything below `end` is complete and durable.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    /// Where some records start, ascending.
    pub(crate) marks: Vec<Mark>,
    /// The index after its last record.
    pub(crate) next_index: u64,
    /// The byte after its last record.
    pub(crate) end: u32,
}

/// A record's place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    pub(crate) offset: u32,
}

impl Segment {
    /// The path of the segment that starts at `first_index`.
    pub(crate) fn path(dir: &Path, first_index: u64) -> PathBuf {
        dir.join(format!("{first_index:020}.{EXTENSION}"))
    }

    /// Makes a segment without records; durable when this returns.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, header: SegmentHeader) -> io::Result<Segment> {
        let path = Segment::path(dir, header.first_index);
        let file = replace_file(disk, &path, &header.encode())?;
        Ok(Segment { path, file, header, marks: Vec::new(), next_index: header.first_index, end: SEGMENT_HEADER })
    }

    /// The last remembered place at or before `index`.
    pub(crate) fn mark_before(&self, index: u64) -> Mark {
        let after = self.marks.partition_point(|mark| mark.index <= index);
        let first = Mark { index: self.header.first_index, offset: SEGMENT_HEADER };
        after.checked_sub(1).map_or(first, |i| self.marks[i])
    }

    /// Reads records from `from` on, before `to`, until they have about `bytes_max` bytes; at least one if there is one.
    pub(crate) fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut taken = 0;
        self.scan_from(self.mark_before(from), to, |_, record| {
            if record.index >= from {
                taken += record.stored_len();
                records.push(record);
            }
            taken < bytes_max
        })?;
        Ok(records)
    }

    /// Where the record `index`, one of this segment's, starts.
    pub(crate) fn offset_of(&self, index: u64) -> io::Result<u32> {
        let mut found = None;
        self.scan_from(self.mark_before(index), index + 1, |offset, record| {
            found = (record.index == index).then_some(offset);
            found.is_none()
        })?;
        found.ok_or_else(|| self.damaged(self.end, "the record is missing"))
    }

    /// Calls `visit` with each record from `mark` on and before `to`, until it says stop.
    fn scan_from(&self, mark: Mark, to: u64, mut visit: impl FnMut(u32, Record) -> bool) -> io::Result<()> {
        let mut next = mark;
        let mut wanted = READ_BYTES;
        while next.index < to && next.offset < self.end {
            let chunk = self.read_chunk(next.offset, wanted)?;
            let mut at = 0;
            wanted = READ_BYTES;
            while next.index < to && at < chunk.len() {
                let length = Header::parse(&chunk[at..]).map_or(0, |header| stored_len(header.length));
                if (length == 0 || length > chunk.len() - at) && at > 0 {
                    break;
                }
                if length > chunk.len()
                    && length <= stored_len(PAYLOAD_MAX)
                    && (chunk.len() as u64) < u64::from(self.end - next.offset)
                {
                    wanted = length as u64;
                    break;
                }
                let found =
                    decode(&chunk.slice(at..), self.header.salt).map_err(|reason| self.damaged(next.offset, reason))?;
                if found.record.index != next.index {
                    return Err(self.damaged(next.offset, "the record is not the next one"));
                }
                let offset = next.offset;
                next.index += 1;
                next.offset += length as u32;
                at += length;
                if !visit(offset, found.record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read_chunk(&self, offset: u32, wanted: u64) -> io::Result<Bytes> {
        let length = wanted.min(u64::from(self.end - offset));
        let mut chunk = vec![0; length as usize];
        self.file.read_at(&mut chunk, u64::from(offset))?;
        Ok(chunk.into())
    }

    fn damaged(&self, offset: u32, reason: &str) -> io::Error {
        let path = self.path.display();
        io::Error::new(io::ErrorKind::InvalidData, format!("{path} is damaged at offset {offset}: {reason}"))
    }
}

/// Adds `mark` unless one lies close before it.
pub(crate) fn remember(marks: &mut Vec<Mark>, mark: Mark) {
    let last = marks.last().map_or(SEGMENT_HEADER, |mark| mark.offset);
    if mark.offset >= last.saturating_add(MARK_DISTANCE) {
        marks.push(mark);
    }
}

/// What the records of a segment's bytes are, up to the end or the first damage.
pub(crate) struct Scan {
    pub(crate) marks: Vec<Mark>,
    pub(crate) next_index: u64,
    /// The byte after the last good record.
    pub(crate) end: u32,
    /// The last good record, or the one before the segment.
    pub(crate) last: Option<Position>,
    /// Bytes that were durable before the last good record's batch was written.
    pub(crate) synced: u32,
    /// What is wrong at `end`; `None` when the segment ends there.
    pub(crate) damage: Option<&'static str>,
    /// The damage is a good record in the wrong place, which no crash makes.
    pub(crate) misplaced: bool,
}

/// Checks all records in `bytes`, a whole segment with this `header`.
pub(crate) fn scan(bytes: &Bytes, header: &SegmentHeader) -> Scan {
    let mut scan = Scan {
        marks: Vec::new(),
        next_index: header.first_index,
        end: SEGMENT_HEADER,
        last: header.previous,
        synced: SEGMENT_HEADER,
        damage: None,
        misplaced: false,
    };
    while (scan.end as usize) < bytes.len() {
        let rest = bytes.slice(scan.end as usize..);
        let found = match decode(&rest, header.salt) {
            Ok(found) if found.record.stored_len() > rest.len() => Err("the record's padding is incomplete"),
            other => other,
        };
        match found {
            Ok(found) => {
                let Record { index, term, .. } = found.record;
                if index != scan.next_index || scan.last.is_some_and(|last| term < last.term) {
                    scan.damage = Some("the record is not the next one");
                    scan.misplaced = true;
                    return scan;
                }
                remember(&mut scan.marks, Mark { index, offset: scan.end });
                scan.synced = found.synced;
                scan.last = Some(Position { term, index });
                scan.next_index += 1;
                scan.end += found.record.stored_len() as u32;
            }
            Err(reason) => {
                scan.damage = Some(reason);
                return scan;
            }
        }
    }
    scan
}

/// Whether a good record behind the damage proves that the damaged bytes were durable once, so that no crash has torn them.
pub(crate) fn damage_was_durable(bytes: &Bytes, header: &SegmentHeader, scan: &Scan) -> bool {
    let start = scan.end as usize;
    scan.misplaced
        || (start..bytes.len()).step_by(ALIGNMENT).any(|at| {
            let Some(candidate) = Header::parse(&bytes[at..]) else {
                return false;
            };
            candidate.index >= scan.next_index
                && candidate.synced > scan.end
                && candidate.synced as usize <= at
                && candidate.length <= bytes.len() - at
                && decode(&bytes.slice(at..), header.salt).is_ok()
        })
}
