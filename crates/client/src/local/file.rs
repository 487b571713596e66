//! One cached file, read through its descriptors.

use super::link::Lease;
use super::threads::DiskThreads;
use crate::data::fault::Fault;
use forebay_base::FileId;
use forebay_base::checksum::{CHECKSUM_CHUNK, crc32c};
use forebay_cache::sidecar::{HEADER_LEN, Header, Record};
use forebay_cache::{hangs_under, wait_under};
use rustix::fs::{fstat, fstatfs};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// `TMPFS_MAGIC` of linux/magic.h. Reads of a tmpfs never wait for a disk, but it does not know `RWF_NOWAIT`.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const CHUNK: u64 = CHECKSUM_CHUNK as u64;
/// Words of a part of the bitmap: 65,536 chunks, 1 GiB of the file.
const WORDS: usize = 1024;

/// A cached file on this host.
#[derive(Debug)]
pub(crate) struct LocalFile {
    data: OwnedFd,
    sums: Arc<OwnedFd>,
    header: Header,
    /// Chunks whose bytes were compared with their checksums. Parts are made when first needed: one bit for 16 KiB that were read.
    verified: Vec<OnceLock<Box<[AtomicU64; WORDS]>>>,
    in_memory: bool,
    /// The disk that it is on.
    device: u64,
    /// That disk has kept a reader waiting for too long.
    silent: AtomicBool,
    /// It was read since the last look: see [`super::registry`].
    pub(super) used: AtomicBool,
    /// The last field, so that the descriptors are closed before the worker is told so.
    lease: Lease,
}

/// Why a range was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// It must be read from a disk, and the caller may not wait.
    WouldBlock,
    /// The disk does not answer.
    Silent,
    /// Not cached in this file.
    Missing,
    /// Its bytes do not match their checksums.
    Damaged,
    /// The lease has ended, or the descriptors do not work: away with them.
    Gone,
}

/// Whether a read may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Allowed,
    Forbidden,
}

impl LocalFile {
    /// Takes descriptors that a worker has given; reads the file's header, on a thread that may wait if it must.
    pub(super) async fn open(
        lease: Lease,
        length: u64,
        (data, sums): (OwnedFd, OwnedFd),
        threads: &DiskThreads,
        patience: Duration,
    ) -> Result<LocalFile, Fault> {
        let bad = |what: &str| Fault::Broken(format!("descriptors of a cached file: {what}"));
        let device = fstat(&data).map_err(std::io::Error::from)?.st_dev;
        let is_tmpfs = |fd: &OwnedFd| fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == TMPFS_MAGIC);
        let in_memory = is_tmpfs(&data) && is_tmpfs(&sums);
        let sums = Arc::new(sums);
        let header = match read_header(&sums, in_memory, Waiting::Forbidden) {
            Err(Miss::WouldBlock) => {
                let sums = sums.clone();
                threads.run(device, patience, move || read_header(&sums, in_memory, Waiting::Allowed)).await
            }
            read => read,
        };
        let header = match header {
            Err(Miss::Silent) => return Err(Fault::Silent(patience)),
            read => read.ok().flatten().ok_or_else(|| bad("the checksum file is damaged or of another format"))?,
        };
        if header.file != lease.file() {
            return Err(bad("they are of another file"));
        }
        let parts = length.div_ceil(CHUNK * 64 * WORDS as u64) as usize;
        Ok(LocalFile {
            in_memory,
            device,
            silent: AtomicBool::new(false),
            verified: (0..parts).map(|_| OnceLock::new()).collect(),
            used: AtomicBool::new(true),
            data,
            sums,
            header,
            lease,
        })
    }

    /// The number of the disk that it is on.
    pub(crate) fn device(&self) -> u64 {
        self.device
    }

    /// Its disk does not answer: it is not to be used any more.
    pub(crate) fn set_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Which version of which file this is.
    pub(crate) fn id(&self) -> FileId {
        self.lease.file()
    }

    /// The connection that it is leased on.
    pub(crate) fn link(&self) -> &std::sync::Arc<super::link::Link> {
        self.lease.link()
    }

    /// Reads `out` at `offset`, within the file. Right bytes or none: after a miss `out` may hold anything.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8], waiting: Waiting) -> Result<(), Miss> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.pread(&self.data, offset, out, waiting)?;
        let end = offset + out.len() as u64;
        let chunks = offset / CHUNK..end.div_ceil(CHUNK);
        if !chunks.clone().all(|chunk| self.is_verified(chunk)) {
            self.verify_pages(offset, out, waiting)?;
        }
        match self.lease.link().is_alive() {
            true => Ok(()),
            false => Err(Miss::Gone),
        }
    }

    /// Checks what has been read and was not checked before, page by page.
    fn verify_pages(&self, offset: u64, out: &mut [u8], waiting: Waiting) -> Result<(), Miss> {
        let geometry = self.header.geometry;
        let end = offset + out.len() as u64;
        let mut record_bytes = vec![0; geometry.record_len()];
        let mut at = offset;
        while at < end {
            let page = geometry.page_of(at).ok_or(Miss::Missing)?;
            let page_start = geometry.page_offset(page);
            let page_end = (page_start + u64::from(geometry.page_size())).min(end);
            let place = geometry.record_offset(page);
            self.pread(&self.sums, place, &mut record_bytes, waiting)?;
            let record = Record::decode(&self.header, page, &record_bytes).ok_or(Miss::Missing)?;
            for chunk in at / CHUNK..page_end.div_ceil(CHUNK) {
                if !self.is_verified(chunk) {
                    self.verify_chunk(&record, page_start, chunk, offset, out, waiting)?;
                }
            }
            at = page_end;
        }
        Ok(())
    }

    fn verify_chunk(
        &self,
        record: &Record<'_>,
        page_start: u64,
        chunk: u64,
        offset: u64,
        out: &mut [u8],
        waiting: Waiting,
    ) -> Result<(), Miss> {
        let start = chunk * CHUNK;
        let in_page = start - page_start;
        let length = u64::from(record.length).checked_sub(in_page).filter(|left| *left > 0);
        let length = length.ok_or(Miss::Missing)?.min(CHUNK);
        let expected = record.checksum((in_page / CHUNK) as usize);
        let wanted = overlap(start..start + length, offset..offset + out.len() as u64);
        let place = (wanted.start - offset) as usize..(wanted.end - offset) as usize;
        let whole = wanted == (start..start + length);
        if !(whole && crc32c(&out[place.clone()]) == expected) {
            // Only a part of the chunk is wanted, or its page became valid after its bytes had been read.
            let mut scratch = [0; CHECKSUM_CHUNK];
            let scratch = &mut scratch[..length as usize];
            self.pread(&self.data, start, scratch, waiting)?;
            if crc32c(scratch) != expected {
                return Err(Miss::Damaged);
            }
            let from = (wanted.start - start) as usize;
            out[place.clone()].copy_from_slice(&scratch[from..from + place.len()]);
        }
        self.set_verified(chunk);
        Ok(())
    }

    fn pread(&self, fd: &OwnedFd, offset: u64, out: &mut [u8], waiting: Waiting) -> Result<(), Miss> {
        pread(fd, self.in_memory, offset, out, waiting)
    }

    fn is_verified(&self, chunk: u64) -> bool {
        let (part, word, bit) = place_of(chunk);
        let words = self.verified.get(part).and_then(OnceLock::get);
        words.is_some_and(|words| words[word].load(Ordering::Relaxed) & bit != 0)
    }

    fn set_verified(&self, chunk: u64) {
        let (part, word, bit) = place_of(chunk);
        if let Some(part) = self.verified.get(part) {
            let words = part.get_or_init(|| Box::new([const { AtomicU64::new(0) }; WORDS]));
            words[word].fetch_or(bit, Ordering::Relaxed);
        }
    }
}

