//! The memory of bodies that come from clients: buffers of at most one length. Full ones are used again, since fresh memory costs as much as copying into it.
//!
//! A buffer takes its share of the requests' memory along, for as long as anybody holds a byte of it: a store or a disk that does not let go of a body must not make room
//! for another.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of a full buffer. A multiple of the checksum chunk; small enough to stay in a CPU's cache until it is checked.
pub(crate) const BUFFER_LEN: usize = 1 << 20;

/// Buffers kept when nobody uses them.
const IDLE_MAX: usize = 64;

/// Those that are free.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    idle: Mutex<Vec<Box<[u8]>>>,
}

/// One of them. Holds what its last user wrote.
#[derive(Debug)]
pub(crate) struct Buffer {
    home: Arc<Buffers>,
    /// None only while it is dropped.
    memory: Option<Box<[u8]>>,
    _share: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    /// A buffer of `len` bytes, whose share of the memory allowed is `share`.
    pub(crate) fn take(self: &Arc<Self>, len: usize, share: Option<OwnedSemaphorePermit>) -> Buffer {
        let idle = if len == BUFFER_LEN { self.idle.lock().pop() } else { None };
        let memory = idle.unwrap_or_else(|| vec![0; len].into_boxed_slice());
        Buffer { home: self.clone(), memory: Some(memory), _share: share }
    }
}

impl Buffer {
    /// Its bytes, shared; the buffer is free when the last of them is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().expect("there until dropped")
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().expect("there until dropped")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take()
            && memory.len() == BUFFER_LEN
        {
            let mut idle = self.home.idle.lock();
            if idle.len() < IDLE_MAX {
                idle.push(memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[test]
    fn the_share_is_held_until_the_last_byte_is_let_go_of() {
        let (buffers, memory) = (Arc::new(Buffers::default()), Arc::new(Semaphore::new(10)));
        let mut buffer = buffers.take(BUFFER_LEN, memory.clone().try_acquire_many_owned(7).ok());
        buffer.as_mut()[..2].copy_from_slice(b"ab");
        let bytes = buffer.freeze();
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((&slice[..], memory.available_permits(), buffers.idle.lock().len()), (&b"b"[..], 3, 0));
        drop(slice);
        assert_eq!((memory.available_permits(), buffers.idle.lock().len()), (10, 1));
        drop(buffers.take(5, None).freeze());
        assert_eq!(buffers.idle.lock().len(), 1, "only full ones are kept");
        let again = buffers.take(BUFFER_LEN, None);
        assert!(again.as_ref()[..2] == *b"ab" && buffers.idle.lock().is_empty());
    }
}
