//! Reading cached bytes and believing only their checksums.

use crate::sidecar::{Header, Record};
use forebay_base::checksum::{CHECKSUM_CHUNK, crc32c};
use std::{io, ops::Range};

const CHUNK: u64 = CHECKSUM_CHUNK as u64;

/// A data file and its checksum file.
pub(crate) trait Source {
    /// The header of the checksum file.
    fn header(&self) -> &Header;
    /// Fills `buf` from the data file.
    fn read_data(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills `buf` from the checksum file.
    fn read_sums(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A page that cannot be believed, and the error of the disk if there was one.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) page: u32,
    pub(crate) error: Option<io::Error>,
}

/// A record's bytes: on the stack up to pages of 4 MiB.
#[expect(clippy::large_enum_variant, reason = "the hot path of small reads shall not allocate")]
pub(crate) enum RecordBytes {
    Small([u8; 1056], usize),
    Large(Vec<u8>),
}

impl RecordBytes {
    /// Reads the record of a page.
    pub(crate) fn read(source: &impl Source, page: u32) -> Result<RecordBytes, Fault> {
        let geometry = source.header().geometry;
        let len = geometry.record_len();
        let mut bytes = match len {
            0..=1056 => RecordBytes::Small([0; 1056], len),
            _ => RecordBytes::Large(vec![0; len]),
        };
        let read = source.read_sums(bytes.as_mut(), geometry.record_offset(page));
        read.map(|()| bytes).map_err(|error| Fault { page, error: Some(error) })
    }

    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            RecordBytes::Small(bytes, len) => &mut bytes[..*len],
            RecordBytes::Large(bytes) => bytes,
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            RecordBytes::Small(bytes, len) => &bytes[..*len],
            RecordBytes::Large(bytes) => bytes,
        }
    }

    /// The record, when the page is valid.
    pub(crate) fn decode(&self, header: &Header, page: u32) -> Result<Record<'_>, Fault> {
        Record::decode(header, page, self.as_slice()).ok_or(Fault { page, error: None })
    }
}

/// Reads `buf.len()` bytes of the file at `offset` and checks every chunk that they touch.
pub(crate) fn read_verified(source: &impl Source, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
    read_told(source, offset, buf, &mut |_, _| {})
}

/// The same, with what [`piece_checksums`] gives of the range: whole chunks are not summed up a second time.
pub(crate) fn read_summed(source: &impl Source, offset: u64, buf: &mut [u8]) -> Result<Vec<u32>, Fault> {
    let mut sums = Vec::with_capacity((buf.len() as u64).div_ceil(CHUNK) as usize + 1);
    read_told(source, offset, buf, &mut |whole, piece| sums.push(whole.unwrap_or_else(|| crc32c(piece))))?;
    Ok(sums)
}

/// Tells of each piece of a chunk its bytes, and the checksum when it is a whole one.
fn read_told(
    source: &impl Source,
    offset: u64,
    buf: &mut [u8],
    tell: &mut impl FnMut(Option<u32>, &[u8]),
) -> Result<(), Fault> {
    let mut rest = buf;
    for part in page_parts(source.header(), offset..offset + rest.len() as u64) {
        let (head, tail) = rest.split_at_mut((part.end - part.start) as usize);
        read_in_page(source, part, head, tell)?;
        rest = tail;
    }
    Ok(())
}

/// The checksums of `range`, cut where the file's chunks end: stored ones for whole chunks, new ones for pieces of checked chunks.
pub(crate) fn piece_checksums(source: &impl Source, range: Range<u64>) -> Result<Vec<u32>, Fault> {
    let mut out = Vec::with_capacity(((range.end - range.start).div_ceil(CHUNK) + 1) as usize);
    for part in page_parts(source.header(), range) {
        let page = PageSums::read(source, part.start)?;
        let record = page.record(source.header())?;
        for piece in chunk_parts(part) {
            let chunk = page.chunk(&record, piece.start);
            if piece == chunk.range {
                out.push(chunk.checksum);
                continue;
            }
            let mut scratch = [0; CHECKSUM_CHUNK];
            out.push(crc32c(page.read_piece(source, &chunk, &piece, &mut scratch)?));
        }
    }
    Ok(out)
}

