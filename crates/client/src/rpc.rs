//! Calls to the masters: which master, how often, until when.

mod ask;
mod pipeline;

pub(crate) use ask::Ask;

use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::metrics;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use pipeline::Pipeline;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// The largest reply: a page of 1,000 entries with extended attributes fits.
pub(crate) const REPLY_LEN_MAX: usize = 64 << 20;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Channels to the masters.
#[derive(Debug)]
pub(crate) struct Masters {
    channels: Vec<Channel>,
    /// Beside each channel.
    pipelines: Vec<Pipeline>,
    addresses: String,
    /// Which one answered last.
    current: AtomicUsize,
}

/// Waits between attempts: exponential, with jitter, so that clients do not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: BACKOFF_MIN }
    }

    /// The next wait: between half and all of a time that doubles.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(BACKOFF_MAX);
        wait
    }
}

impl Masters {
    /// Makes the channels; they connect when first used.
    pub(crate) fn new(config: &ClientConfig) -> Result<Masters> {
        if config.masters.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "no master to connect to")
                .with_hint("name at least one master as host:port"));
        }
        let channels = config.masters.iter().map(|address| lazy_channel(address));
        Ok(Masters {
            channels: channels.collect::<Result<_>>()?,
            pipelines: config.masters.iter().map(|_| Pipeline::default()).collect(),
            addresses: config.masters.join(", "),
            current: AtomicUsize::new(0),
        })
    }

    /// Sends `request` until a master has answered it or `deadline` has passed.
    ///
    /// The request may reach the masters more than once: it must be a read, carry a request id, or be harmless to repeat.
    pub(crate) async fn call<Q, R, F>(
        &self,
        request: Q,
        deadline: Duration,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.repeat(deadline, |at, left| {
            let mut attempt = Request::new(request.clone());
            attempt.set_timeout(left);
            let sent = send(self.channels[at].clone(), attempt);
            async move { sent.await.map(Response::into_inner) }
        })
        .await
    }

    /// As [`Masters::call`], over the stream to the master when it has one.
    pub(crate) async fn ask<Q: Ask>(&self, request: &Q, deadline: Duration) -> Result<Q::Reply> {
        self.repeat(deadline, |at, left| self.ask_once(at, request, left)).await
    }

    async fn ask_once<Q: Ask>(&self, at: usize, request: &Q, left: Duration) -> Result<Q::Reply, Status> {
        let (channel, pipeline) = (&self.channels[at], &self.pipelines[at]);
        let call = request.to_call();
        // What fills a message alone would hold up, or break, the calls of others.
        if pipeline.is_usable() && call.encoded_len() <= pipeline::MESSAGE_BYTES {
            match pipeline.call(channel, call, left).await {
                Ok(outcome) => {
                    return Q::reply(outcome)
                        .ok_or_else(|| Status::internal("the master answered another question than was asked"));
                }
                Err(status) if status.code() == Code::Unimplemented => {}
                Err(status) => return Err(status),
            }
        }
        let mut attempt = Request::new(request.clone());
        attempt.set_timeout(left);
        Q::send(channel.clone(), attempt).await.map(Response::into_inner)
    }

    /// Tries, one master after the other, until one has answered or `deadline` has passed.
    async fn repeat<R, F>(&self, deadline: Duration, attempt: impl Fn(usize, Duration) -> F) -> Result<R>
    where
        F: Future<Output = Result<R, Status>>,
    {
        let end = Instant::now() + deadline;
        let mut backoff = Backoff::new();
        let mut may_have_arrived = false;
        let mut answer = None;
        loop {
            let at = self.current.load(Ordering::Relaxed);
            let tried = attempt(at, end.saturating_duration_since(Instant::now()));
            let status = match tokio::time::timeout_at(end, tried).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(status)) if !may_work_later(&status) => {
                    return Err(WireError::from(&status).into());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            may_have_arrived |= !is_connect_error(&status);
            self.leave(at);
            if !status.details().is_empty() {
                answer = Some(status.clone());
            }
            let wait = backoff.next();
            if Instant::now() + wait >= end {
                // What a master said tells more than that the last attempt had no time left.
                return Err(self.gave_up(answer.unwrap_or(status), deadline, may_have_arrived));
            }
            metrics::rpc_retries().increment(1);
            tracing::debug!(%status, "master call failed, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Turns to the next master, unless another call has done so already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.channels.len();
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn gave_up(&self, status: Status, deadline: Duration, may_have_arrived: bool) -> Error {
        let last = WireError::from(&status);
        let (kind, hint) = match may_have_arrived {
            true => (ErrorKind::DeadlineExceeded, "look whether it took effect before repeating a change".to_owned()),
            false => {
                (ErrorKind::Unavailable, format!("check that a master (`forebay server`) runs at {}", self.addresses))
            }
        };
        let hint = if last.hint.is_empty() { hint } else { last.hint };
        let within = forebay_base::HumanDuration(deadline);
        let message = match status.details().is_empty() {
            true => {
                let cause = root_cause(&status).unwrap_or(last.message);
                format!("no answer from the masters ({}) within {within}: {cause}", self.addresses)
            }
            // They did answer, each time that it cannot be done now.
            false => format!("not within {within}: {}", last.message),
        };
        Error::new(kind, message).with_hint(hint).with_source(status)
    }
}

/// A channel that connects when first used and notices a silent peer.
pub(crate) fn lazy_channel(address: &str) -> Result<Channel> {
    let uri = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let bad = |why: String| {
        Error::new(ErrorKind::InvalidArgument, format!("{address:?} is not an address: {why}"))
            .with_hint("write host:port, as in 10.0.0.1:7400")
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| bad(error.to_string()))?;
    if endpoint.uri().port().is_none() {
        return Err(bad("the port is missing".to_owned()));
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_lazy())
}

/// Whether the same request may work later. Statuses without details come from the transport, not from a server.
pub(crate) fn may_work_later(status: &Status) -> bool {
    if !status.details().is_empty() {
        return matches!(WireError::from(status).kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded);
    }
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => true,
        // A broken connection under a request that was on its way.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

/// Whether the request has certainly not left this process.
fn is_connect_error(status: &Status) -> bool {
    chain(status).any(|error| error.is::<tonic::ConnectError>())
}

/// The innermost message: "connection refused" says more than "transport error".
fn root_cause(status: &Status) -> Option<String> {
    chain(status).last().map(|error| error.to_string())
}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(address: &str) -> Masters {
        Masters::new(&ClientConfig::new([address])).unwrap()
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = masters(&address)
            .call(forebay_proto::v1::WorkersRequest {}, Duration::from_millis(200), |channel, request| async move {
                forebay_proto::v1::cluster_client::ClusterClient::new(channel).workers(request).await
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().to_lowercase().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_of_the_server_is_final_unless_it_may_work_later() {
        let calls = AtomicUsize::new(0);
        let result: Result<()> = masters("127.0.0.1:1")
            .call((), Duration::from_secs(5), |_, _| async {
                Err(match calls.fetch_add(1, Ordering::Relaxed) {
                    0 => WireError::new(ErrorKind::Unavailable, "starting").into(),
                    1 => Status::unavailable("connection reset"),
                    _ => WireError::new(ErrorKind::NotFound, "no /a").into(),
                })
            })
            .await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(calls.into_inner(), 3);
    }

    #[tokio::test]
    async fn what_masters_kept_answering_is_not_called_silence() {
        let result: Result<()> = masters("127.0.0.1:1")
            .call((), Duration::from_millis(100), |_, _| async {
                Err(WireError::new(ErrorKind::Unavailable, "cannot reach s3://x").with_hint("check it").into())
            })
            .await;
        let error = result.unwrap_err();
        assert!(error.message().ends_with(": cannot reach s3://x"), "{error}");
        assert!(!error.message().contains("no answer"), "{error}");
        assert_eq!(error.hint(), "check it");
    }

    #[test]
    fn bad_addresses_are_named() {
        for bad in ["", "not an address", "http://", "host"] {
            let error = Masters::new(&ClientConfig::new([bad])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
