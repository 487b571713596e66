//! Listings as streams.

use crate::client::{Inner, namespace};
use crate::error::{Error, Result};
use crate::rpc::{Backoff, may_work_later};
use crate::types::{Entry, ListOptions};
use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};
use forebay_proto::error::WireError;
use forebay_proto::v1::{ListReply, ListRequest};
use futures::stream::{BoxStream, Stream};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// The entries of a directory; see [`Client::list`](crate::Client::list). Ends after the first error.
pub struct ListStream(BoxStream<'static, Result<Entry>>);

impl Stream for ListStream {
    type Item = Result<Entry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl std::fmt::Debug for ListStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListStream")
    }
}

impl ListStream {
    pub(crate) fn new(client: Arc<Inner>, path: NsPath, options: ListOptions) -> ListStream {
        let listing = Listing {
            client,
            path,
            after: options.start_after.as_ref().map(|name| name.to_bytes()).unwrap_or_default(),
            left: options.limit.map_or(u64::MAX, u64::from),
            options,
            pages: None,
            entries: VecDeque::new(),
        };
        ListStream(Box::pin(futures::stream::try_unfold(listing, |mut listing| async move {
            Ok(listing.next().await?.map(|entry| (entry, listing)))
        })))
    }
}

/// A listing under way. A broken one is taken up again after the last name that was returned.
struct Listing {
    client: Arc<Inner>,
    path: NsPath,
    options: ListOptions,
    after: Bytes,
    left: u64,
    pages: Option<Streaming<ListReply>>,
    /// One page.
    entries: VecDeque<forebay_proto::v1::Entry>,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Entry>> {
        if self.left == 0 {
            return Ok(None);
        }
        while self.entries.is_empty() {
            match self.next_page().await? {
                Some(page) => self.entries.extend(page.entries),
                None => return Ok(None),
            }
        }
        let entry = self.entries.pop_front().expect("a page was just filled");
        self.after = entry.path.clone();
        self.left -= 1;
        Entry::from_listing(&self.path, entry).map(Some)
    }

    /// The next page, asking anew when the connection breaks, until the deadline.
    async fn next_page(&mut self) -> Result<Option<ListReply>> {
        let deadline = self.client.config.deadlines.metadata;
        let end = Instant::now() + deadline;
        let mut backoff = Backoff::new();
        loop {
            let mut pages = match self.pages.take() {
                Some(pages) => pages,
                None => start(&self.client, self.request()).await?,
            };
            let status = match tokio::time::timeout_at(end, pages.message()).await {
                Ok(Ok(Some(page))) => {
                    self.pages = Some(pages);
                    return Ok(Some(page));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(status)) if !may_work_later(&status) => {
                    return Err(WireError::from(&status).into());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            let wait = backoff.next();
            if Instant::now() + wait >= end {
                let message = format!("listing of {} stopped: {}", self.path, status.message());
                return Err(Error::new(ErrorKind::Unavailable, message).with_source(status));
            }
            crate::metrics::rpc_retries().increment(1);
            tokio::time::sleep(wait).await;
        }
    }

    fn request(&self) -> ListRequest {
        ListRequest {
            path: self.path.to_bytes(),
            sync: self.options.sync.to_wire(),
            start_after: self.after.clone(),
            limit: self.options.limit.map_or(0, |_| u32::try_from(self.left).unwrap_or(u32::MAX)),
            with_xattrs: self.options.with_xattrs,
        }
    }
}

async fn start(client: &Inner, request: ListRequest) -> Result<Streaming<ListReply>> {
    client.call(request, |channel, request| async move { namespace(channel).list(request).await }).await
}
