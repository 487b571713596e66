//! The vote of this member: 48 bytes in a file of its own (docs/formats/raft-log.md).

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut};
use forebay_base::checksum::crc32c;

use super::disk::{Disk, read_file, replace_file};
use crate::error::OpenError;

const FILE: &str = "vote";
const MAGIC: &[u8; 8] = b"fbvote\0\0";
const VERSION: u32 = 1;
const LENGTH: usize = 48;

/// Whom this member votes for in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredVote {
    /// The term.
    pub(crate) term: u64,
    /// The candidate.
    pub(crate) member: u64,
    /// Whether a quorum has granted it, as far as this member knows.
    pub(crate) committed: bool,
}

/// Stores the vote; durable when this returns.
pub(crate) fn save(disk: &dyn Disk, dir: &Path, vote: StoredVote) -> io::Result<()> {
    replace_file(disk, &dir.join(FILE), &encode(vote)).map(drop)
}

/// The stored vote; `None` when this member never voted.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<StoredVote>, OpenError> {
    let path = dir.join(FILE);
    match read_file(disk, &path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|reason| OpenError::Corrupt {
            file: path,
            offset: 0,
            reason: reason.to_owned(),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { what: "read", path, source }),
    }
}

pub(crate) fn encode(vote: StoredVote) -> Vec<u8> {
    let mut out = Vec::with_capacity(LENGTH);
    out.extend_from_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(u32::from(vote.committed));
    out.put_u64_le(vote.term);
    out.put_u64_le(vote.member);
    out.put_bytes(0, 12);
    out.put_u32_le(crc32c(&out));
    out
}

fn decode(bytes: &[u8]) -> Result<StoredVote, &'static str> {
    if bytes.len() != LENGTH || &bytes[..8] != MAGIC {
        return Err("this is not a vote");
    }
    let (fields, mut crc) = bytes.split_at(LENGTH - 4);
    if crc.get_u32_le() != crc32c(fields) {
        return Err("the vote does not match its checksum");
    }
    let mut fields = &fields[8..];
    if fields.get_u32_le() != VERSION {
        return Err("the vote is of an unknown version");
    }
    let committed = fields.get_u32_le() == 1;
    Ok(StoredVote { term: fields.get_u64_le(), member: fields.get_u64_le(), committed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_and_damage_is_seen() {
        let vote = StoredVote { term: 4, member: 2, committed: true };
        let bytes = encode(vote);
        assert_eq!(decode(&bytes), Ok(vote));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(decode(&bad).is_err(), "byte {i}");
        }
    }
}
