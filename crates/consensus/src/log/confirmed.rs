//! How far the log was confirmed: a mark beside the segments (docs/formats/raft-log.md), by which a log is noticed whose end was taken away.
//!
//! It is written after each sync of the log and not synced itself, so it costs no more than a copy into the kernel's memory. It never says more than
//! is durable: only synced entries get into it, and before a tail is taken back it is lowered, durably. It says less after a power failure, by what the
//! kernel had not written back yet. It lies in two copies that are written in turn, so that a torn one leaves the other; the higher one counts.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use forebay_base::checksum::crc32c;

use super::directory::io_error;
use super::disk::{Disk, DiskFile, read_file, replace_file};
use super::segment::Position;
use crate::error::OpenError;

const FILE: &str = "confirmed";
const MAGIC: &[u8; 8] = b"fbconfmd";
const VERSION: u32 = 1;
const HAS_ENTRY: u32 = 1;
/// Bytes of one copy.
pub(super) const LENGTH: usize = 48;
/// Where the copies begin: on pages of their own.
const PLACES: [usize; 2] = [0, 4096];

/// The mark of a log that is open.
pub(crate) struct Confirmed {
    file: Arc<dyn DiskFile>,
    upto: Option<Position>,
    /// Which copy is written next.
    next: usize,
}

/// What the mark in `dir` says: nothing where there is none, or none that can be read.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Position>, OpenError> {
    let path = dir.join(FILE);
    let bytes = match read_file(disk, &path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { what: "read", path, source }),
    };
    let copies: Vec<Option<Position>> = PLACES.into_iter().filter_map(|at| decode(bytes.get(at..)?)).collect();
    if copies.is_empty() {
        tracing::warn!(path = %path.display(), "the mark of what was confirmed cannot be read; it is made anew");
    }
    Ok(copies.into_iter().flatten().max())
}

impl Confirmed {
    /// The mark of the log in `dir`, whose last entry is `last`, and durable.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, last: Option<Position>) -> Result<Confirmed, OpenError> {
        let path = dir.join(FILE);
        let mut both = vec![0; PLACES[1] + LENGTH];
        for at in PLACES {
            both[at..at + LENGTH].copy_from_slice(&encode(last));
        }
        let file = replace_file(disk, &path, &both).map_err(io_error("write", &path))?;
        Ok(Confirmed { file, upto: last, next: 0 })
    }

    /// The log is durable up to `upto`.
    pub(crate) fn raise(&mut self, upto: Option<Position>) -> io::Result<()> {
        if upto <= self.upto {
            return Ok(());
        }
        self.file.write_at(&encode(upto), PLACES[self.next] as u64)?;
        self.next = 1 - self.next;
        self.upto = upto;
        Ok(())
    }

    /// What comes after `upto` is about to be taken back: no copy says more, durably, when this returns.
    pub(crate) fn lower(&mut self, upto: Option<Position>) -> io::Result<()> {
        if self.upto <= upto {
            return Ok(());
        }
        for at in PLACES {
            self.file.write_at(&encode(upto), at as u64)?;
        }
        self.file.sync()?;
        self.upto = upto;
        Ok(())
    }

    /// Makes durable what it says.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

pub(crate) fn encode(upto: Option<Position>) -> Vec<u8> {
    let Position { term, index } = upto.unwrap_or(Position { term: 0, index: 0 });
    let mut out = Vec::with_capacity(LENGTH);
    out.extend_from_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(if upto.is_some() { HAS_ENTRY } else { 0 });
    out.put_u64_le(term);
    out.put_u64_le(index);
    out.put_bytes(0, 12);
    out.put_u32_le(crc32c(&out));
    out
}

/// What a copy says; `None` if it cannot be read.
fn decode(bytes: &[u8]) -> Option<Option<Position>> {
    let (fields, mut crc) = bytes.get(..LENGTH)?.split_at(LENGTH - 4);
    let (magic, mut fields) =
        (&fields[..8], if crc.get_u32_le() == crc32c(fields) { &fields[8..] } else { return None });
    if magic != MAGIC || fields.get_u32_le() != VERSION {
        return None;
    }
    let has_entry = fields.get_u32_le() & HAS_ENTRY != 0;
    let position = Position { term: fields.get_u64_le(), index: fields.get_u64_le() };
    Some(has_entry.then_some(position))
}

#[cfg(test)]
mod tests {
    use super::super::simulated_disk::SimulatedDisk;
    use super::*;
    use forebay_vtime::Chance;

    fn at(index: u64) -> Option<Position> {
        Some(Position { term: 3, index })
    }

    #[test]
    fn returns_and_damage_is_seen() {
        for upto in [None, at(0), at(77)] {
            let bytes = encode(upto);
            assert_eq!(decode(&bytes), Some(upto));
            for i in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[i] ^= 1;
                assert_eq!(decode(&bad), None, "byte {i}");
                assert_eq!(decode(&bytes[..i]), None);
            }
        }
    }

    /// Whatever a power failure keeps, loses or tears of it.
    #[test]
    fn it_never_says_more_than_was_durable() {
        let dir = Path::new("/log");
        for seed in 0..200 {
            let mut chance = Chance::new(seed);
            let disk = SimulatedDisk::default();
            let mut mark = Confirmed::open(&disk, dir, at(0)).unwrap();
            let mut upto = 0;
            for _ in 0..chance.below(20) {
                if chance.below(4) == 0 {
                    upto -= chance.below(upto + 1);
                    mark.lower(at(upto)).unwrap();
                } else {
                    upto += chance.below(5);
                    mark.raise(at(upto)).unwrap();
                }
            }
            assert_eq!(load(&disk.after_kill(), dir).unwrap(), at(upto), "seed {seed}");
            let said = load(&disk.after_crash(&mut chance), dir).unwrap();
            assert!(said <= at(upto), "seed {seed}: {said:?}, and {upto} was durable");
            mark.sync().unwrap();
            assert_eq!(load(&disk.after_crash(&mut chance), dir).unwrap(), at(upto), "seed {seed}");
        }
    }
}
