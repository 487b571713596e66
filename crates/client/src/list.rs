//! Listings as streams.

use crate::client::{Inner, namespace};
use crate::error::{Error, Result};
use crate::rpc::{Backoff, cause_of, may_work_later};
use crate::types::{Entry, ListOptions};
use crate::waits::{Cause, Slowness, watch};
use bytes::Bytes;
use forebay_base::{ErrorKind, NsPath};
use forebay_proto::error::WireError;
use forebay_proto::v1::{ListReply, ListRequest};
use futures::stream::{BoxStream, Stream};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
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
        let (client, path, cause) = (self.client.clone(), self.path.clone(), Cause::default());
        let (on_wait, deadline) = (client.config.on_wait.as_ref(), client.config.deadlines.metadata);
        let what = || format!("the listing of {path}");
        watch(on_wait, Slowness::Odd, deadline, &cause, what, pin!(self.asked_page(deadline, &cause))).await
    }

    async fn asked_page(&mut self, deadline: Duration, cause: &Cause) -> Result<Option<ListReply>> {
        let end = Instant::now() + deadline;
        let mut backoff = Backoff::new();
        // What a server said last: a better reason than that the time is over.
        let (mut told, mut from) = (None, From::Any);
        loop {
            let mut pages = match self.pages.take() {
                Some(pages) => pages,
                // Boxed: pages that are there are read with less.
                None => Box::pin(self.start(from)).await?,
            };
            let status = match tokio::time::timeout_at(end, pages.message()).await {
                Ok(Ok(Some(page))) => {
                    self.client.masters.saw(page.index);
                    self.pages = Some(pages);
                    return Ok(Some(page));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(status)) if !may_work_later(&status) => {
                    let error = WireError::from(&status);
                    self.client.masters.saw(error.index);
                    return Err(error.into());
                }
                Ok(Err(status)) => status,
                Err(_) => told.take().unwrap_or_else(|| Status::deadline_exceeded(crate::rpc::NOT_YET)),
            };
            cause.set(cause_of(&status));
            let wait = backoff.next();
            if Instant::now() + wait >= end {
                let cause = WireError::from(&status);
                let message = format!("listing of {} stopped: {}", self.path, cause.message);
                return Err(Error::new(ErrorKind::Unavailable, message).with_hint(cause.hint).with_source(status));
            }
            told = Some(status);
            from = From::Leader;
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
            bound: None,
        }
    }

    /// Asks for the entries after the last one, any master unless one has failed in the middle.
    async fn start(&self, from: From) -> Result<Streaming<ListReply>> {
        let (client, request) = (&self.client, self.request());
        let send = |channel, request| async move { namespace(channel).list(request).await };
        match client.read_bound(self.options.sync).filter(|_| from == From::Any) {
            None => client.call(request, send).await,
            bound => {
                let request = ListRequest { bound, ..request };
                client.masters.call_near(request, client.config.deadlines.metadata, send).await
            }
        }
    }
}

/// Who is asked for a listing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Any,
    Leader,
}
