//! Frames of the data plane (`docs/formats/data-plane.md`).
//!
//! A frame is a header of 32 bytes, a head (a protobuf message that says what is asked or answered) and a
//! body (file bytes, never parsed). On one connection requests are answered in the order in which they came, so that a
//! body can go out by `sendfile` in one piece; who wants parallel reads opens more connections.
//!
//! | request | answer |
//! |---|---|
//! | `Read` | `Data` frames in file order, then `Done`; or `Error` at any time |
//! | `WritePart` | `Written` or `Error` |
//! | `LocalOpen` (Unix socket) | `LocalOpened` with two descriptors attached, or `Error` |
//! | `LocalFill` (Unix socket) | `Done` once the range is cached, or `Error` |
//! | `LocalClose` (Unix socket) | `Done` |
//!
//! Checksums: a body is cut at the file offsets that are multiples of [`CHECKSUM_CHUNK`], and each piece has its CRC32C in
//! the head. For whole chunks it is the one made when the bytes entered the cache, so the reader checks the
//! whole way; for the cut ones at the ends the worker checks the chunk first, then makes a new one.

use forebay_base::ErrorKind;
use forebay_base::checksum::CHECKSUM_CHUNK;
use prost::Message;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 32;
/// The largest head: a ticket, a path and the checksums of the largest body fit well within.
pub const HEAD_LEN_MAX: u32 = 1 << 20;
/// The largest body of one frame.
pub const BODY_LEN_MAX: u64 = 64 << 20;
/// The largest range that one `Read` may ask for.
pub const READ_LEN_MAX: u64 = 1 << 30;
/// The version of this format that this build speaks.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 2] = *b"Fb";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Asks for a range: [`ReadHead`].
    Read = 1,
    /// Brings one part of a file that is being written: [`WritePartHead`], body.
    WritePart = 2,
    /// Asks for the descriptors of a cached file: [`LocalOpenHead`].
    LocalOpen = 3,
    /// Asks that a range be cached: [`LocalFillHead`].
    LocalFill = 4,
    /// Gives the descriptors of a cached file back: [`LocalCloseHead`].
    LocalClose = 5,
    /// File bytes: [`DataHead`], body.
    Data = 16,
    /// The end of an answer: [`DoneHead`].
    Done = 17,
    /// The end of an answer that failed: [`ErrorHead`].
    Error = 18,
    /// The part is stored: [`WrittenHead`].
    Written = 19,
    /// The descriptors: [`LocalOpenedHead`]; data file, then checksum file, as `SCM_RIGHTS`.
    LocalOpened = 20,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Read, WritePart, LocalOpen, LocalFill, LocalClose, Data, Done, Error, Written, LocalOpened]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The fixed start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Chosen by the asker, repeated in every frame of the answer.
    pub request: u64,
    /// Bytes of the head.
    pub head_len: u32,
    /// Bytes of the body.
    pub body_len: u64,
}

/// Bytes that are no frame of ours. The connection cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not our magic bytes: the peer speaks something else.
    #[error("not a data-plane frame (starts with {0:02x?}): is this the worker's data port?")]
    BadMagic([u8; 2]),
    /// A version that this build does not speak.
    #[error("data-plane version {0} is not spoken here (this build speaks version 1)")]
    BadVersion(u8),
    /// A kind that this build does not know.
    #[error("unknown data-plane frame kind {0}")]
    BadKind(u8),
    /// The header's checksum does not match.
    #[error("data-plane header is damaged: checksum {found:08x}, expected {expected:08x}")]
    BadChecksum {
        /// As sent.
        found: u32,
        /// As computed.
        expected: u32,
    },
    /// A head or body over its bound.
    #[error("data-plane frame is too large: head {head_len} bytes, body {body_len} bytes")]
    TooLarge {
        /// Bytes of the head.
        head_len: u32,
        /// Bytes of the body.
        body_len: u64,
    },
    /// The head is no protobuf message of its kind.
    #[error("data-plane head cannot be read: {0}")]
    BadHead(String),
}

