//! Reads what lies in the directory at open: checks every record, cuts a torn tail, refuses damage that no crash explains.
//!
//! A crash can tear just what was written after the last completed sync: one batch at the end of the last segment. Each record says how
//! much of its segment was durable before its batch was written. So when a bad record is followed by a good one that calls the
//! bad one's bytes durable, something else has damaged the file, and acknowledged entries may be gone: the member refuses to
//! start. Otherwise the tail is cut at the first bad record.
//!
//! What is kept of the last batch is written once more and synced before anyone relies on it: the crash may have come before its sync, or
//! after a sync that failed, upon which the kernel calls pages clean that never reached the disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{FORMAT, io_error};
use super::disk::{Disk, DiskFile};
use super::segment::{EXTENSION, Position, Scan, Segment, SegmentHeader, damage_was_durable, scan};
use crate::error::OpenError;

/// The log as it lies on disk.
pub(crate) struct Recovered {
    /// Oldest first, without gaps.
    pub(crate) segments: Vec<Segment>,
    /// The last entry, or the one before the log when it is empty.
    pub(crate) last: Option<Position>,
    /// Bytes cut from the end.
    pub(crate) cut_bytes: u64,
}

/// Opens every segment in `dir`. Up to `confirmed` the log was durable once: one that ends before that is refused.
pub(crate) fn recover(disk: &dyn Disk, dir: &Path, confirmed: Option<Position>) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered { segments: Vec::new(), last: None, cut_bytes: 0 };
    let mut paths = segment_paths(disk, dir)?.into_iter().peekable();
    while let Some(path) = paths.next() {
        let file = disk.open(&path).map_err(io_error("open", &path))?;
        let bytes = read_all(file.as_ref(), &path)?;
        let header = read_header(dir, &path, &bytes)?;
        join(disk, dir, &mut recovered, &path, &header)?;
        let scan = scan(&bytes, &header);
        if let Some(reason) = scan.damage {
            let is_last = paths.peek().is_none();
            if !is_last || scan.last < confirmed || damage_was_durable(&bytes, &header, &scan) {
                return Err(OpenError::Corrupt { file: path, offset: u64::from(scan.end), reason: reason.to_owned() });
            }
            recovered.cut_bytes = bytes.len() as u64 - u64::from(scan.end);
            cut(file.as_ref(), &path, &scan)?;
        }
        if paths.peek().is_none() {
            check_end(dir, scan.last, confirmed)?;
            write_again(file.as_ref(), &path, &bytes, &scan)?;
        }
        recovered.last = scan.last;
        recovered.segments.push(Segment {
            path,
            file,
            header,
            marks: scan.marks,
            next_index: scan.next_index,
            end: scan.end,
        });
    }
    check_end(dir, recovered.last, confirmed)?;
    Ok(recovered)
}

/// Entries of a later term than the mark's are there only if those of the mark were taken back before.
fn check_end(dir: &Path, last: Option<Position>, confirmed: Option<Position>) -> Result<(), OpenError> {
    let Some(confirmed) = confirmed.filter(|confirmed| last.as_ref() < Some(confirmed)) else {
        return Ok(());
    };
    let end = last.map_or("there is no segment, but there was one".to_owned(), |last| {
        format!("it ends with entry {}", last.index)
    });
    let reason = format!("{end}, and entry {} was confirmed", confirmed.index);
    Err(OpenError::LogMissing { dir: dir.to_owned(), reason })
}

fn segment_paths(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let mut paths: Vec<PathBuf> = names.into_iter().map(|name| dir.join(name)).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == EXTENSION));
    paths.sort();
    Ok(paths)
}

fn read_all(file: &dyn DiskFile, path: &Path) -> Result<Bytes, OpenError> {
    let length = file.len().map_err(io_error("read", path))?;
    if length > u64::from(u32::MAX) {
        return Err(corrupt(path, 0, "the file is longer than any segment"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_at(&mut bytes, 0).map_err(io_error("read", path))?;
    Ok(bytes.into())
}

fn read_header(dir: &Path, path: &Path, bytes: &[u8]) -> Result<SegmentHeader, OpenError> {
    let header = SegmentHeader::decode(bytes).map_err(|version| match version {
        Some(found) => OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT },
        None => corrupt(path, 0, "the segment's header does not match its checksum"),
    })?;
    if *path != Segment::path(dir, header.first_index) {
        return Err(corrupt(path, 0, "the file's name is not that of its first entry"));
    }
    Ok(header)
}

/// Checks that a segment follows those before, or forgets these when it starts the log over.
fn join(
    disk: &dyn Disk,
    dir: &Path,
    recovered: &mut Recovered,
    path: &Path,
    header: &SegmentHeader,
) -> Result<(), OpenError> {
    if header.starts_over {
        for old in recovered.segments.drain(..) {
            disk.remove(&old.path).map_err(io_error("remove", &old.path))?;
            disk.sync_dir(dir).map_err(io_error("sync", dir))?;
        }
        return Ok(());
    }
    if !recovered.segments.is_empty() && recovered.last != header.previous {
        let first = header.first_index;
        let reason = format!("the entries before {first} are missing or of another term");
        return Err(corrupt(path, 0, &reason));
    }
    Ok(())
}

fn cut(file: &dyn DiskFile, path: &Path, scan: &Scan) -> Result<(), OpenError> {
    file.set_len(u64::from(scan.end)).map_err(io_error("cut", path))?;
    file.sync().map_err(io_error("sync", path))
}

fn write_again(file: &dyn DiskFile, path: &Path, bytes: &Bytes, scan: &Scan) -> Result<(), OpenError> {
    let batch = scan.synced.min(scan.end);
    let bytes = &bytes[batch as usize..scan.end as usize];
    file.write_at(bytes, u64::from(batch)).map_err(io_error("write", path))?;
    file.sync().map_err(io_error("sync", path))
}

fn corrupt(path: &Path, offset: u64, reason: &str) -> OpenError {
    OpenError::Corrupt { file: path.to_owned(), offset, reason: reason.to_owned() }
}
