//! The index by itself, filled: how much memory it takes is measured on it (`tests/index_memory.rs`, `examples/index_memory.rs`).

use crate::{
    index::{Entry, ExtentKey, Index},
    policy::{Queue, S3Fifo},
};
use forebay_base::{FileId, InodeId};

/// An index with its eviction order.
pub struct FilledIndex {
    _index: Index,
    _policy: S3Fifo,
}

impl FilledIndex {
    /// Enters `files` files with one extent of one page each: the worst case for bytes per page. The ghost table remembers as many.
    pub fn of_single_pages(files: u64) -> FilledIndex {
        let (index, mut policy) = (Index::new(), S3Fifo::default());
        for inode in 0..files {
            let key = ExtentKey { file: FileId { inode: InodeId(inode), version: 1 }, extent: 0 };
            let handle = index.lock(&key).insert(Entry::new(key, 0, 20, Queue::Small));
            policy.push(Queue::Small, handle.to_u64());
            policy.evicted(Queue::Small, key.fingerprint());
        }
        assert_eq!(index.len() as u64, files);
        FilledIndex { _index: index, _policy: policy }
    }
}
