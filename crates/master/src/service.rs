//! The gRPC services: each request enters the queue of its class, is served, counted, and its error becomes a status.

pub(crate) mod backups;
pub(crate) mod cluster;
pub(crate) mod masters;
pub(crate) mod members;
pub(crate) mod mounts;
pub(crate) mod namespace;
pub(crate) mod pipeline;
pub(crate) mod registry;

use crate::admission::Class;
use crate::core::Core;
use crate::metrics::names;
use forebay_base::{ClientId, RequestId};
use forebay_namespace::Request;
use forebay_proto::error::WireError;
use metrics::{Counter, Histogram};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

/// Serves one request of a class. The transport ends it when the deadline of `grpc-timeout` passes.
pub(crate) async fn serve<T>(
    core: &Core,
    class: Class,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<Response<T>, Status> {
    let started = Instant::now();
    let served = async {
        let _place = core.admission.enter(class).await?;
        work.await
    };
    let outcome = core.while_leading(pin!(served)).await;
    count(class, started, outcome.as_ref().err());
    outcome.map(Response::new).map_err(Status::from)
}

/// Serves a request that changes something: a repeated one joins the first, and it goes on when the client has gone.
pub(crate) async fn change<T, F>(
    core: &Arc<Core>,
    class: Class,
    id: Request,
    work: impl FnOnce(Arc<Core>) -> F + Send + 'static,
) -> Result<Response<T>, Status>
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, WireError>> + Send + 'static,
{
    let started = Instant::now();
    let outcome = async {
        let place = Arc::new(core.admission.enter(class).await?);
        let held = Arc::clone(&place);
        let leading = Arc::clone(core);
        let request = RequestId { client: ClientId(id.client), sequence: id.sequence };
        core.inflight
            .join(request, async move {
                let _held = held;
                let work = pin!(work(Arc::clone(&leading)));
                leading.while_leading(work).await
            })
            .await
    }
    .await;
    count(class, started, outcome.as_ref().err());
    outcome.map(Response::new).map_err(Status::from)
}

/// The metrics of a class, looked up once: a look-up costs as much as a `stat`.
struct Served {
    ok: Counter,
    seconds: Histogram,
}

/// In the order of [`Class`].
static SERVED: LazyLock<[Served; 5]> = LazyLock::new(|| {
    Class::ALL.map(|class| Served {
        ok: metrics::counter!(names::REQUESTS, "class" => class.as_str(), "outcome" => "ok"),
        seconds: metrics::histogram!(names::REQUEST_SECONDS, "class" => class.as_str()),
    })
});

/// Counts a request that has ended.
pub(crate) fn count(class: Class, started: Instant, error: Option<&WireError>) {
    let served = &SERVED[class as usize];
    match error {
        None => served.ok.increment(1),
        Some(error) => {
            let outcome = error.kind.as_str();
            metrics::counter!(names::REQUESTS, "class" => class.as_str(), "outcome" => outcome).increment(1);
        }
    }
    served.seconds.record(started.elapsed().as_secs_f64());
}

/// How long the client waits, by its `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
pub(crate) fn deadline_of(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        let read = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline_of(&metadata)
        };
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        for wrong in ["", "S", "5", "999999999S", "5x", "-1S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
