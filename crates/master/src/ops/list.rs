//! Listing a directory: pages from the namespace, as far as the comparison with the store has come.

use crate::core::{Core, parse_path};
use crate::error::{Result, state_error};
use crate::ops::entry::entry;
use crate::ops::open::found;
use crate::sync::{Arrived, Entries, Watermark, entries, locate};
use bytes::Bytes;
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::{Inode, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::sync::Arc;

/// Entries of one message.
const PAGE_LEN: usize = 1000;

/// A listing of one request.
pub(crate) struct Listing {
    core: Arc<Core>,
    path: NsPath,
    mount: Option<MountId>,
    with_xattrs: bool,
    after: Bytes,
    /// Entries still wanted.
    left: usize,
    arriving: Option<Arrived>,
    ended: bool,
}

impl Listing {
    /// Begins; errors of the path itself come here.
    pub(crate) async fn begin(core: &Arc<Core>, request: v1::ListRequest) -> Result<Listing> {
        let path = parse_path(&request.path)?;
        let located = locate(core, &path, request.sync()).await?;
        let inode = found(&located, &path)?;
        if !inode.is_directory() {
            return Err(WireError::new(ErrorKind::NotADirectory, format!("{path} is a file")));
        }
        let arriving = match entries(core, &path, &located, request.sync(), &request.start_after).await? {
            Entries::Known => None,
            Entries::Arriving(arrived) => Some(arrived),
        };
        Ok(Listing {
            core: Arc::clone(core),
            mount: located.resolved.mount(),
            path,
            with_xattrs: request.with_xattrs,
            after: request.start_after,
            left: match request.limit {
                0 => usize::MAX,
                limit => limit as usize,
            },
            arriving,
            ended: false,
        })
    }

    /// The next page, or none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::ListReply>> {
        while !self.ended && self.left > 0 {
            let watermark = match &mut self.arriving {
                Some(arrived) => arrived.watermark()?,
                None => Watermark::All,
            };
            let page = self.read(&watermark).await?;
            if !page.is_empty() {
                return Ok(Some(self.reply(page)));
            }
            match &mut self.arriving {
                Some(arrived) if watermark != Watermark::All => arrived.moved().await?,
                _ => self.ended = true,
            }
        }
        Ok(None)
    }

    /// What the namespace has after the last name, as far as it is settled.
    async fn read(&self, watermark: &Watermark) -> Result<Vec<query::Entry>> {
        if *watermark == Watermark::Nothing {
            return Ok(Vec::new());
        }
        let snapshot = self.core.read().await?;
        let resolved = query::resolve(&*snapshot, &self.path).map_err(state_error)?;
        let Some(step) = resolved.found().filter(|step| step.inode.is_directory()) else {
            return Ok(Vec::new());
        };
        let limit = self.left.min(PAGE_LEN);
        let mut page = query::list(&*snapshot, step.inode.inode_id(), &self.after, limit).map_err(state_error)?;
        let settled = page.partition_point(|(name, _)| watermark.covers(name.as_bytes()));
        page.truncate(settled);
        Ok(page)
    }

    fn reply(&mut self, page: Vec<query::Entry>) -> v1::ListReply {
        self.left -= page.len();
        if let Some((name, _)) = page.last() {
            self.after = name.to_bytes();
        }
        let mount_of = |inode: &Inode| match inode.mount {
            0 => self.mount,
            mount => Some(MountId(mount)),
        };
        v1::ListReply {
            entries: page
                .iter()
                .map(|(name, inode)| entry(inode, name.to_bytes(), mount_of(inode), self.with_xattrs))
                .collect(),
        }
    }
}