impl Header {
    /// The bytes of the header: magic, version, kind, CRC32C of bytes 8 to 32, request, body length, head length, zero.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..2].copy_from_slice(&MAGIC);
        out[2] = VERSION;
        out[3] = self.kind as u8;
        out[8..16].copy_from_slice(&self.request.to_le_bytes());
        out[16..24].copy_from_slice(&self.body_len.to_le_bytes());
        out[24..28].copy_from_slice(&self.head_len.to_le_bytes());
        let checksum = forebay_base::checksum::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads and checks a header.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[0..2] != MAGIC {
            return Err(FrameError::BadMagic([bytes[0], bytes[1]]));
        }
        if bytes[2] != VERSION {
            return Err(FrameError::BadVersion(bytes[2]));
        }
        let (found, expected) = (u32_at(4), forebay_base::checksum::crc32c(&bytes[8..]));
        if found != expected {
            return Err(FrameError::BadChecksum { found, expected });
        }
        let kind = Kind::from_byte(bytes[3]).ok_or(FrameError::BadKind(bytes[3]))?;
        let (body_len, head_len) = (u64_at(16), u32_at(24));
        if head_len > HEAD_LEN_MAX || body_len > BODY_LEN_MAX {
            return Err(FrameError::TooLarge { head_len, body_len });
        }
        Ok(Header { kind, request: u64_at(8), head_len, body_len })
    }
}

/// Header and head of a frame, ready to be written before its body of `body_len` bytes.
pub fn encode_frame(kind: Kind, request: u64, head: &impl Message, body_len: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + head.encoded_len());
    append_frame(&mut out, kind, request, head, body_len);
    out
}

/// The same, after what `out` holds already: several frames can go out in one write.
pub fn append_frame(out: &mut Vec<u8>, kind: Kind, request: u64, head: &impl Message, body_len: u64) {
    let head_len = head.encoded_len();
    let header = Header { kind, request, head_len: head_len as u32, body_len };
    out.extend_from_slice(&header.encode());
    head.encode(out).expect("a Vec grows as needed");
}

/// Reads a head.
pub fn decode_head<M: Message + Default>(bytes: &[u8]) -> Result<M, FrameError> {
    M::decode(bytes).map_err(|error| FrameError::BadHead(error.to_string()))
}

/// Asks for `length` bytes at `offset`; what lies past the end of the file is left out.
#[derive(Clone, PartialEq, Message)]
pub struct ReadHead {
    /// A read ticket.
    #[prost(bytes = "bytes", tag = "1")]
    pub ticket: bytes::Bytes,
    /// First byte of the file.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Bytes, [`READ_LEN_MAX`] at most.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// The reader goes on sequentially: bytes after the range that the worker should fetch ahead.
    #[prost(uint64, tag = "4")]
    pub read_ahead: u64,
    /// Check every page on the worker and fetch damaged ones again: set after a checksum did not match.
    #[prost(bool, tag = "5")]
    pub verify: bool,
    /// A worker asks on behalf of its reader: the receiver must not ask other workers in turn.
    #[prost(bool, tag = "6")]
    pub from_worker: bool,
    /// Serve without keeping the pages (read type `NO_CACHE`).
    #[prost(bool, tag = "7")]
    pub no_cache: bool,
    /// Serve only what is cached: the answer ends with `Done` at the first byte that is not. Workers ask the previous owner of a block so.
    #[prost(bool, tag = "8")]
    pub cached_only: bool,
    /// Pages that are read again move to the top tier (read type `CACHE_PROMOTE`).
    #[prost(bool, tag = "9")]
    pub promote: bool,
}

/// File bytes; the body starts at `offset`.
#[derive(Clone, PartialEq, Message)]
pub struct DataHead {
    /// Where in the file the body starts.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// One CRC32C for each piece of the body.
    #[prost(fixed32, repeated, tag = "2")]
    pub checksums: Vec<u32>,
}

/// The end of an answer.
#[derive(Clone, PartialEq, Message)]
pub struct DoneHead {
    /// Bytes that were cached already.
    #[prost(uint64, tag = "1")]
    pub hit: u64,
    /// Bytes that the reader had to wait for.
    #[prost(uint64, tag = "2")]
    pub missed: u64,
}

/// The end of an answer that failed.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorHead {
    /// [`ErrorKind::code`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// What failed, with which value.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What mends it; may be empty.
    #[prost(string, tag = "3")]
    pub hint: String,
}

impl ErrorHead {
    /// The kind of the error.
    pub fn error_kind(&self) -> ErrorKind {
        ErrorKind::from_code(self.kind)
    }
}

