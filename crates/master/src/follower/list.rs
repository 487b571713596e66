//! Listing a directory whose entries are known.

use super::{Follower, View};
use crate::admission::{Class, Place};
use crate::core::parse_path;
use crate::error::{Result, state_error};
use crate::ops::list::{PAGE_LEN, check_start, page_reply};
use crate::ops::open::found;
use crate::ops::tree::Source;
use bytes::Bytes;
use forebay_base::{ErrorKind, MountId, NsPath};
use forebay_namespace::query;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use std::sync::Arc;
use std::time::Instant;

/// A listing of one request.
pub(crate) struct Listing {
    follower: Arc<Follower>,
    view: View,
    path: NsPath,
    mount: Option<MountId>,
    with_xattrs: bool,
    after: Bytes,
    /// Entries still wanted.
    left: usize,
    started: Instant,
    _place: Place,
}

impl Follower {
    /// Begins a listing; errors of the path itself come here.
    pub(crate) async fn list(self: &Arc<Self>, bound: v1::ReadBound, request: v1::ListRequest) -> Result<Listing> {
        let started = Instant::now();
        let begun = self.begin_list(bound, request, started).await;
        begun.map_err(|error| {
            self.ended(started, Some(&error));
            error.at_index(self.state.seen_index())
        })
    }

    async fn begin_list(
        self: &Arc<Self>,
        bound: v1::ReadBound,
        request: v1::ListRequest,
        started: Instant,
    ) -> Result<Listing> {
        let place = self.admission.enter(Class::Read).await?;
        let view = View::new(self, bound);
        let path = parse_path(&request.path)?;
        check_start(&request.start_after)?;
        let (resolved, _) = view.locate(&path, request.sync()).await?;
        if !found(&resolved, &path)?.is_directory() {
            return Err(WireError::new(ErrorKind::NotADirectory, format!("{path} is a file")));
        }
        view.load(&path, request.sync()).await?;
        Ok(Listing {
            follower: Arc::clone(self),
            mount: resolved.mount(),
            view,
            path,
            with_xattrs: request.with_xattrs,
            after: request.start_after,
            left: match request.limit {
                0 => usize::MAX,
                limit => limit as usize,
            },
            started,
            _place: place,
        })
    }
}

impl Listing {
    /// The next page, or none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<v1::ListReply>> {
        let limit = self.left.min(PAGE_LEN);
        // One more tells whether there are more: another look for that would be at another moment.
        let page = self.page(limit + 1).await;
        let mut page = page.map_err(|error| error.at_index(self.follower.state.seen_index()))?;
        self.left = if page.len() > limit { self.left - limit } else { 0 };
        page.truncate(limit);
        if page.is_empty() {
            return Ok(None);
        }
        if let Some((name, _)) = page.last() {
            self.after = name.to_bytes();
        }
        let reply = page_reply(&page, self.mount, self.with_xattrs);
        Ok(Some(v1::ListReply { index: self.follower.state.seen_index(), ..reply }))
    }

    async fn page(&self, limit: usize) -> Result<Vec<query::Entry>> {
        if self.left == 0 {
            return Ok(Vec::new());
        }
        let snapshot = self.view.read().await?;
        let resolved = query::resolve(&*snapshot, &self.path).map_err(state_error)?;
        let Some(step) = resolved.found().filter(|step| step.inode.is_directory()) else {
            return Ok(Vec::new());
        };
        query::list(&*snapshot, step.inode.inode_id(), &self.after, limit).map_err(state_error)
    }

    /// The listing has ended, so or so.
    pub(crate) fn ended(&self, error: Option<&WireError>) {
        self.follower.ended(self.started, error);
    }
}
