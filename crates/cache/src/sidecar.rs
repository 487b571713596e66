//! The checksum file that lies beside each data file: `docs/formats/page-store.md`.
//!
//! A header, then one record for each page at a place computed from its index: length, the CRC32C of each chunk, and a mark that is the CRC32C of all that and
//! of the page's name. The mark makes a page valid: there is no other flag, a record that is torn, blank or of another file has no right mark, and one write
//! makes a page valid. All numbers are little-endian.

use crate::geometry::Geometry;
use forebay_base::{
    FileId, InodeId,
    checksum::{CHECKSUM_CHUNK, Crc32c, crc32c},
};

/// Bytes of the header.
pub const HEADER_LEN: usize = 64;
/// The version of this format.
pub const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"FbPages\0";

/// The start of a checksum file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The file version whose pages these are.
    pub file: FileId,
    /// Where its pages lie.
    pub geometry: Geometry,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

impl Header {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&self.geometry.page_size().to_le_bytes());
        out[16..24].copy_from_slice(&self.file.inode.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.file.version.to_le_bytes());
        out[32..36].copy_from_slice(&(CHECKSUM_CHUNK as u32).to_le_bytes());
        let checksum = crc32c(&out[..60]);
        out[60..64].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a header; none when it is damaged or not of this format.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Header> {
        let known = bytes[0..8] == MAGIC
            && u32_at(bytes, 60) == crc32c(&bytes[..60])
            && u32_at(bytes, 8) == FORMAT
            && u32_at(bytes, 32) as usize == CHECKSUM_CHUNK;
        Some(Header {
            file: FileId { inode: InodeId(u64_at(bytes, 16)), version: u64_at(bytes, 24) },
            geometry: Geometry::new(u32_at(bytes, 12)).filter(|_| known)?,
        })
    }
}

fn mark(file: FileId, page: u32, record: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&file.inode.0.to_le_bytes());
    crc.update(&file.version.to_le_bytes());
    crc.update(&page.to_le_bytes());
    crc.update(record);
    crc.finalize()
}

/// The bytes of the record of a valid page of `length` bytes.
///
/// # Panics
/// When `checksums` are not one for each chunk of `length` bytes.
pub fn encode_record(header: &Header, page: u32, length: u32, checksums: &[u32]) -> Vec<u8> {
    assert_eq!(checksums.len(), (length as usize).div_ceil(CHECKSUM_CHUNK));
    let record_len = header.geometry.record_len();
    let mut out = Vec::with_capacity(record_len);
    out.extend_from_slice(&length.to_le_bytes());
    for checksum in checksums {
        out.extend_from_slice(&checksum.to_le_bytes());
    }
    out.resize(record_len - 4, 0);
    let mark = mark(header.file, page, &out);
    out.extend_from_slice(&mark.to_le_bytes());
    out
}

/// The record of a valid page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the page: less than the page size only for the last page of the file.
    pub length: u32,
    checksums: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record of a page; none when the page is not valid.
    pub fn decode(header: &Header, page: u32, bytes: &'a [u8]) -> Option<Record<'a>> {
        let bytes = bytes.get(..header.geometry.record_len())?;
        let (body, stored_mark) = bytes.split_at(bytes.len() - 4);
        let length = u32_at(body, 0);
        if length == 0 || length > header.geometry.page_size() {
            return None;
        }
        let chunks = (length as usize).div_ceil(CHECKSUM_CHUNK);
        (u32_at(stored_mark, 0) == mark(header.file, page, body))
            .then_some(Record { length, checksums: &body[4..4 + 4 * chunks] })
    }

    /// How many chunks the page has.
    pub fn chunks(&self) -> usize {
        self.checksums.len() / 4
    }

    /// The CRC32C of a chunk of the page, counted from 0.
    ///
    /// # Panics
    /// When the page has no such chunk.
    pub fn checksum(&self, chunk: usize) -> u32 {
        u32_at(self.checksums, 4 * chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { file: FileId { inode: InodeId(0x1122), version: 3 }, geometry: Geometry::new(32 << 10).unwrap() }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The worked example of docs/formats/page-store.md: a file of 20,000 bytes, each the low byte of its offset divided by 100.
    #[test]
    fn worked_example() {
        let document = include_str!("../../../docs/formats/page-store.md");
        let content: Vec<u8> = (0..20_000u32).map(|at| (at / 100) as u8).collect();
        let checksums: Vec<u32> = forebay_base::checksum::chunk_checksums(&content).collect();
        for line in [hex(&header().encode()), hex(&encode_record(&header(), 0, 20_000, &checksums))] {
            assert!(document.contains(&line), "the document lacks {line}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let encoded = header().encode();
        assert_eq!(Header::decode(&encoded), Some(header()));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = encoded;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&damaged), None, "bit {bit}");
        }
        let encoded = encode_record(&header(), 7, 32 << 10, &[1, 2]);
        let record = Record::decode(&header(), 7, &encoded).unwrap();
        assert_eq!((record.length, record.chunks(), record.checksum(1)), (32 << 10, 2, 2));
        assert_eq!(Record::decode(&header(), 8, &encoded), None, "the record of another page");
        assert_eq!(Record::decode(&header(), 7, &[0; 16]), None, "a blank record");
        for bit in 0..encoded.len() * 8 {
            let mut damaged = encoded.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&header(), 7, &damaged), None, "bit {bit}");
        }
    }
}
