//! One file: what its readers see, what the disk has, and what lies between.

use std::ops::Range;

use super::content::Content;
use super::loss::{Kept, Loss, SECTOR};

/// A kernel writes back by itself, and memory has an end: when more than this has not been synced, the older half counts as written back.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// What remembering a change costs besides its bytes.
const CHANGE_BYTES: usize = 64;

/// A change of a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen(u64),
    /// At least so long.
    Grow(u64),
    Punch(Range<u64>),
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Change::Write { offset, bytes } => content.write(*offset, bytes),
            Change::SetLen(length) => content.set_len(*length),
            Change::Grow(length) => content.set_len(content.len().max(*length)),
            Change::Punch(range) => content.punch(range.clone()),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Change::Write { bytes, .. } => bytes.len() + CHANGE_BYTES,
            _ => CHANGE_BYTES,
        }
    }

    /// The parts of it that reach the disk each for itself.
    fn sectors(&self) -> Vec<Change> {
        let Change::Write { offset, bytes } = self else { return vec![self.clone()] };
        let mut parts = Vec::new();
        let (mut at, mut rest) = (*offset, bytes.as_slice());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((SECTOR - at % SECTOR) as usize));
            parts.push(Change::Write { offset: at, bytes: now.to_vec() });
            at += now.len() as u64;
            rest = later;
        }
        parts
    }
}

/// A file's bytes.
#[derive(Debug, Default)]
pub(super) struct FileData {
    current: Content,
    durable: Content,
    /// What leads from the durable to the current content, in order.
    pending: Vec<Change>,
    pending_bytes: usize,
}

impl FileData {
    pub(super) fn current(&self) -> &Content {
        &self.current
    }

    /// Changes it; not durable yet.
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending_bytes += change.cost();
        self.pending.push(change);
        if self.pending_bytes > PENDING_BYTES_MAX {
            self.write_back();
        }
    }

    /// Makes it durable as it is.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            let touched = match &change {
                Change::Write { offset, bytes } => *offset..*offset + bytes.len() as u64,
                Change::Punch(range) => {
                    change.apply(&mut self.durable);
                    range.clone()
                }
                Change::SetLen(length) => {
                    change.apply(&mut self.durable);
                    *length..*length + 1
                }
                Change::Grow(_) => continue,
            };
            self.durable.take_pages(touched, &self.current);
        }
        self.pending_bytes = 0;
        self.durable.set_len(self.current.len());
        debug_assert_eq!(self.durable.len(), self.current.len());
    }

    /// The power is cut: what was not synced is there as chance has it. Returns whether anything was lost.
    pub(super) fn lose(&mut self, loss: &mut Loss) -> bool {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if pending.is_empty() {
            return false;
        }
        let before = std::mem::take(&mut self.current);
        match loss.draw() {
            Kept::Nothing => {}
            Kept::Everything => self.durable = before.clone(),
            Kept::Prefix => self.keep_prefix(&pending, loss),
            Kept::Scattered(percent) => {
                let parts = pending.iter().flat_map(Change::sectors);
                parts.filter(|_| loss.percent(percent)).for_each(|part| part.apply(&mut self.durable));
                // The length may get there before the bytes.
                if loss.percent(30) {
                    self.durable.set_len(self.durable.len().max(before.len()));
                }
            }
        }
        self.current = self.durable.clone();
        self.current != before
    }

    fn keep_prefix(&mut self, pending: &[Change], loss: &mut Loss) {
        let whole = loss.below(pending.len());
        pending[..whole].iter().for_each(|change| change.apply(&mut self.durable));
        let torn = pending[whole].sectors();
        let kept = loss.below(torn.len() + 1);
        torn[..kept].iter().for_each(|part| part.apply(&mut self.durable));
    }

    fn write_back(&mut self) {
        let mut left = self.pending_bytes / 2;
        let count = self.pending.iter().take_while(|change| {
            left = left.saturating_sub(change.cost());
            left > 0
        });
        let count = count.count() + 1;
        for change in self.pending.drain(..count) {
            self.pending_bytes -= change.cost();
            change.apply(&mut self.durable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn write(offset: u64, bytes: &[u8]) -> Change {
        Change::Write { offset, bytes: bytes.to_vec() }
    }

    fn random_change(random: &mut StdRng) -> Change {
        let (start, length) = (random.random_range(0..30_000), random.random_range(1..9_000));
        match random.random_range(0..6) {
            0 => Change::SetLen(start),
            1 => Change::Grow(start),
            2 => Change::Punch(start..start + length),
            _ => write(start, &vec![random.random_range(1..=255); length as usize]),
        }
    }

    #[test]
    fn what_is_synced_is_there_to_the_byte() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut file = FileData::default();
            for _ in 0..4 {
                (0..random.random_range(1..12)).for_each(|_| file.change(random_change(&mut random)));
                file.sync();
                let synced = file.current().read(0..u64::MAX);
                (0..random.random_range(0..5)).for_each(|_| file.change(random_change(&mut random)));
                file.lose(&mut Loss::of_everything());
                assert!(file.current().read(0..u64::MAX) == synced, "seed {seed}");
            }
        }
    }

    /// An append that was not synced is lost, kept, cut off, or has holes; what was synced before it stays.
    #[test]
    fn what_is_not_synced_may_be_lost_in_any_part() {
        let (mut lost, mut kept, mut torn, mut holed, mut longer) = (0, 0, 0, 0, 0);
        for seed in 0..400 {
            let mut file = FileData::default();
            file.change(write(0, &[1; 700]));
            file.sync();
            file.change(write(700, &[2; 3000]));
            file.change(write(3700, &[3; 1000]));
            file.lose(&mut Loss::new(seed));
            let found = file.current().read(0..u64::MAX);
            assert_eq!(found[..700], [1; 700], "seed {seed}");
            let end = found.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            let has_holes = found[..end].contains(&0);
            lost += u64::from(found.len() == 700);
            kept += u64::from(found.len() == 4700 && !found.contains(&0));
            torn += u64::from(!has_holes && (701..4700).contains(&found.len()));
            holed += u64::from(has_holes);
            longer += u64::from(end < found.len());
        }
        assert!(
            [lost, kept, torn, holed, longer].iter().all(|count| *count > 10),
            "{lost} {kept} {torn} {holed} {longer}"
        );
    }

    #[test]
    fn much_that_is_not_synced_is_written_back() {
        let mut file = FileData::default();
        let bytes = vec![7; 1 << 20];
        for index in 0..100 {
            file.change(write(index << 20, &bytes));
        }
        assert!(file.pending_bytes <= PENDING_BYTES_MAX);
        file.lose(&mut Loss::of_everything());
        let left = file.current().read(0..u64::MAX);
        assert!(left.len() >= 20 << 20 && left.iter().all(|byte| *byte == 7));
    }
}