/// One part of a file that is being written; the body is the part.
#[derive(Clone, PartialEq, Message)]
pub struct WritePartHead {
    /// A write ticket; for parts that are not whole one that names the upload.
    #[prost(bytes = "bytes", tag = "1")]
    pub ticket: bytes::Bytes,
    /// From 1.
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// Where in the file the part starts.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// The part is the whole file: store it at once, not in an upload.
    #[prost(bool, tag = "4")]
    pub whole: bool,
    /// One CRC32C for each piece of the body, as in [`DataHead`].
    #[prost(fixed32, repeated, tag = "5")]
    pub checksums: Vec<u32>,
}

/// The part is stored.
#[derive(Clone, PartialEq, Message)]
pub struct WrittenHead {
    /// The store's mark of the part, or of the whole object.
    #[prost(string, tag = "1")]
    pub tag: String,
}

/// Asks for the descriptors of a cached file.
#[derive(Clone, PartialEq, Message)]
pub struct LocalOpenHead {
    /// A read ticket.
    #[prost(bytes = "bytes", tag = "1")]
    pub ticket: bytes::Bytes,
}

/// The descriptors come with this frame. Their format: `docs/formats/page-store.md`.
#[derive(Clone, PartialEq, Message)]
pub struct LocalOpenedHead {
    /// Which tier holds the file, for statistics.
    #[prost(string, tag = "1")]
    pub tier: String,
}

/// Asks that a range be cached, then answers `Done`.
#[derive(Clone, PartialEq, Message)]
pub struct LocalFillHead {
    /// A read ticket.
    #[prost(bytes = "bytes", tag = "1")]
    pub ticket: bytes::Bytes,
    /// First byte of the file.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// As in [`ReadHead`].
    #[prost(uint64, tag = "4")]
    pub read_ahead: u64,
    /// As in [`ReadHead`].
    #[prost(bool, tag = "5")]
    pub verify: bool,
}

/// The client has closed the descriptors of a cached file, and unmapped it. Closing the connection says so of all.
#[derive(Clone, PartialEq, Message)]
pub struct LocalCloseHead {
    /// [`crate::ticket::Ticket::inode`].
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// [`crate::ticket::Ticket::version`].
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Bytes of any files that were read through descriptors of this connection since the last report, and were cached without being asked for. With inode 0 the
    /// request gives nothing back and is a report alone.
    #[prost(uint64, tag = "3")]
    pub read_bytes: u64,
}

/// The lengths of the pieces that a body at `offset` of `length` bytes is cut into for its checksums.
pub fn pieces(offset: u64, length: u64) -> impl Iterator<Item = usize> {
    let chunk = CHECKSUM_CHUNK as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        let rest = offset + length - at;
        let piece = (chunk - at % chunk).min(rest);
        at += piece;
        (piece > 0).then_some(piece as usize)
    })
}

/// The checksums of `body`, which starts at `offset` of its file.
pub fn checksum_pieces(offset: u64, body: &[u8]) -> Vec<u32> {
    let mut rest = body;
    pieces(offset, body.len() as u64)
        .map(|piece| {
            let (head, tail) = rest.split_at(piece);
            rest = tail;
            forebay_base::checksum::crc32c(head)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_returns_and_damage_is_seen() {
        let header = Header { kind: Kind::Data, request: 7, head_len: 9, body_len: 1 << 20 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = Header::decode(&damaged) {
                // Only the kind is outside the checksum: a flip there gives another known kind at worst.
                assert_eq!(bit / 8, 3, "bit {bit}");
                assert_ne!(read.kind, header.kind);
            }
        }
    }

    #[test]
    fn every_kind_has_its_byte() {
        let known: Vec<u8> = (0..=255).filter(|byte| Kind::from_byte(*byte).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 16, 17, 18, 19, 20]);
        assert_eq!(Kind::from_byte(5), Some(Kind::LocalClose));
    }

    #[test]
    fn pieces_are_cut_at_chunk_borders_of_the_file() {
        let cut = |offset, length| pieces(offset, length).collect::<Vec<_>>();
        assert_eq!(cut(0, 0), Vec::<usize>::new());
        assert_eq!(cut(0, 16384), [16384]);
        assert_eq!(cut(16380, 8), [4, 4]);
        assert_eq!(cut(100, 40000), [16284, 16384, 7332]);
        assert_eq!(checksum_pieces(16380, &[1; 8]), [forebay_base::checksum::crc32c(&[1; 4]); 2]);
    }
}
