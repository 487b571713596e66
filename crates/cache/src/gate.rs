//! One thread at a time per file: creating, opening, unlinking and punching its files.
//!
//! A gate is held over I/O, so a slow disk holds up only those who want the same file. Reading cached pages needs no gate, nor does writing claimed ones. Who
//! holds one gate only tries for a second, never waits.

use crate::hash;
use forebay_base::FileId;
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;

const SHARDS: usize = 64;

/// The gates of all files. Holds as many names as threads are inside.
pub(crate) struct Gates {
    shards: Box<[(Mutex<HashSet<FileId>>, Condvar)]>,
}

/// The right to change a file's files; ends when dropped.
pub(crate) struct Pass<'a> {
    gates: &'a Gates,
    file: FileId,
}

impl Gates {
    pub(crate) fn new() -> Gates {
        Gates { shards: (0..SHARDS).map(|_| Default::default()).collect() }
    }

    fn shard(&self, file: FileId) -> &(Mutex<HashSet<FileId>>, Condvar) {
        &self.shards[hash::of_file(file) as usize % SHARDS]
    }

    /// Waits for the gate of a file.
    pub(crate) fn enter(&self, file: FileId) -> Pass<'_> {
        let (inside, left) = self.shard(file);
        let mut inside = inside.lock();
        while !inside.insert(file) {
            left.wait(&mut inside);
        }
        Pass { gates: self, file }
    }

    /// Takes the gate of a file if nobody has it.
    pub(crate) fn try_enter(&self, file: FileId) -> Option<Pass<'_>> {
        let fresh = self.shard(file).0.lock().insert(file);
        // Lazily: a pass that is made and dropped would open the gate of another.
        fresh.then(|| Pass { gates: self, file })
    }
}

impl Pass<'_> {
    /// The file that may be changed.
    pub(crate) fn file(&self) -> FileId {
        self.file
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let (inside, left) = self.gates.shard(self.file);
        inside.lock().remove(&self.file);
        left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_enter_does_not_open_the_gate() {
        let (gates, file) = (Gates::new(), FileId { inode: forebay_base::InodeId(1), version: 1 });
        let pass = gates.enter(file);
        assert!(gates.try_enter(file).is_none());
        assert!(gates.try_enter(file).is_none());
        drop(pass);
        assert!(gates.try_enter(file).is_some());
        drop(gates.enter(file));
    }
}
