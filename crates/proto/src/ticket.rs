//! Tickets: what a client may do at a worker, signed by the master, so that the worker needs no call to check it.
//!
//! A ticket is the protobuf bytes of a [`Ticket`], then their HMAC-SHA256 (RFC 2104). Clients carry it as it is. Keys come to the
//! workers with the cluster view; the first signs, all verify, so that keys can be rotated.

use bytes::Bytes;
use forebay_base::{FileId, InodeId, MountId, TimestampMs, VersionTag};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;

const MAC_LEN: usize = 32;

/// What the holder may do with one version of one file, and all that a worker must know to serve it.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Ticket {
    /// The file.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Its version; in a write ticket the one that the write makes.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Bytes of the file; 0 in a write ticket.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Bytes of a page: a power of two, at least one checksum chunk.
    #[prost(uint32, tag = "4")]
    pub page_size: u32,
    /// Bytes of a block: a multiple of the page size.
    #[prost(uint64, tag = "5")]
    pub block_size: u64,
    /// Which store has the bytes.
    #[prost(uint32, tag = "6")]
    pub mount: u32,
    /// The object's key, relative to the mount's root.
    #[prost(bytes = "bytes", tag = "7")]
    pub key: Bytes,
    /// The store's mark of this version; in a write ticket of the version that is replaced, empty when the object must not exist.
    #[prost(string, tag = "8")]
    pub version_tag: String,
    /// Whether the holder may read.
    #[prost(bool, tag = "9")]
    pub read: bool,
    /// Whether the holder may write parts.
    #[prost(bool, tag = "10")]
    pub write: bool,
    /// The multipart upload that parts belong to; empty before it has begun.
    #[prost(string, tag = "11")]
    pub upload: String,
    /// Parts are kept in the cache too (`CACHE_THROUGH`).
    #[prost(bool, tag = "12")]
    pub cache_writes: bool,
    /// When the ticket ends, in milliseconds since 1970-01-01 UTC.
    #[prost(uint64, tag = "13")]
    pub expires_ms: u64,
    /// Modification time of the object in its store, in milliseconds: part of its identity where there is no tag.
    #[prost(uint64, tag = "14")]
    pub modified_ms: u64,
    /// In a write ticket: bytes of the first part, from which those of the others follow ([`crate::parts::PartSizes`]).
    #[prost(uint64, tag = "15")]
    pub part_size: u64,
}

/// Why bytes are no valid ticket. All are a "permission denied" to the client; an expired one is renewed by opening again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not signed with a key of this cluster.
    #[error("ticket is not signed by this cluster")]
    BadSignature,
    /// Signed, but not readable: made by a newer version.
    #[error("ticket cannot be read: {0}")]
    Unreadable(String),
    /// Ended.
    #[error("ticket expired at {expired_ms} ms, it is {now_ms} ms now")]
    Expired {
        /// When it ended.
        expired_ms: u64,
        /// What the worker's clock says.
        now_ms: u64,
    },
}

impl Ticket {
    /// The file version that the ticket is for.
    pub fn file(&self) -> FileId {
        FileId { inode: InodeId(self.inode), version: self.version }
    }

    /// The store that has the bytes.
    pub fn mount_id(&self) -> MountId {
        MountId(self.mount)
    }

    /// The store's mark of this version.
    pub fn tag(&self) -> VersionTag {
        VersionTag(self.version_tag.clone())
    }

    /// The ticket as the client carries it.
    pub fn sign(&self, key: &[u8]) -> Bytes {
        let mut out = self.encode_to_vec();
        let mac = mac(key, &out).finalize().into_bytes();
        out.extend_from_slice(&mac);
        out.into()
    }

    /// Checks the signature against each key and reads the ticket; says nothing of its end.
    pub fn verify(bytes: &[u8], keys: &[impl AsRef<[u8]>]) -> Result<Ticket, TicketError> {
        let at = bytes.len().checked_sub(MAC_LEN).ok_or(TicketError::BadSignature)?;
        let (body, signature) = bytes.split_at(at);
        if !keys.iter().any(|key| mac(key.as_ref(), body).verify_slice(signature).is_ok()) {
            return Err(TicketError::BadSignature);
        }
        Ticket::decode(body).map_err(|error| TicketError::Unreadable(error.to_string()))
    }

    /// Reads a ticket without checking its signature: for the client, which only wants to know what it holds.
    pub fn peek(bytes: &[u8]) -> Result<Ticket, TicketError> {
        let at = bytes.len().checked_sub(MAC_LEN).ok_or(TicketError::BadSignature)?;
        Ticket::decode(&bytes[..at]).map_err(|error| TicketError::Unreadable(error.to_string()))
    }

    /// Refuses a ticket that has ended.
    pub fn check_time(&self, now: TimestampMs) -> Result<(), TicketError> {
        if now.0 > self.expires_ms {
            return Err(TicketError::Expired { expired_ms: self.expires_ms, now_ms: now.0 });
        }
        Ok(())
    }
}

fn mac(key: &[u8], body: &[u8]) -> Hmac<sha2::Sha256> {
    let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket { inode: 5, version: 2, length: 10, read: true, expires_ms: 1000, ..Ticket::default() }
    }

    #[test]
    fn signed_with_any_known_key() {
        let bytes = ticket().sign(b"old");
        assert_eq!(Ticket::verify(&bytes, &[&b"new"[..], b"old"]), Ok(ticket()));
        assert_eq!(Ticket::verify(&bytes, &[b"new"]), Err(TicketError::BadSignature));
        assert_eq!(Ticket::peek(&bytes), Ok(ticket()));
    }

    #[test]
    fn no_changed_byte_passes() {
        let bytes = ticket().sign(b"key");
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_eq!(Ticket::verify(&changed, &[b"key"]), Err(TicketError::BadSignature));
            assert_eq!(Ticket::verify(&bytes[..at], &[b"key"]), Err(TicketError::BadSignature));
        }
    }

    #[test]
    fn ends() {
        assert_eq!(ticket().check_time(TimestampMs(1000)), Ok(()));
        assert!(ticket().check_time(TimestampMs(1001)).is_err());
    }
}
