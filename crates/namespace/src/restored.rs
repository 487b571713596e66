//! Makes a copy of the namespace, of some moment of the past, the begin of a new cluster.
//!
//! The stores have gone on since that moment, and so may the old cluster have: it may even still run. So what the old one had begun in a store
//! is neither gone on with nor taken back here: a copy that a rename of then has made may by now be the only one. Deletes,
//! renames and writes that were under way are forgotten, and what is in the stores shows when they are compared the next time. And no number that
//! the old cluster has given, before or after the copy, is given again: cached pages are named by them.

use crate::keys::{self, Pending};
use crate::query;
use crate::record::{Mount, State};
use crate::{ApplyError, machine};
use bytes::Bytes;
use forebay_base::NsPath;
use forebay_metastore::{Overlay, Read, Store};
use std::sync::Arc;

/// Changes of one batch.
const BATCH_OPS: usize = 10_000;

/// Inode numbers and versions go on from the time of the restore in milliseconds times this: 1024 a millisecond are more than any cluster gives, so all that was given
/// before, also by another cluster that was restored from the same copy, is below. Times of the next two centuries stay below 2^53, which every reader of JSON keeps whole.
const NUMBERS_PER_MS: u64 = 1024;

/// Where no clock tells (it is behind the copy's own numbers), as many are left out.
const NUMBERS_LEFT_OUT: u64 = 1 << 32;

/// Mounts and their numbers are few.
const MOUNT_NUMBERS_LEFT_OUT: u32 = 1 << 16;

/// What a restored namespace has, and what was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files and directories, the root included.
    pub inodes: u64,
    /// Writes that were under way; a new file among them is gone.
    pub writes: u64,
    /// Deletes whose objects may still be in their stores.
    pub deletes: u64,
    /// Renames that were under way in object stores.
    pub renames: u64,
}

/// Makes the copy in `store` the begin of a cluster whose log goes on from `position`, at `now_ms` by the clock. Durable when it returns; after a crash
/// before that the copy is of no use any more.
pub fn begin_anew(store: &Arc<dyn Store>, now_ms: u64, position: Bytes) -> Result<Restored, ApplyError> {
    let state = machine::stored_state(&**store)?;
    let base: Arc<dyn Read> = Arc::clone(store) as Arc<dyn Read>;
    let mut pass = Pass { store, pending: Overlay::new(base), state, restored: Restored::default() };
    pass.forget_writes()?;
    pass.forget_deletes()?;
    pass.forget_renames()?;
    for mount in query::mounts(&**store)? {
        pass.compare_again(&mount)?;
    }
    pass.end(now_ms, position)
}

struct Pass<'a> {
    store: &'a Arc<dyn Store>,
    pending: Pending,
    state: State,
    restored: Restored,
}

impl Pass<'_> {
    fn write_when_full(&mut self) -> Result<(), ApplyError> {
        if self.pending.len() >= BATCH_OPS {
            self.store.write(self.pending.take())?;
        }
        Ok(())
    }

    /// A new file goes, one that is overwritten keeps its content. The upload stays: the writer may still be at work for the old cluster.
    fn forget_writes(&mut self) -> Result<(), ApplyError> {
        for write in keys::write::scan(&**self.store, 0) {
            let write = write?;
            keys::write_path::delete(&mut self.pending, &write);
            keys::write::delete(&mut self.pending, write.id);
            self.restored.writes += u64::from(!write.abandoned);
            let inode = keys::inode::get(&self.pending, write.parent, &write.name)?;
            if let Some(mut inode) = inode.filter(|inode| inode.id == write.inode && inode.write == write.id) {
                if inode.is_complete() {
                    inode.write = 0;
                    keys::inode::put(&mut self.pending, write.parent, &write.name, &inode);
                } else {
                    keys::inode::delete(&mut self.pending, write.parent, &write.name);
                    self.state.counters.inodes -= 1;
                }
            }
            self.write_when_full()?;
        }
        self.state.counters.writes = 0;
        Ok(())
    }

    /// The inodes go in the background as ever; the objects stay.
    fn forget_deletes(&mut self) -> Result<(), ApplyError> {
        for entry in keys::trash::scan(&**self.store, 0) {
            let mut entry = entry?;
            self.restored.deletes += u64::from(entry.purge_store);
            entry.purge_store = false;
            entry.was_being_written = false;
            keys::trash::put(&mut self.pending, &entry);
            self.write_when_full()?;
        }
        Ok(())
    }

    fn forget_renames(&mut self) -> Result<(), ApplyError> {
        self.restored.renames = self.state.counters.intents;
        for key in keys::of_work_in_stores(&**self.store) {
            self.pending.delete(key?);
            self.write_when_full()?;
        }
        self.state.counters.intents = 0;
        self.state.counters.blocked_keys = 0;
        Ok(())
    }

    /// The store may have other entries than the copy in each directory, also in one that is never compared a second time.
    fn compare_again(&mut self, mount: &Mount) -> Result<(), ApplyError> {
        let path = NsPath::parse(&mount.path)
            .map_err(|error| ApplyError::Corrupt(format!("the path of mount {}: {error}", mount.id)))?;
        let resolved = query::resolve(&**self.store, &path)?;
        let Some(top) = resolved.found() else {
            return Err(ApplyError::Corrupt(format!("mount {} lies at {path}, which is not there", mount.id)));
        };
        let mut directories = vec![top.inode.id];
        self.not_loaded(top.parent.0, &top.name, top.inode.clone());
        while let Some(directory) = directories.pop() {
            for entry in keys::inode::entries(&**self.store, directory, b"") {
                let (name, inode) = entry?;
                if inode.is_directory() {
                    directories.push(inode.id);
                    self.not_loaded(directory, &name, inode);
                    self.write_when_full()?;
                }
            }
        }
        Ok(())
    }

    fn not_loaded(&mut self, parent: u64, name: &[u8], mut directory: crate::Inode) {
        directory.set_loaded(false);
        keys::inode::put(&mut self.pending, parent, name, &directory);
    }

    /// Leaves numbers out, and writes the state.
    fn end(mut self, now_ms: u64, position: Bytes) -> Result<Restored, ApplyError> {
        let moment = now_ms.max(self.state.log_time_ms).saturating_mul(NUMBERS_PER_MS);
        let jump = |last: u64| moment.max(last.saturating_add(NUMBERS_LEFT_OUT));
        let counters = &mut self.state.counters;
        counters.inode_last = jump(counters.inode_last);
        counters.write_last = jump(counters.write_last);
        counters.intent_last = jump(counters.intent_last);
        counters.mount_last = counters.mount_last.saturating_add(MOUNT_NUMBERS_LEFT_OUT);
        self.state.version_floor = jump(self.state.version_floor);
        self.state.position = position;
        self.restored.inodes = self.state.counters.inodes;
        keys::state::put(&mut self.pending, &self.state);
        self.store.write(self.pending.take())?;
        self.store.flush()?;
        Ok(self.restored)
    }
}
