//! A page in memory: its bytes and their checksums, made once, when the bytes enter.

use bytes::Bytes;
use forebay_base::checksum::{CHECKSUM_CHUNK, chunk_checksums, crc32c};
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a page. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PageBytes {
    bytes: Bytes,
    checksums: Arc<[u32]>,
}

impl PageBytes {
    /// A whole page, or what the file has of its last one.
    pub(crate) fn new(bytes: Bytes) -> PageBytes {
        PageBytes { checksums: chunk_checksums(&bytes).collect(), bytes }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The CRC32C of each chunk.
    pub(crate) fn checksums(&self) -> &[u32] {
        &self.checksums
    }

    /// The checksums that a frame of `part` (bytes of this page) carries: those of the page where chunks are whole.
    pub(crate) fn checksums_of(&self, part: &Range<usize>) -> Vec<u32> {
        let chunks = part.start / CHECKSUM_CHUNK..part.end.div_ceil(CHECKSUM_CHUNK);
        chunks
            .map(|chunk| {
                let whole = chunk * CHECKSUM_CHUNK..((chunk + 1) * CHECKSUM_CHUNK).min(self.bytes.len());
                let wanted = whole.start.max(part.start)..whole.end.min(part.end);
                match wanted == whole {
                    true => self.checksums[chunk],
                    false => crc32c(&self.bytes[wanted]),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_proto::frame::checksum_pieces;

    #[test]
    fn parts_have_the_checksums_of_their_pieces() {
        let page: Vec<u8> = (0..100_000u32).map(|i| (i % 241) as u8).collect();
        let bytes = PageBytes::new(page.clone().into());
        for part in [0..100_000, 0..1, 5..16_384, 16_384..32_768, 16_383..32_769, 99_999..100_000, 98_304..100_000] {
            let expected = checksum_pieces(part.start as u64, &page[part.clone()]);
            assert_eq!(bytes.checksums_of(&part), expected, "{part:?}");
        }
    }
}