fn page_parts(header: &Header, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    cut(range, header.geometry.page_size() as u64)
}

fn chunk_parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    cut(range, CHUNK)
}

fn cut(range: Range<u64>, every: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = range.end.min((start / every + 1) * every);
        (start < range.end).then_some(start..at)
    })
}

/// The record of one page, and where the page lies.
struct PageSums {
    page: u32,
    start: u64,
    bytes: RecordBytes,
}

/// One chunk of a page: where in the file, and its checksum.
struct Chunk {
    range: Range<u64>,
    checksum: u32,
}

impl PageSums {
    fn read(source: &impl Source, offset: u64) -> Result<PageSums, Fault> {
        let geometry = source.header().geometry;
        let page = geometry.page_of(offset).ok_or(Fault { page: u32::MAX, error: None })?;
        Ok(PageSums { page, start: geometry.page_offset(page), bytes: RecordBytes::read(source, page)? })
    }

    fn record(&self, header: &Header) -> Result<Record<'_>, Fault> {
        self.bytes.decode(header, self.page)
    }

    /// The chunk that holds `offset`; of no bytes when the page ends before.
    fn chunk(&self, record: &Record<'_>, offset: u64) -> Chunk {
        let chunk = ((offset - self.start) / CHUNK) as usize;
        if chunk >= record.chunks() {
            return Chunk { range: offset..offset, checksum: 0 };
        }
        let start = self.start + chunk as u64 * CHUNK;
        let page_end = self.start + record.length as u64;
        Chunk { range: start..page_end.min(start + CHUNK), checksum: record.checksum(chunk) }
    }

    fn fault(&self, error: Option<io::Error>) -> Fault {
        Fault { page: self.page, error }
    }

    /// Reads and checks a chunk, and returns the piece of it.
    fn read_piece<'b>(
        &self,
        source: &impl Source,
        chunk: &Chunk,
        piece: &Range<u64>,
        scratch: &'b mut [u8; CHECKSUM_CHUNK],
    ) -> Result<&'b [u8], Fault> {
        if piece.end > chunk.range.end {
            return Err(self.fault(None));
        }
        let bytes = &mut scratch[..(chunk.range.end - chunk.range.start) as usize];
        source.read_data(bytes, chunk.range.start).map_err(|error| self.fault(Some(error)))?;
        if crc32c(bytes) != chunk.checksum {
            return Err(self.fault(None));
        }
        let start = (piece.start - chunk.range.start) as usize;
        Ok(&bytes[start..start + (piece.end - piece.start) as usize])
    }
}

/// Reads `part`, which lies in one page, into `buf` of its length.
fn read_in_page(
    source: &impl Source,
    part: Range<u64>,
    buf: &mut [u8],
    tell: &mut impl FnMut(Option<u32>, &[u8]),
) -> Result<(), Fault> {
    let page = PageSums::read(source, part.start)?;
    let record = page.record(source.header())?;
    let place = |range: &Range<u64>| (range.start - part.start) as usize..(range.end - part.start) as usize;
    let is_whole = |piece: &Range<u64>| *piece == page.chunk(&record, piece.start).range;
    // The whole chunks in one read, the pieces at the ends through a buffer.
    let whole: Vec<Range<u64>> = chunk_parts(part.clone()).filter(is_whole).collect();
    if let (Some(first), Some(last)) = (whole.first(), whole.last()) {
        let middle = first.start..last.end;
        let bytes = &mut buf[place(&middle)];
        source.read_data(bytes, middle.start).map_err(|error| page.fault(Some(error)))?;
    }
    let mut scratch = [0; CHECKSUM_CHUNK];
    for piece in chunk_parts(part.clone()) {
        let chunk = page.chunk(&record, piece.start);
        let whole = piece == chunk.range;
        if !whole {
            buf[place(&piece)].copy_from_slice(page.read_piece(source, &chunk, &piece, &mut scratch)?);
        } else if crc32c(&buf[place(&piece)]) != chunk.checksum {
            return Err(page.fault(None));
        }
        tell(whole.then_some(chunk.checksum), &buf[place(&piece)]);
    }
    Ok(())
}
