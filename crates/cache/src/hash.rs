//! Hashing of ids: the same in every process, since directories are chosen and named by it.

use forebay_base::{FileId, InodeId};

/// Folded multiply: the 128-bit product's halves, xored (as in wyhash by Wang Yi).
const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

// Odd constants with as many ones as zeros, from wyhash.
const SECRETS: [u64; 3] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3];

/// The hash of an inode.
pub(crate) fn of_inode(inode: InodeId) -> u64 {
    mix(inode.0 ^ SECRETS[0], SECRETS[1])
}

/// The hash of a file version.
pub(crate) fn of_file(file: FileId) -> u64 {
    mix(of_inode(file.inode) ^ file.version, SECRETS[2])
}

/// The hash of one extent of a file version.
pub(crate) fn of_extent(file: FileId, extent: u32) -> u64 {
    mix(of_file(file) ^ extent as u64, SECRETS[0] ^ SECRETS[2])
}

/// The hash of some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(SECRETS[0], |hash, byte| mix(hash ^ *byte as u64, SECRETS[1]))
}

/// A number in (0, 1) that belongs to `a` and `b`.
pub(crate) fn unit_interval(a: u64, b: u64) -> f64 {
    // 53 bits: what an f64 can tell apart; the half keeps both ends out.
    ((mix(a ^ SECRETS[1], b ^ SECRETS[2]) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
