//! What chance leaves of that which was not synced.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A disk writes a sector whole or not at all.
pub(super) const SECTOR: u64 = 512;

/// How much of what was not synced reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// What was synced, and nothing else.
    Nothing,
    /// As after the end of a process.
    Everything,
    /// What came before some moment; of a write at that moment the first sectors.
    Prefix,
    /// Anything, whatever came before it: each sector with this chance, in percent.
    Scattered(u32),
}

/// What a power cut leaves, from a seed.
pub(super) struct Loss {
    random: StdRng,
    /// The same for all, or drawn for each file and for the names.
    of_all: Option<Kept>,
}

impl Loss {
    /// Of five power cuts one leaves just what was synced; three differ from file to file; one is a file system that keeps all in order.
    pub(super) fn new(seed: u64) -> Loss {
        let mut random = StdRng::seed_from_u64(seed);
        let of_all = match random.random_range(0..5) {
            0 => Some(Kept::Nothing),
            1 => Some(Kept::Prefix),
            _ => None,
        };
        Loss { random, of_all }
    }

    /// Nothing survives that was not synced.
    pub(super) fn of_everything() -> Loss {
        Loss { random: StdRng::seed_from_u64(0), of_all: Some(Kept::Nothing) }
    }

    /// What stays of one file, or of the names.
    pub(super) fn draw(&mut self) -> Kept {
        self.of_all.unwrap_or_else(|| match self.random.random_range(0..8) {
            0 | 1 => Kept::Nothing,
            2 => Kept::Everything,
            3 | 4 => Kept::Prefix,
            5 => Kept::Scattered(10),
            6 => Kept::Scattered(50),
            _ => Kept::Scattered(90),
        })
    }

    /// Whether a node's attributes are lost: they are there as a whole or not at all.
    pub(super) fn takes_attributes(&mut self) -> bool {
        self.of_all == Some(Kept::Nothing) || self.percent(50)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }
}
