//! One thread at a time per file and directory: creating, opening, unlinking and punching its files there.
//!
//! A gate is held over I/O, so a slow disk holds up only those who want the same file on the same disk, and a disk that does not answer only until its
//! directory is out of use: then they go away. Reading cached pages needs no gate, nor does writing claimed ones. Who holds one gate only tries for a
//! second, never waits.

use crate::{dir::Dir, hash};
use forebay_base::FileId;
use parking_lot::{Condvar, Mutex};
use std::{collections::HashSet, time::Duration};

const SHARDS: usize = 64;
/// So often who waits looks whether the directory is still in use.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A file in the directory of a number.
type Key = (FileId, u8);

/// The gates of all files. Holds as many names as threads are inside.
pub(crate) struct Gates {
    shards: Box<[(Mutex<HashSet<Key>>, Condvar)]>,
}

/// The right to change a file's files; ends when dropped.
pub(crate) struct Pass<'a> {
    gates: &'a Gates,
    key: Key,
}

impl Gates {
    pub(crate) fn new() -> Gates {
        Gates { shards: (0..SHARDS).map(|_| Default::default()).collect() }
    }

    fn shard(&self, (file, _): Key) -> &(Mutex<HashSet<Key>>, Condvar) {
        &self.shards[hash::of_file(file) as usize % SHARDS]
    }

    /// Waits for the gate of a file; none when the directory is out of use, or falls out of use meanwhile.
    pub(crate) fn enter(&self, file: FileId, dir: &Dir) -> Option<Pass<'_>> {
        let key = (file, dir.number);
        let (inside, left) = self.shard(key);
        let mut inside = inside.lock();
        loop {
            if !dir.is_readable() {
                return None;
            }
            if inside.insert(key) {
                return Some(Pass { gates: self, key });
            }
            left.wait_for(&mut inside, LOOK_AGAIN);
        }
    }

    /// Takes the gate of a file if nobody has it.
    pub(crate) fn try_enter(&self, file: FileId, dir: &Dir) -> Option<Pass<'_>> {
        let key = (file, dir.number);
        let fresh = self.shard(key).0.lock().insert(key);
        // Lazily: a pass that is made and dropped would open the gate of another.
        fresh.then(|| Pass { gates: self, key })
    }
}

impl Pass<'_> {
    /// The file that may be changed.
    pub(crate) fn file(&self) -> FileId {
        self.key.0
    }

    /// Whether it may be changed in this directory.
    pub(crate) fn is_for(&self, dir: &Dir) -> bool {
        self.key.1 == dir.number
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let (inside, left) = self.gates.shard(self.key);
        inside.lock().remove(&self.key);
        left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TierKind;
    use std::path::Path;

    #[test]
    fn who_may_not_enter_does_not_open_the_gate() {
        let (gates, file) = (Gates::new(), FileId { inode: forebay_base::InodeId(1), version: 1 });
        let [dir, other] = [0, 1].map(|number| Dir::new(number, 0, TierKind::Ssd, Path::new("/nowhere"), 1));
        assert!(gates.enter(file, &dir).is_none(), "it is not in use yet");
        let pass = gates.try_enter(file, &dir).unwrap();
        assert!(gates.try_enter(file, &other).is_some(), "another disk");
        assert!(gates.try_enter(file, &dir).is_none());
        assert!(gates.try_enter(file, &dir).is_none());
        drop(pass);
        assert!(gates.try_enter(file, &dir).is_some());
    }
}
