//! Bytes that can be made again: any range of a file follows from its seed and the offset alone.

use std::fmt;
use std::ops::Range;

const WORD: u64 = 8;

/// An endless file of pseudo-random bytes. Two seeds share no visible pattern, nor do two offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    seed: u64,
}

/// The first byte that is not what the seed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where in the file.
    pub offset: u64,
    /// What the seed says.
    pub expected: u8,
    /// What was read.
    pub found: u8,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, expected, found } = self;
        write!(f, "byte {offset} is {found:#04x}, expected {expected:#04x}")
    }
}

impl std::error::Error for Mismatch {}

impl Seeded {
    /// The file of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The file that belongs to a name, so that each object of a tree has its own bytes.
    pub fn named(name: &str) -> Self {
        // FNV-1a: spread enough, because every word goes through `mix` again.
        let seed = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { seed }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        let mut offset = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let skipped = (offset % WORD) as usize;
            let word = self.word(offset / WORD).to_le_bytes();
            let count = rest.len().min(word.len() - skipped);
            let (head, tail) = rest.split_at_mut(count);
            head.copy_from_slice(&word[skipped..skipped + count]);
            offset += count as u64;
            rest = tail;
            if offset.is_multiple_of(WORD) {
                offset = self.fill_words(offset, &mut rest);
            }
        }
    }

    /// Fills the whole words at the front of `rest`; the fast path of [`Seeded::fill`].
    fn fill_words(&self, offset: u64, rest: &mut &mut [u8]) -> u64 {
        let whole = rest.len() - rest.len() % WORD as usize;
        let (words, tail) = std::mem::take(rest).split_at_mut(whole);
        for (index, word) in words.chunks_exact_mut(WORD as usize).enumerate() {
            word.copy_from_slice(&self.word(offset / WORD + index as u64).to_le_bytes());
        }
        *rest = tail;
        offset + whole as u64
    }

    /// The bytes of a range.
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut buffer = vec![0; usize::try_from(range.end - range.start).expect("a range that fits in memory")];
        self.fill(range.start, &mut buffer);
        buffer
    }

    /// Compares what was read from `offset` on with what the seed says.
    pub fn check(&self, offset: u64, found: &[u8]) -> Result<(), Mismatch> {
        let mut expected = [0_u8; 4096];
        for (index, chunk) in found.chunks(expected.len()).enumerate() {
            let at = offset + (index * expected.len()) as u64;
            let expected = &mut expected[..chunk.len()];
            self.fill(at, expected);
            if expected != chunk {
                return Err(first_difference(at, expected, chunk));
            }
        }
        Ok(())
    }

    fn word(&self, index: u64) -> u64 {
        mix(self.seed ^ mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15)))
    }
}

fn first_difference(at: u64, expected: &[u8], found: &[u8]) -> Mismatch {
    let pairs = expected.iter().zip(found);
    let (index, (expected, found)) =
        pairs.enumerate().find(|(_, (expected, found))| expected != found).expect("the slices differ");
    Mismatch { offset: at + index as u64, expected: *expected, found: *found }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_equals_the_same_range_of_the_whole() {
        let file = Seeded::new(7);
        let whole = file.bytes(0..300);
        for start in 0..40 {
            for end in start..300 {
                assert_eq!(file.bytes(start..end), whole[start as usize..end as usize], "{start}..{end}");
            }
        }
    }

    #[test]
    fn seeds_and_offsets_differ() {
        assert_ne!(Seeded::new(1).bytes(0..64), Seeded::new(2).bytes(0..64));
        assert_ne!(Seeded::named("a").bytes(0..64), Seeded::named("b").bytes(0..64));
        let file = Seeded::new(1);
        assert_ne!(file.bytes(0..64), file.bytes(64..128));
        assert_ne!(file.bytes(0..64), file.bytes(1 << 40..(1 << 40) + 64));
    }

    #[test]
    fn check_names_the_first_wrong_byte() {
        let file = Seeded::new(3);
        let mut bytes = file.bytes(5..10_005);
        assert_eq!(file.check(5, &bytes), Ok(()));
        assert!(file.check(6, &bytes).is_err());
        bytes[7_000] ^= 1;
        bytes[9_000] ^= 1;
        let mismatch = file.check(5, &bytes).expect_err("two bytes were changed");
        assert_eq!(mismatch.offset, 7_005);
        assert_eq!(mismatch.expected ^ 1, mismatch.found);
    }
}
