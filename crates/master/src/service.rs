//! The gRPC services: each request enters the queue of its class, is served, counted, and its error becomes a status.

pub(crate) mod cluster;
pub(crate) mod registry;

use crate::admission::Class;
use crate::core::Core;
use crate::metrics::names;
use forebay_proto::error::WireError;
use std::time::Instant;
use tonic::{Response, Status};

/// Serves one request of a class. The transport ends it when the deadline of `grpc-timeout` passes.
pub(crate) async fn serve<T>(
    core: &Core,
    class: Class,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<Response<T>, Status> {
    let started = Instant::now();
    let outcome = async {
        let _place = core.admission.enter(class).await?;
        work.await
    }
    .await;
    count(class, started, outcome.as_ref().err());
    outcome.map(Response::new).map_err(Status::from)
}

/// Counts a request that has ended.
pub(crate) fn count(class: Class, started: Instant, error: Option<&WireError>) {
    let outcome = error.map_or("ok", |error| error.kind.as_str());
    metrics::counter!(names::REQUESTS, "class" => class.as_str(), "outcome" => outcome).increment(1);
    metrics::histogram!(names::REQUEST_SECONDS, "class" => class.as_str()).record(started.elapsed().as_secs_f64());
}
