//! Noticing that positioned reads go through a file from front to back.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the last reads were like. Reads side by side may confuse it, which costs speed, not correctness.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    /// Where the last read ended.
    next: AtomicU64,
    /// Bytes that were read without a jump.
    run: AtomicU64,
}

impl Pattern {
    /// Notes a read, and says how many bytes behind it will probably be wanted next: as many as were read in a row.
    pub(crate) fn note(&self, offset: u64, length: u64) -> u64 {
        let end = offset.saturating_add(length);
        let in_a_row = self.next.swap(end, Ordering::Relaxed) == offset && offset > 0;
        let run = match in_a_row {
            true => self.run.load(Ordering::Relaxed).saturating_add(length),
            false => 0,
        };
        self.run.store(run, Ordering::Relaxed);
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_in_a_row_and_falls_at_a_jump() {
        let pattern = Pattern::default();
        let runs: Vec<u64> = [(0, 10), (10, 10), (20, 10), (5, 10), (15, 1), (0, 4), (4, 4)]
            .map(|(offset, length)| pattern.note(offset, length))
            .to_vec();
        assert_eq!(runs, [0, 10, 20, 0, 1, 0, 4]);
    }
}
