//! One entry of the log as bytes (docs/formats/raft-log.md).

use bytes::{BufMut, Bytes};
use forebay_base::checksum::Crc32c;

/// Bytes before the payload.
pub(crate) const RECORD_HEADER: usize = 32;

/// Records start at multiples of this, so that a search for the next one after damage has few places to look.
pub(crate) const ALIGNMENT: usize = 8;

/// The longest payload: lengths above are damage. The settings keep commands far below.
pub(crate) const PAYLOAD_MAX: usize = 256 << 20;

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its place in the log, from 0 without gaps.
    pub(crate) index: u64,
    /// The term of the leader that made it; never falls from record to record.
    pub(crate) term: u64,
    /// What the payload is.
    pub(crate) kind: RecordKind,
    /// The content.
    pub(crate) payload: Bytes,
}

/// What the payload of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A command of the state machine.
    Command,
    /// The members of the group from here on, as JSON.
    Members,
}

impl RecordKind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            RecordKind::Blank => 1,
            RecordKind::Command => 2,
            RecordKind::Members => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<RecordKind> {
        match code {
            1 => Some(RecordKind::Blank),
            2 => Some(RecordKind::Command),
            3 => Some(RecordKind::Members),
            _ => None,
        }
    }
}

impl Record {
    /// Bytes that the record takes in a segment, padding included.
    pub(crate) fn stored_len(&self) -> usize {
        stored_len(self.payload.len())
    }

    /// Appends the record to `out`, for a segment with this `salt`, of which `synced` bytes were durable when the batch began.
    pub(crate) fn encode(&self, salt: u64, synced: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32_le(0);
        out.put_u32_le(self.payload.len() as u32);
        out.put_u64_le(self.index);
        out.put_u64_le(self.term);
        out.put_u32_le(synced);
        out.put_u8(self.kind.code());
        out.put_bytes(0, 3);
        out.extend_from_slice(&self.payload);
        let crc = checksum(salt, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        out.resize(start + self.stored_len(), 0);
    }
}

/// A record found in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The entry.
    pub(crate) record: Record,
    /// Bytes of the segment that were durable before its batch was written.
    pub(crate) synced: u32,
}

/// Decodes the record at the start of `bytes`, a part of a segment with this `salt`. The error says what is wrong.
pub(crate) fn decode(bytes: &Bytes, salt: u64) -> Result<Found, &'static str> {
    let header = Header::parse(bytes).ok_or("the record's header is incomplete")?;
    let end = RECORD_HEADER + header.length;
    if header.length > PAYLOAD_MAX || end > bytes.len() {
        return Err("the record is longer than what is left of the segment");
    }
    if checksum(salt, &bytes[4..end]) != header.crc {
        return Err("the record does not match its checksum");
    }
    let kind = RecordKind::from_code(header.kind).ok_or("the record is of an unknown kind")?;
    Ok(Found {
        record: Record { index: header.index, term: header.term, kind, payload: bytes.slice(RECORD_HEADER..end) },
        synced: header.synced,
    })
}

/// Bytes that a record with a payload of `payload_len` takes.
pub(crate) const fn stored_len(payload_len: usize) -> usize {
    (RECORD_HEADER + payload_len).next_multiple_of(ALIGNMENT)
}

/// The fields before the payload, unchecked.
pub(crate) struct Header {
    pub(crate) crc: u32,
    pub(crate) length: usize,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) synced: u32,
    pub(crate) kind: u8,
}

impl Header {
    /// The header at the start of `bytes`; `None` when they are too few.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        let mut bytes = bytes.get(..RECORD_HEADER)?;
        use bytes::Buf;
        Some(Header {
            crc: bytes.get_u32_le(),
            length: bytes.get_u32_le() as usize,
            index: bytes.get_u64_le(),
            term: bytes.get_u64_le(),
            synced: bytes.get_u32_le(),
            kind: bytes.get_u8(),
        })
    }
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&salt.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &'static [u8]) -> Record {
        Record { index: 7, term: 3, kind: RecordKind::Command, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn returns_as_it_was_and_aligned() {
        for payload in [&b""[..], b"a", b"12345678", b"123456789"] {
            let mut out = Vec::new();
            record(payload).encode(5, 64, &mut out);
            assert_eq!(out.len() % ALIGNMENT, 0);
            let found = decode(&out.into(), 5).unwrap();
            assert_eq!((found.record, found.synced), (record(payload), 64));
        }
    }

    #[test]
    fn any_changed_bit_is_seen_and_another_segment_too() {
        let mut out = Vec::new();
        record(b"payload!").encode(5, 64, &mut out);
        assert!(decode(&out.clone().into(), 6).is_err());
        for bit in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad.into(), 5).is_err(), "bit {bit}");
        }
        for length in 0..out.len() {
            assert!(decode(&out[..length].to_vec().into(), 5).is_err());
        }
    }
}
