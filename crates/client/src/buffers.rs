//! The memory of streams and writers: chunks of one size, used again, with one bound for the whole client.
//!
//! Who needs a chunk to go on at all takes it without asking ([`Buffers::need`]); who wants one to be faster asks
//! ([`Buffers::reserve`]) and does without when the bound is reached. Nobody waits for another's memory, so
//! nobody can wait in a circle; the price is that the bound may be passed by one chunk a stream and one part a writer.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a chunk. A multiple of the checksum chunk; small enough to stay in a CPU's cache until it is checked.
pub(crate) const CHUNK: usize = 1 << 20;

/// Chunks kept for reuse when nobody uses them; fresh memory costs as much as copying into it.
const IDLE_MAX: usize = 64;

/// All chunks of a client.
#[derive(Debug)]
pub(crate) struct Buffers {
    idle: Mutex<Vec<Box<[u8]>>>,
    /// Chunks reserved or in use under the bound.
    used: AtomicUsize,
    max: usize,
}

/// A number of chunks that may be taken.
#[derive(Debug)]
pub(crate) struct Reservation {
    home: Arc<Buffers>,
    chunks: usize,
}

/// One chunk. Holds what its last user wrote.
#[derive(Debug)]
pub(crate) struct Chunk {
    home: Arc<Buffers>,
    /// None only while it is dropped.
    memory: Option<Box<[u8]>>,
    counted: bool,
}

impl Buffers {
    /// At most `bytes` in use, one chunk at least.
    pub(crate) fn new(bytes: u64) -> Arc<Buffers> {
        let max = usize::try_from(bytes / CHUNK as u64).unwrap_or(usize::MAX);
        Arc::new(Buffers { idle: Mutex::new(Vec::new()), used: AtomicUsize::new(0), max: max.max(1) })
    }

    /// The right to take `chunks`; none when the bound does not allow it now.
    pub(crate) fn reserve(self: &Arc<Self>, chunks: usize) -> Option<Reservation> {
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(chunks).filter(|sum| *sum <= self.max)
            })
            .ok()?;
        Some(Reservation { home: self.clone(), chunks })
    }

    /// A chunk in any case: for the one that its user cannot go on without.
    pub(crate) fn need(self: &Arc<Self>) -> Chunk {
        match self.reserve(1) {
            Some(mut reservation) => reservation.take().expect("one was reserved"),
            None => self.chunk(false),
        }
    }

    fn chunk(self: &Arc<Self>, counted: bool) -> Chunk {
        let idle = self.idle.lock().pop();
        Chunk { memory: Some(idle.unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())), home: self.clone(), counted }
    }
}

impl Reservation {
    /// One of the chunks; none when all are taken.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        self.chunks = self.chunks.checked_sub(1)?;
        Some(self.home.chunk(true))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.home.used.fetch_sub(self.chunks, Ordering::Relaxed);
    }
}

impl Chunk {
    /// The first `length` bytes, shared; the chunk goes home when the last of them is dropped.
    pub(crate) fn freeze(self, length: usize) -> Bytes {
        Bytes::from_owner(self).slice(..length)
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().expect("there until dropped")
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().expect("there until dropped")
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.counted {
            self.home.used.fetch_sub(1, Ordering::Relaxed);
        }
        let mut idle = self.home.idle.lock();
        if let Some(memory) = self.memory.take()
            && idle.len() < IDLE_MAX.min(self.home.max)
        {
            idle.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_need_passes_it() {
        let buffers = Buffers::new(3 * CHUNK as u64);
        let mut two = buffers.reserve(2).unwrap();
        assert!(buffers.reserve(2).is_none());
        let first = two.take().unwrap();
        let needed = [buffers.need(), buffers.need()];
        assert!(buffers.reserve(1).is_none());
        drop(two);
        assert!(buffers.reserve(2).is_none());
        drop((first, needed));
        assert!(buffers.reserve(3).is_some());
        assert_eq!(buffers.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn frozen_chunks_go_home_after_their_last_slice() {
        let buffers = Buffers::new(CHUNK as u64);
        let mut chunk = buffers.need();
        chunk.as_mut()[..2].copy_from_slice(b"ab");
        let bytes = chunk.freeze(2);
        let slice = bytes.slice(1..);
        drop(bytes);
        assert_eq!((&slice[..], buffers.idle.lock().len()), (&b"b"[..], 0));
        drop(slice);
        assert_eq!(buffers.idle.lock().len(), 1);
    }
}
