//! Files and directories.

use crate::admission::{Class, Place};
use crate::core::{Core, parse_meta};
use crate::follower;
use crate::ops::list::Listing;
use crate::ops::{attributes, complete, content_summary, create, delete, direct, directory, open, rename};
use crate::seat::Seat;
use crate::service::{change, count, deadline_of, serve};
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::namespace_server::Namespace;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// A client that takes no page of a listing for this long is taken for dead, and its place is given to another.
const PAGE_TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// The service.
#[derive(Clone)]
pub(crate) struct NamespaceService(pub(crate) Arc<Seat>);

#[tonic::async_trait]
impl Namespace for NamespaceService {
    type ListStream = ListStream;

    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        let request = request.into_inner();
        match self.0.core() {
            Ok(core) => {
                let work = pin!(open::stat(&core, request));
                serve(&core, Class::Read, at_index(&core, work)).await
            }
            Err(elsewhere) => match self.0.follower(request.bound) {
                Some((follower, bound)) => Ok(Response::new(follower.stat(bound, request).await?)),
                None => Err(elsewhere.into()),
            },
        }
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (started, deadline) = (Instant::now(), deadline_of(request.metadata()));
        let request = request.into_inner();
        let core = match self.0.core() {
            Ok(core) => core,
            Err(elsewhere) => {
                let (follower, bound) = self.0.follower(request.bound).ok_or(elsewhere)?;
                let listing = follower.list(bound, request).await?;
                return Ok(stream_pages(started, deadline, listing));
            }
        };
        let place = core.admission.enter(Class::Read).await?;
        let listing = Listing::begin(&core, request).await;
        let listing = listing.map_err(|error| {
            count(Class::Read, started, Some(&error));
            error.at_index(core.seen_index())
        })?;
        Ok(stream_pages(started, deadline, Leading { listing, started, _place: place }))
    }

    async fn content_summary(
        &self,
        request: Request<v1::ContentSummaryRequest>,
    ) -> Result<Response<v1::ContentSummaryReply>, Status> {
        let request = request.into_inner();
        match self.0.core() {
            Ok(core) => {
                let work = pin!(content_summary::content_summary(&core, request));
                serve(&core, Class::Read, at_index(&core, work)).await
            }
            Err(elsewhere) => match self.0.follower(request.bound) {
                Some((follower, bound)) => Ok(Response::new(follower.content_summary(bound, request).await?)),
                None => Err(elsewhere.into()),
            },
        }
    }

    async fn make_directory(
        &self,
        request: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::MakeDirectoryReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| directory::make_directory(core, id, request)).await
    }

    async fn open(&self, request: Request<v1::OpenRequest>) -> Result<Response<v1::OpenReply>, Status> {
        let request = request.into_inner();
        match self.0.core() {
            Ok(core) => {
                let work = pin!(open::open(&core, request));
                serve(&core, Class::Read, at_index(&core, work)).await
            }
            Err(elsewhere) => match self.0.follower(request.bound) {
                Some((follower, bound)) => Ok(Response::new(follower.open(bound, request).await?)),
                None => Err(elsewhere.into()),
            },
        }
    }

    async fn create(&self, request: Request<v1::CreateRequest>) -> Result<Response<v1::CreateReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| create::create(core, id, request)).await
    }

    async fn renew_write(
        &self,
        request: Request<v1::RenewWriteRequest>,
    ) -> Result<Response<v1::RenewWriteReply>, Status> {
        let (core, request) = (self.0.core()?, request.into_inner());
        let class = match request.start_upload {
            // Begun in the store.
            true => Class::Write,
            false => Class::Renewal,
        };
        serve(&Arc::clone(&core), class, async move {
            // In a task of its own, so that an upload that has begun is recorded also when the client has gone.
            tokio::spawn(create::renew(core, request))
                .await
                .unwrap_or_else(|error| Err(crate::error::internal(format!("renewing ended: {error}"))))
        })
        .await
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| complete::complete(core, id, request)).await
    }

    async fn abandon_write(
        &self,
        request: Request<v1::AbandonWriteRequest>,
    ) -> Result<Response<v1::AbandonWriteReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| complete::abandon(core, id, request)).await
    }

    async fn rename(&self, request: Request<v1::RenameRequest>) -> Result<Response<v1::RenameReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| rename::rename(core, id, request)).await
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| delete::delete(core, id, request)).await
    }

    async fn set_attributes(
        &self,
        request: Request<v1::SetAttributesRequest>,
    ) -> Result<Response<v1::SetAttributesReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Write, id, move |core| attributes::set_attributes(core, id, request)).await
    }

    async fn grant_direct_read(
        &self,
        request: Request<v1::GrantDirectReadRequest>,
    ) -> Result<Response<v1::GrantDirectReadReply>, Status> {
        let core = self.0.core()?;
        serve(&core, Class::Read, direct::grant(&core, request.into_inner())).await
    }
}

