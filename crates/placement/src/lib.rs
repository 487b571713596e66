//! Where a block lives is computed, not stored (DESIGN.md, D3).
//!
//! [`owners`] ranks the live workers for a block by weighted rendezvous hashing (Thaler and
//! Ravishankar 1998; weights after Schindelhauer and Schomaker 2005, the logarithmic method): each
//! worker gets the score `-weight / ln(h)`, where `h` in (0, 1) comes from a hash of block and worker, and
//! the highest score owns the block. When a worker joins or leaves, only its own share moves.
//!
//! Every client and worker must compute the same ranking from the same list, so the hash is fixed here for
//! ever, and `ln` is our own: the platform's may differ in the last bit.

use forebay_base::{BlockId, WorkerId};

mod log2;

/// What placement needs to know of a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub worker: WorkerId,
    /// Its share relative to the others, made from its capacity. Zero owns nothing.
    pub weight: u64,
}

/// The first `count` workers for a block: its owner, then the replicas in order. Fewer when there are
/// fewer candidates with a weight.
pub fn owners(block: BlockId, candidates: &[Candidate], count: usize) -> Vec<WorkerId> {
    let mut ranked: Vec<(u128, WorkerId)> =
        candidates.iter().filter(|c| c.weight > 0).map(|c| (score(block, *c), c.worker)).collect();
    // A lower cost wins; equal ones (practically never) go by id, so that all agree.
    ranked.sort_unstable();
    ranked.truncate(count);
    ranked.into_iter().map(|(_, worker)| worker).collect()
}

/// The cost of `candidate` for `block`: `-log2(h) / weight` in fixed point, lower is better.
fn score(block: BlockId, candidate: Candidate) -> u128 {
    let mut h = mix(block.file.inode.0);
    h = mix(h ^ block.file.version.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    h = mix(h ^ u64::from(block.index.0));
    h = mix(h ^ candidate.worker.0);
    // neg_log2 has at most 63 bits, so the shift by 64 fits and keeps precision for any weight.
    (u128::from(log2::neg_log2(h)) << 64) / u128::from(candidate.weight)
}

/// The finaliser of MurmurHash3's 64-bit variant (Appleby, public domain) after an odd increment, as in SplitMix64.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::{BlockIndex, FileId, InodeId};
    use std::collections::HashMap;

    fn block(n: u64) -> BlockId {
        BlockId { file: FileId { inode: InodeId(n), version: 1 }, index: BlockIndex((n % 7) as u32) }
    }

    fn workers(weights: &[u64]) -> Vec<Candidate> {
        weights.iter().zip(100..).map(|(w, id)| Candidate { worker: WorkerId(id), weight: *w }).collect()
    }

    fn shares(candidates: &[Candidate], blocks: u64) -> HashMap<WorkerId, u64> {
        let mut count = HashMap::new();
        for n in 0..blocks {
            *count.entry(owners(block(n), candidates, 1)[0]).or_default() += 1;
        }
        count
    }

    #[test]
    fn shares_follow_weights() {
        let gib = 1u64 << 30;
        let count = shares(&workers(&[100 * gib, 200 * gib, 700 * gib]), 100_000);
        for (id, expected) in [(100, 10_000i64), (101, 20_000), (102, 70_000)] {
            let got = count[&WorkerId(id)] as i64;
            assert!((got - expected).abs() < 600, "worker {id}: {got} of {expected}");
        }
    }

    #[test]
    fn only_the_share_of_a_leaving_worker_moves() {
        let all = workers(&[5, 5, 5, 5]);
        for n in 0..10_000 {
            let before = owners(block(n), &all, 2);
            let rest: Vec<_> = all.iter().copied().filter(|c| c.worker != before[0]).collect();
            assert_eq!(owners(block(n), &rest, 1)[0], before[1], "the first replica takes over");
            let others: Vec<_> = all.iter().copied().filter(|c| c.worker != before[1]).collect();
            assert_eq!(owners(block(n), &others, 1)[0], before[0], "nothing else moves");
        }
    }

    #[test]
    fn order_of_the_list_does_not_matter_and_zero_owns_nothing() {
        let list = workers(&[3, 0, 9]);
        let mut reversed = list.clone();
        reversed.reverse();
        for n in 0..1_000 {
            assert_eq!(owners(block(n), &list, 3), owners(block(n), &reversed, 3));
            assert_eq!(owners(block(n), &list, 3).len(), 2);
        }
        assert!(owners(block(1), &[], 3).is_empty());
    }

    /// Clients of different versions and machines must agree: a change of these is a change of the wire.
    #[test]
    fn ranking_is_fixed_for_ever() {
        let got: Vec<u64> = (0..8).map(|n| owners(block(n), &workers(&[10, 20, 30, 40]), 1)[0].0).collect();
        assert_eq!(got, RANKING_OF_THE_FIRST_BLOCKS);
    }

    const RANKING_OF_THE_FIRST_BLOCKS: [u64; 8] = [103, 103, 100, 103, 102, 103, 102, 103];
}
