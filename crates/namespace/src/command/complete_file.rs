//! Ends a write: its content becomes the file.

use crate::Inode;
use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query;
use crate::record::Write;
use crate::reply::{InodeReply, Payload};
use crate::tree;

/// Ends a write: its content becomes the file's, at once. The under store has it already.
/// Reply: [`crate::reply::Payload::Inode`]. Not found when the write was abandoned or the file deleted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CompleteFile {
    /// Which write.
    #[prost(uint64, tag = "1")]
    pub write: u64,
    /// Bytes of the content.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// The store's mark of it.
    #[prost(string, tag = "3")]
    pub tag: String,
    /// Modification time; 0: log time.
    #[prost(uint64, tag = "4")]
    pub modified_ms: u64,
}

impl CompleteFile {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        let write = tree::live_write(tx, self.write)?;
        let mut inode = file_of(tx, &write)?;
        let replaced_version = inode.version;
        self.fill(tx.now_ms(), &write, &mut inode);
        keys::inode::put(&mut tx.pending, write.parent, &write.name, &inode);
        keys::write_path::delete(&mut tx.pending, &write);
        keys::write::delete(&mut tx.pending, write.id);
        tx.state.counters.writes -= 1;
        Ok(Payload::Inode(InodeReply { inode, mount: write.mount, replaced_version }))
    }

    fn fill(&self, now_ms: u64, write: &Write, inode: &mut Inode) {
        let modified_ms = match self.modified_ms {
            0 => now_ms,
            given_ms => given_ms,
        };
        inode.length = self.length;
        inode.tag.clone_from(&self.tag);
        inode.set_times(modified_ms, modified_ms, now_ms);
        inode.version = write.version;
        inode.reserved_version = 0;
        inode.write = 0;
        inode.set_complete(true);
        inode.set_block_size(write.block_size);
        inode.set_page_size(write.page_size);
    }
}

/// The file of a write, if it is still in the tree.
fn file_of(tx: &Tx, write: &Write) -> Result<Inode, Stop> {
    let (_, top) = keys::directory::chain(&tx.pending, write.parent)?;
    if top != keys::directory::Top::Root {
        return Err(tree::gone(write.id).into());
    }
    query::lookup(&tx.pending, forebay_base::InodeId(write.parent), &write.name)?
        .filter(|inode| inode.id == write.inode && inode.write == write.id)
        .ok_or_else(|| tree::gone(write.id).into())
}
