//! Files and directories.

use crate::admission::Class;
use crate::core::{Core, parse_meta};
use crate::ops::list::Listing;
use crate::ops::{attributes, complete, content_summary, create, delete, directory, open, rename};
use crate::service::{change, count, deadline_of, serve};
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::namespace_server::Namespace;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// A client that takes no page of a listing for this long is taken for dead, and its place is given to another.
const PAGE_TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// The service.
#[derive(Clone)]
pub(crate) struct NamespaceService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Namespace for NamespaceService {
    type ListStream = BoxStream<'static, Result<v1::ListReply, Status>>;

    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        serve(&self.0, Class::Read, open::stat(&self.0, request.into_inner())).await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (core, started) = (Arc::clone(&self.0), Instant::now());
        let deadline = deadline_of(request.metadata());
        let place = core.admission.enter(Class::Read).await?;
        let listing = Listing::begin(&core, request.into_inner()).await;
        let mut listing = listing.inspect_err(|error| count(Class::Read, started, Some(error)))?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let _place = place;
            let outcome = match deadline {
                Some(within) => tokio::time::timeout_at((started + within).into(), send_pages(&mut listing, &sender))
                    .await
                    .unwrap_or_else(|_| Err(late())),
                None => send_pages(&mut listing, &sender).await,
            };
            count(Class::Read, started, outcome.as_ref().err());
            if let Err(error) = outcome {
                let sent = sender.send(Err(error.into()));
                let _ = tokio::time::timeout(PAGE_TAKEN_WITHIN, sent).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn content_summary(
        &self,
        request: Request<v1::ContentSummaryRequest>,
    ) -> Result<Response<v1::ContentSummaryReply>, Status> {
        let work = content_summary::content_summary(&self.0, request.into_inner());
        serve(&self.0, Class::Read, work).await
    }

    async fn make_directory(
        &self,
        request: Request<v1::MakeDirectoryRequest>,
    ) -> Result<Response<v1::MakeDirectoryReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Write, id, move |core| directory::make_directory(core, id, request)).await
    }

    async fn open(&self, request: Request<v1::OpenRequest>) -> Result<Response<v1::OpenReply>, Status> {
        serve(&self.0, Class::Read, open::open(&self.0, request.into_inner())).await
    }

    async fn create(&self, request: Request<v1::CreateRequest>) -> Result<Response<v1::CreateReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Write, id, move |core| create::create(core, id, request)).await
    }

    async fn renew_write(
        &self,
        request: Request<v1::RenewWriteRequest>,
    ) -> Result<Response<v1::RenewWriteReply>, Status> {
        let (core, request) = (Arc::clone(&self.0), request.into_inner());
        serve(&self.0, Class::Write, async move {
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
        change(&self.0, Class::Write, id, move |core| complete::complete(core, id, request)).await
    }

    async fn abandon_write(
        &self,
        request: Request<v1::AbandonWriteRequest>,
    ) -> Result<Response<v1::AbandonWriteReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Write, id, move |core| complete::abandon(core, id, request)).await
    }

    async fn rename(&self, request: Request<v1::RenameRequest>) -> Result<Response<v1::RenameReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Write, id, move |core| rename::rename(core, id, request)).await
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Write, id, move |core| delete::delete(core, id, request)).await
    }

    async fn set_attributes(
        &self,
        request: Request<v1::SetAttributesRequest>,
    ) -> Result<Response<v1::SetAttributesReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Write, id, move |core| attributes::set_attributes(core, id, request)).await
    }
}

/// Sends a listing page by page, as fast as the client takes them.
async fn send_pages(
    listing: &mut Listing,
    sender: &mpsc::Sender<Result<v1::ListReply, Status>>,
) -> Result<(), WireError> {
    loop {
        // A client that has gone is noticed while the store is awaited, too.
        let page = tokio::select! {
            page = listing.next() => page?,
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

fn late() -> WireError {
    WireError::new(ErrorKind::DeadlineExceeded, "the listing did not end within its deadline")
        .with_hint("list with a longer deadline, or go on after the last name")
}
