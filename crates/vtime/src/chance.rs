//! Chance from a seed.

use crate::executor;

/// A generator of chance (SplitMix64, Steele et al., 2014): equal seeds give equal numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to before `n`; 0 for `n` 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so often in a thousand times.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    /// One of them; none of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        match from.len() {
            0 => None,
            n => from.get(self.below(n as u64) as usize),
        }
    }

    /// Another generator, whose numbers do not depend on how many are drawn here from now on.
    pub fn fork(&mut self) -> Chance {
        Chance(self.draw())
    }
}

/// A number drawn by the current executor.
pub fn random() -> u64 {
    executor::current().chance(Chance::draw)
}

/// A number from 0 to before `n`, drawn by the current executor.
pub fn below(n: u64) -> u64 {
    executor::current().chance(|chance| chance.below(n))
}
