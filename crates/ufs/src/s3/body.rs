//! A request's body out of chunks, with its length known, so that it is sent as it is and can be sent again.

use bytes::Bytes;
use forebay_base::checksum::Crc32c;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Chunks on their way out.
pub(super) struct Chunks {
    rest: VecDeque<Bytes>,
    left: u64,
}

impl Chunks {
    pub(super) fn new(chunks: &[Bytes]) -> Chunks {
        Chunks { rest: chunks.iter().filter(|chunk| !chunk.is_empty()).cloned().collect(), left: length(chunks) }
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let chunk = self.rest.pop_front();
        self.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

/// Bytes of all chunks.
pub(super) fn length(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The CRC32C of all chunks as S3's headers want it: big endian, in base64.
pub(super) fn crc32c(chunks: &[Bytes]) -> String {
    use base64::Engine;
    let mut crc = Crc32c::new();
    for chunk in chunks {
        crc.update(chunk);
    }
    base64::engine::general_purpose::STANDARD.encode(crc.finalize().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        // RFC 3720 B.4: the CRC32C of "123456789" is e3069283.
        let chunks = [Bytes::from_static(b"1234"), Bytes::from_static(b"56789")];
        assert_eq!(crc32c(&chunks), "4waSgw==");
        assert_eq!(length(&chunks), 9);
    }
}
