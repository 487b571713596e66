//! Walking a directory tree of the namespace, loading what is not loaded: depth first, memory by depth and one page.

use crate::core::Core;
use crate::error::{Result, state_error};
use crate::sync::{load_entries, locate};
use bytes::Bytes;
use forebay_base::NsPath;
use forebay_metastore::Snapshot;
use forebay_namespace::{Inode, query};
use forebay_proto::v1::SyncMode;
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries read at a time.
const PAGE_LEN: usize = 1000;

/// Where a walk reads.
pub(crate) trait Source {
    /// The state as it is now.
    fn read(&self) -> impl Future<Output = Result<Snapshot>> + Send;

    /// Returns when all entries of a directory are known, as far as `mode` asks for that.
    fn load(&self, directory: &NsPath, mode: SyncMode) -> impl Future<Output = Result<()>> + Send;
}

impl Source for Arc<Core> {
    async fn read(&self) -> Result<Snapshot> {
        Core::read(self).await
    }

    async fn load(&self, directory: &NsPath, mode: SyncMode) -> Result<()> {
        let located = locate(self, directory, SyncMode::Never).await?;
        load_entries(self, directory, &located, mode).await
    }
}

/// A walk below one directory.
pub(crate) struct Walk<S> {
    source: S,
    mode: SyncMode,
    frames: Vec<Frame>,
}

struct Frame {
    path: NsPath,
    inode: Inode,
    after: Bytes,
    /// Entries read and not given out yet.
    read: VecDeque<query::Entry>,
    loaded: bool,
}

/// Files and directories of one directory, with the directory's own inode.
pub(crate) struct Batch {
    pub(crate) directory: Inode,
    pub(crate) entries: Vec<query::Entry>,
}

impl<S: Source + Clone> Walk<S> {
    pub(crate) fn new(source: &S, path: NsPath, inode: Inode, mode: SyncMode) -> Walk<S> {
        Walk { source: source.clone(), mode, frames: vec![Frame::new(path, inode)] }
    }

    /// The next entries below the top, each once; a directory before what lies in it. None at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(frame) = self.frames.last_mut() {
            if !frame.loaded {
                self.source.load(&frame.path, self.mode).await?;
                frame.loaded = true;
            }
            if frame.read.is_empty() {
                frame.fill(&self.source).await?;
            }
            // Up to and with the first directory: the rest waits until that one is done.
            let first = frame.read.iter().position(|(_, inode)| inode.is_directory());
            let count = first.map_or(frame.read.len(), |at| at + 1);
            let page: Vec<query::Entry> = frame.read.drain(..count).collect();
            let Some((name, inode)) = page.last() else {
                self.frames.pop();
                continue;
            };
            let directory = frame.inode.clone();
            if inode.is_directory() {
                let path = frame.path.join(name).map_err(crate::error::path_error)?;
                let below = Frame::new(path, inode.clone());
                self.frames.push(below);
            }
            return Ok(Some(Batch { directory, entries: page }));
        }
        Ok(None)
    }
}

impl Frame {
    fn new(path: NsPath, inode: Inode) -> Frame {
        Frame { path, inode, after: Bytes::new(), read: VecDeque::new(), loaded: false }
    }

    async fn fill(&mut self, source: &impl Source) -> Result<()> {
        let snapshot = source.read().await?;
        let page = query::list(&*snapshot, self.inode.inode_id(), &self.after, PAGE_LEN).map_err(state_error)?;
        if let Some((name, _)) = page.last() {
            self.after = name.to_bytes();
        }
        self.read = page.into();
        Ok(())
    }
}
