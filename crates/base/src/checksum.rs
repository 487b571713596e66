//! CRC32C (Castagnoli, RFC 3720 appendix B.4): the checksum of pages, frames and log entries.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// Bytes covered by one checksum of a page. A reader of a part of a page checks just the chunks it
/// touches: a 4 KiB read costs 16 KiB of checksum work (about 1 µs), and a 1 MiB page 256 bytes of checksums.
pub const CHECKSUM_CHUNK: usize = 16 << 10;

/// The CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(Crc32Iscsi, bytes) as u32
}

/// A CRC32C over bytes that come in pieces.
pub struct Crc32c(crc_fast::Digest);

impl Crc32c {
    /// Starts with no bytes.
    pub fn new() -> Crc32c {
        Crc32c(crc_fast::Digest::new(Crc32Iscsi))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn finalize(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksums of `bytes` chunk by chunk; the last chunk may be shorter.
pub fn chunk_checksums(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks(CHECKSUM_CHUNK).map(crc32c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_vectors() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn pieces_give_the_whole() {
        let mut pieces = Crc32c::new();
        pieces.update(b"fore");
        pieces.update(b"bay");
        assert_eq!(pieces.finalize(), crc32c(b"forebay"));
    }
}