/// None: it is damaged.
fn read_header(sums: &OwnedFd, in_memory: bool, waiting: Waiting) -> Result<Option<Header>, Miss> {
    let mut bytes = [0; HEADER_LEN];
    pread(sums, in_memory, 0, &mut bytes, waiting)?;
    Ok(Header::decode(&bytes))
}

/// Reads all of `out`. What lies past the end of a sparse file has never been written.
fn pread(fd: &OwnedFd, in_memory: bool, offset: u64, out: &mut [u8], waiting: Waiting) -> Result<(), Miss> {
    match waiting {
        Waiting::Forbidden if hangs_under(fd.as_fd()) => return Err(Miss::WouldBlock),
        Waiting::Forbidden => {}
        Waiting::Allowed => wait_under(fd.as_fd()),
    }
    let flags = match waiting {
        Waiting::Forbidden if !in_memory => ReadWriteFlags::NOWAIT,
        _ => ReadWriteFlags::empty(),
    };
    let mut done = 0;
    while done < out.len() {
        let at = offset + done as u64;
        let rest = &mut out[done..];
        // Plain pread is the quicker system call.
        let read = match flags.is_empty() {
            true => rustix::io::pread(fd, rest, at),
            false => preadv2(fd, &mut [IoSliceMut::new(rest)], at, flags),
        };
        match read {
            Ok(0) => return Err(Miss::Missing),
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if waiting == Waiting::Forbidden => {
                return Err(Miss::WouldBlock);
            }
            Err(error) => {
                tracing::warn!(%error, "cached file cannot be read through its descriptor");
                return Err(Miss::Gone);
            }
        }
    }
    Ok(())
}

fn place_of(chunk: u64) -> (usize, usize, u64) {
    let word = (chunk / 64) as usize;
    (word / WORDS, word % WORDS, 1 << (chunk % 64))
}

fn overlap(a: Range<u64>, b: Range<u64>) -> Range<u64> {
    a.start.max(b.start)..a.end.min(b.end)
}
