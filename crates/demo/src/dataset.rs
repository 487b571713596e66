//! Generated objects, and what their bytes must be when they come back.

use bytes::Bytes;
use forebay_base::checksum::crc32c;

/// What is known of an object after its bytes have gone into a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Below the mount.
    pub(crate) key: String,
    /// Its length.
    pub(crate) length: u64,
    /// CRC32C of its bytes.
    pub(crate) checksum: u32,
}

/// A set of objects that can be made one by one.
pub(crate) struct Dataset {
    /// How many there are.
    pub(crate) count: usize,
    /// Makes the key and the bytes of one.
    pub(crate) make: fn(usize) -> (String, Bytes),
}

impl Dataset {
    /// The object's bytes, and what to expect of them later.
    pub(crate) fn object(&self, index: usize) -> (Expected, Bytes) {
        let (key, bytes) = (self.make)(index);
        (Expected { key, length: bytes.len() as u64, checksum: crc32c(&bytes) }, bytes)
    }
}
