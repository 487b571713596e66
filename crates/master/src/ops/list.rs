//! Listing a directory: pages from the namespace, as far as the comparison with the store has come.

use crate::core::{Core, parse_path};
use crate::error::{Result, path_error, state_error};
use crate::ops::entry::entry;
use crate::ops::open::found;
use crate::sync::{Arrived, Entries, Watermark, entries, locate};
use bytes::Bytes;
use forebay_base::{ErrorKind, MountId, Name, NsPath};
use forebay_namespace::{Inode, query};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::sync::Arc;

/// Entries of one message.
pub(crate) const PAGE_LEN: usize = 1000;

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

/// What a listing starts after is a name: longer bytes would cost a look for each of their beginnings.
pub(crate) fn check_start(start_after: &Bytes) -> Result<()> {
    if !start_after.is_empty() {
        Name::new(start_after.clone()).map_err(path_error)?;
    }
    Ok(())
}

impl Listing {
    /// Begins; errors of the path itself come here.
    pub(crate) async fn begin(core: &Arc<Core>, request: v1::ListRequest) -> Result<Listing> {
        let path = parse_path(&request.path)?;
        check_start(&request.start_after)?;
        let located = locate(core, &path, request.sync()).await?;
        let inode = found(&located.resolved, &path)?;
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
            let limit = self.left.min(PAGE_LEN);
            // One more tells whether there are more. To look again for that would be to look at another moment: a name that was renamed in between would
            // be shown twice, or not at all.
            let mut page = self.read(&watermark, limit + 1).await?;
            self.ended = watermark == Watermark::All && page.len() <= limit;
            page.truncate(limit);
            if !page.is_empty() {
                return Ok(Some(self.reply(page)));
            }
            if let Some(arrived) = self.arriving.as_mut().filter(|_| !self.ended) {
                arrived.moved().await?;
            }
        }
        Ok(None)
    }

    /// What the namespace has after the last name, as far as it is settled, at one moment.
    async fn read(&self, watermark: &Watermark, limit: usize) -> Result<Vec<query::Entry>> {
        if *watermark == Watermark::Nothing {
            return Ok(Vec::new());
        }
        let snapshot = self.core.read().await?;
        let resolved = query::resolve(&*snapshot, &self.path).map_err(state_error)?;
        let Some(step) = resolved.found().filter(|step| step.inode.is_directory()) else {
            return Ok(Vec::new());
        };
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
        let reply = page_reply(&page, self.mount, self.with_xattrs);
        v1::ListReply { index: self.core.seen_index(), ..reply }
    }
}

/// Entries of a directory of that mount, without the index.
pub(crate) fn page_reply(page: &[query::Entry], mount: Option<MountId>, with_xattrs: bool) -> v1::ListReply {
    let mount_of = |inode: &Inode| match inode.mount {
        0 => mount,
        mount => Some(MountId(mount)),
    };
    let entry = |(name, inode): &query::Entry| entry(inode, name.to_bytes(), mount_of(inode), with_xattrs);
    v1::ListReply { entries: page.iter().map(entry).collect(), index: 0 }
}
