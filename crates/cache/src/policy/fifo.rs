//! A queue that takes 8 bytes an item, whatever its length: no doubling, so no half-empty array.

use std::collections::VecDeque;

const CHUNK: usize = 512;

/// First in, first out.
#[derive(Default)]
pub(crate) struct Fifo {
    chunks: VecDeque<Box<[u64; CHUNK]>>,
    /// Items taken from the first chunk.
    head: usize,
    /// Items in all chunks, those taken included.
    tail: usize,
}

impl Fifo {
    pub(crate) fn len(&self) -> usize {
        self.tail - self.head
    }

    pub(crate) fn push(&mut self, item: u64) {
        if self.tail == self.chunks.len() * CHUNK {
            self.chunks.push_back(Box::new([0; CHUNK]));
        }
        self.chunks[self.tail / CHUNK][self.tail % CHUNK] = item;
        self.tail += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<u64> {
        if self.len() == 0 {
            return None;
        }
        let item = self.chunks[0][self.head];
        self.head += 1;
        if self.head == CHUNK {
            self.chunks.pop_front();
            self.head = 0;
            self.tail -= CHUNK;
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_across_chunks() {
        let mut fifo = Fifo::default();
        let (mut next_in, mut next_out) = (0, 0);
        for round in 0..5_000 {
            for _ in 0..round % 7 {
                fifo.push(next_in);
                next_in += 1;
            }
            for _ in 0..round % 5 {
                if let Some(item) = fifo.pop() {
                    assert_eq!(item, next_out);
                    next_out += 1;
                }
            }
            assert_eq!(fifo.len() as u64, next_in - next_out);
        }
        assert!(next_out > 9_000);
    }
}