/// Pages of a directory, one after the other.
trait Pages: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Result<Option<v1::ListReply>, WireError>> + Send;

    /// Counts the listing, which has ended, so or so.
    fn ended(&self, error: Option<&WireError>);
}

/// A listing of the leader, with its place in the queue.
struct Leading {
    listing: Listing,
    started: Instant,
    _place: Place,
}

impl Pages for Leading {
    async fn next(&mut self) -> Result<Option<v1::ListReply>, WireError> {
        self.listing.next().await
    }

    fn ended(&self, error: Option<&WireError>) {
        count(Class::Read, self.started, error);
    }
}

impl Pages for follower::Listing {
    async fn next(&mut self) -> Result<Option<v1::ListReply>, WireError> {
        follower::Listing::next(self).await
    }

    fn ended(&self, error: Option<&WireError>) {
        follower::Listing::ended(self, error);
    }
}

type ListStream = BoxStream<'static, Result<v1::ListReply, Status>>;

fn stream_pages(started: Instant, deadline: Option<Duration>, mut pages: impl Pages) -> Response<ListStream> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let outcome = match deadline {
            Some(within) => tokio::time::timeout_at((started + within).into(), send_pages(&mut pages, &sender))
                .await
                .unwrap_or_else(|_| Err(late())),
            None => send_pages(&mut pages, &sender).await,
        };
        pages.ended(outcome.as_ref().err());
        if let Err(error) = outcome {
            let sent = sender.send(Err(error.into()));
            let _ = tokio::time::timeout(PAGE_TAKEN_WITHIN, sent).await;
        }
    });
    Response::new(ReceiverStream::new(receiver).boxed())
}

/// Sends a listing page by page, as fast as the client takes them.
async fn send_pages(
    pages: &mut impl Pages,
    sender: &mpsc::Sender<Result<v1::ListReply, Status>>,
) -> Result<(), WireError> {
    loop {
        // A client that has gone is noticed while the store is awaited, too.
        let page = tokio::select! {
            page = pages.next() => page?,
            () = sender.closed() => return Ok(()),
        };
        let Some(page) = page else { return Ok(()) };
        match tokio::time::timeout(PAGE_TAKEN_WITHIN, sender.send(Ok(page))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(late()),
        }
    }
}

/// A reply that says up to where it can know of the log.
trait Indexed {
    fn set_index(&mut self, index: u64);
}

macro_rules! indexed {
    ($($reply:ident)*) => {$(
        impl Indexed for v1::$reply {
            fn set_index(&mut self, index: u64) {
                self.index = index;
            }
        }
    )*};
}

indexed!(StatReply OpenReply ContentSummaryReply);

/// Says so with what was read, or with why it could not be.
async fn at_index<T: Indexed>(core: &Core, work: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
    let mut outcome = work.await;
    let index = core.seen_index();
    match &mut outcome {
        Ok(reply) => reply.set_index(index),
        Err(error) => error.index = index,
    }
    outcome
}

fn late() -> WireError {
    WireError::new(ErrorKind::DeadlineExceeded, "the listing did not end within its deadline")
        .with_hint("list with a longer deadline, or go on after the last name")
}
