//! Calls to the masters: which master, how often, until when.

mod ask;
mod near;
mod pipeline;
mod tried;

pub(crate) use ask::{Ask, Read};

use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::metrics;
use crate::waits::{Cause, OnWait, Slowness, watch};
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use near::{Load, Near};
use parking_lot::{Mutex, RwLock};
use pipeline::Pipeline;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tried::Tried;

/// Of a request that may be at work: the master that has it may wait for a store.
pub(crate) const NOT_YET: &str = "the request is not answered yet: a store, or the master itself, may be slow";

/// The largest reply: a page of 1,000 entries with extended attributes fits.
pub(crate) const REPLY_LEN_MAX: usize = 64 << 20;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Between two rounds of several masters. While they choose a leader each of them answers at once that it does not lead, and whoever waits long
/// then makes that time longer.
const ROUND_MAX: Duration = Duration::from_millis(300);

/// When a peer that says nothing is taken for dead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    connect: Duration,
    /// A call is under way, and nothing has come for so long: it is asked for a sign of life, ...
    ask_after: Duration,
    /// ... and has so long for that.
    wait: Duration,
}

/// Of the only one nothing is gained by giving up soon.
pub(crate) const SILENCE: Silence =
    Silence { connect: Duration::from_secs(2), ask_after: Duration::from_secs(5), wait: Duration::from_secs(5) };
/// Where another one may lead by now: about as long as it takes them to find out.
pub(crate) const SILENCE_AMONG_SEVERAL: Silence =
    Silence { connect: Duration::from_secs(1), ask_after: Duration::from_secs(1), wait: Duration::from_millis(1500) };
/// Who refuses a connection is not silent, but quick.
const SILENT_MIN: Duration = Duration::from_millis(900);
/// For so long others are asked before one that was silent.
const SILENT_FOR: Duration = Duration::from_secs(4);

/// Leaders that are kept although the list does not name them; the oldest makes room for the next one. Groups have three or five masters.
const LEARNED_MAX: usize = 8;

/// Channels to the masters.
#[derive(Debug)]
pub(crate) struct Masters {
    /// Those of the list, then those that were named as the leader and are not in it.
    all: RwLock<Vec<Arc<Master>>>,
    /// How many the list has.
    listed: usize,
    addresses: String,
    on_wait: Option<OnWait>,
    /// Which one answered last.
    current: AtomicUsize,
    /// For reads that any of them may answer.
    near: Near,
}

/// The way to one of them.
#[derive(Debug)]
struct Master {
    address: String,
    channel: Channel,
    pipeline: Pipeline,
    /// When it kept a call waiting that it then did not answer.
    silent: Mutex<Option<Instant>>,
    /// What is known of it as one to read from.
    load: Load,
}

impl Master {
    fn new(address: &str, silence: Silence) -> Result<Arc<Master>> {
        let (channel, address) = (lazy_channel(address, silence)?, address.to_owned());
        let (pipeline, silent, load) = (Pipeline::default(), Mutex::default(), Load::default());
        Ok(Arc::new(Master { address, channel, pipeline, silent, load }))
    }

    fn heard(&self) {
        *self.silent.lock() = None;
    }

    /// Whether there is no reason to ask others first.
    fn answers(&self) -> bool {
        self.silent.lock().is_none_or(|since| since.elapsed() >= SILENT_FOR)
    }
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
        let silence = if config.masters.len() > 1 { SILENCE_AMONG_SEVERAL } else { SILENCE };
        let all = config.masters.iter().map(|address| Master::new(address, silence));
        Ok(Masters {
            all: RwLock::new(all.collect::<Result<_>>()?),
            listed: config.masters.len(),
            addresses: config.masters.join(", "),
            on_wait: config.on_wait.clone(),
            current: AtomicUsize::new(0),
            near: Near::default(),
        })
    }

    fn at(&self, index: usize) -> Arc<Master> {
        let all = self.all.read();
        Arc::clone(&all[index % all.len()])
    }

    fn len(&self) -> usize {
        self.all.read().len()
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
            let sent = send(self.at(at).channel.clone(), attempt);
            async move { sent.await.map(Response::into_inner) }
        })
        .await
    }

    /// As [`Masters::call`], over the stream to the master when it has one.
    pub(crate) async fn ask<Q: Ask>(&self, request: &Q, deadline: Duration) -> Result<Q::Reply> {
        self.repeat(deadline, |at, left| self.ask_once(at, request, left)).await
    }

    /// As [`Masters::ask`], of a read that any master may answer.
    pub(crate) async fn ask_near<Q: Ask>(&self, request: &Q, deadline: Duration) -> Result<Q::Reply> {
        self.near(deadline, |at, left| self.ask_once(at, request, left)).await
    }

    /// As [`Masters::call`], of a read that any master may answer.
    pub(crate) async fn call_near<Q, R, F>(
        &self,
        request: Q,
        deadline: Duration,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.near(deadline, |at, left| {
            let mut attempt = Request::new(request.clone());
            attempt.set_timeout(left);
            let sent = send(self.at(at).channel.clone(), attempt);
            async move { sent.await.map(Response::into_inner) }
        })
        .await
    }

    async fn ask_once<Q: Ask>(&self, at: usize, request: &Q, left: Duration) -> Result<Q::Reply, Status> {
        let master = self.at(at);
        let (channel, pipeline) = (&master.channel, &master.pipeline);
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
        let cause = Cause::default();
        let what = || format!("the masters ({})", self.addresses);
        let work = pin!(self.attempts(deadline, &cause, attempt));
        watch(self.on_wait.as_ref(), Slowness::Odd, deadline, &cause, what, work).await
    }

    async fn attempts<R, F>(
        &self,
        deadline: Duration,
        cause: &Cause,
        attempt: impl Fn(usize, Duration) -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<R, Status>>,
    {
        let end = Instant::now() + deadline;
        let mut backoff = Backoff::new();
        let mut tried = None;
        let (mut attempts, mut may_follow) = (0, true);
        loop {
            attempts += 1;
            let begun = Instant::now();
            let at = self.current.load(Ordering::Relaxed);
            let master = self.at(at);
            let asked = attempt(at, end.saturating_duration_since(Instant::now()));
            let status = match tokio::time::timeout_at(end, asked).await {
                Ok(Ok(reply)) => {
                    master.heard();
                    return Ok(reply);
                }
                Ok(Err(status)) if self.listed == 1 && answers_http(&status) => {
                    return Err(self.no_master());
                }
                Ok(Err(status)) if !may_work_later(&status) => {
                    let error = WireError::from(&status);
                    self.near.saw(error.index);
                    return Err(error.into());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(NOT_YET),
            };
            // Boxed: most calls fail nowhere, and all that call would grow by it.
            let tried = tried.get_or_insert_with(|| Box::new(Tried::new(&self.addresses, self.listed)));
            tried.failed(&master.address, &status);
            cause.set(tried.cause());
            match status.details().is_empty() && begun.elapsed() >= SILENT_MIN {
                true => *master.silent.lock() = Some(Instant::now()),
                false => master.heard(),
            }
            // Once in a round: who leads may be dead, and those that name it do not know yet.
            may_follow |= attempts % self.len() == 0;
            may_follow &= !self.leave(at, self.leader_in(&status).filter(|_| may_follow));
            let wait = self.pause(attempts, &mut backoff);
            if Instant::now() + wait >= end {
                return Err(tried.gave_up(deadline));
            }
            metrics::rpc_retries().increment(1);
            tracing::debug!(%status, "master call failed, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait after so many attempts: of several masters each is asked once before the long wait.
    fn pause(&self, attempts: usize, backoff: &mut Backoff) -> Duration {
        match self.len() {
            1 => backoff.next(),
            masters if attempts.is_multiple_of(masters) => backoff.next().min(ROUND_MAX),
            _ => Backoff::new().next(),
        }
    }

    /// Turns to the leader that was named, or to the next master, unless another call has done so already. Says whether it is the one named.
    fn leave(&self, at: usize, leader: Option<usize>) -> bool {
        let masters = self.all.read();
        let all = masters.len();
        let answers = |index: &usize| masters[*index].answers();
        let leader = leader.filter(|leader| *leader != at && answers(leader));
        let others = || (1..all).map(|step| (at + step) % all);
        let next = leader.or_else(|| others().find(answers)).unwrap_or((at + 1) % all);
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        leader.is_some()
    }

    /// Who leads, if a refusal says so. One that the list does not name is taken in beside it.
    fn leader_in(&self, status: &Status) -> Option<usize> {
        if status.details().is_empty() {
            return None;
        }
        let leader = WireError::from(status).leader;
        if leader.is_empty() {
            return None;
        }
        let mut all = self.all.write();
        if let Some(known) = all.iter().position(|master| master.address == leader) {
            return Some(known);
        }
        // What is no address is nobody to ask.
        let learned = Master::new(&leader, SILENCE_AMONG_SEVERAL).ok()?;
        if all.len() == self.listed + LEARNED_MAX {
            all.remove(self.listed);
        }
        all.push(learned);
        Some(all.len() - 1)
    }

    pub(crate) fn no_master(&self) -> Error {
        let message = format!("{} is no Forebay master's port (it answers HTTP)", self.addresses);
        Error::new(ErrorKind::InvalidArgument, message).with_hint(
            "give the address of a master (`master.listen`, port 7400 if none is set), not of its web port or a store",
        )
    }
}

/// A channel that connects when first used and notices a peer that is silent for so long.
pub(crate) fn lazy_channel(address: &str, silence: Silence) -> Result<Channel> {
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
    let endpoint = endpoint
        .http2_keep_alive_interval(silence.ask_after)
        .keep_alive_timeout(silence.wait)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    Ok(forebay_proto::dial::lazy_channel(endpoint, silence.connect))
}

/// Whether the same request may work later. Statuses without details come from the transport, not from a server.
pub(crate) fn may_work_later(status: &Status) -> bool {
    if !status.details().is_empty() {
        let answer = WireError::from(status);
        return matches!(answer.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) && !answer.last_word;
    }
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => true,
        // A broken connection under a request that was on its way.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

/// Whether a web server or a store answered in place of a master: without gRPC, or not even in HTTP/2. One that says that a service behind it is away may
/// stand before a master.
pub(crate) fn answers_http(status: &Status) -> bool {
    if !status.details().is_empty() {
        return false;
    }
    let said = |text: &str| text.contains("grpc-status header missing") && text.contains("status code 4");
    said(status.message()) || chain(status).any(|error| error.to_string().contains("frame with invalid size"))
}

/// Whether the request has certainly not left this process.
fn is_connect_error(status: &Status) -> bool {
    chain(status).any(|error| error.is::<tonic::ConnectError>())
}

/// What a master said, or the innermost message: "connection refused" says more than "transport error".
pub(crate) fn cause_of(status: &Status) -> String {
    let innermost = chain(status).last().filter(|_| status.details().is_empty());
    innermost.map_or_else(|| WireError::from(status).message, |error| error.to_string())
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
            .call(
                forebay_proto::v1::WorkersRequest::default(),
                Duration::from_millis(200),
                |channel, request| async move {
                    forebay_proto::v1::cluster_client::ClusterClient::new(channel).workers(request).await
                },
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().to_lowercase().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_speaks_http_is_named_for_what_it_is() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = peer.read(&mut request).await;
                let _ =
                    peer.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            }
        });
        let error = masters(&address)
            .call(
                forebay_proto::v1::WorkersRequest::default(),
                Duration::from_secs(10),
                |channel, request| async move {
                    forebay_proto::v1::cluster_client::ClusterClient::new(channel).workers(request).await
                },
            )
            .await
            .unwrap_err();
        serving.abort();
        assert!(error.message().contains(&format!("{address} is no Forebay master's port")), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
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
    async fn who_is_told_not_to_ask_again_does_not() {
        let calls = AtomicUsize::new(0);
        let result: Result<()> = masters("127.0.0.1:1")
            .call((), Duration::from_secs(5), |_, _| async {
                calls.fetch_add(1, Ordering::Relaxed);
                Err(WireError::new(ErrorKind::Unavailable, "cannot reach s3://x").as_last_word().into())
            })
            .await;
        assert_eq!((result.unwrap_err().kind(), calls.into_inner()), (ErrorKind::Unavailable, 1));
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

    /// An election takes seconds, in which waits have grown; the new leader may be the last one that is asked.
    #[tokio::test]
    async fn a_new_leader_is_found_soon_after_a_long_election() {
        let masters = Masters::new(&ClientConfig::new(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"])).unwrap();
        let chosen = Instant::now() + Duration::from_millis(1500);
        for leader in 0..3 {
            let result = masters.repeat(Duration::from_secs(20), |at, _| async move {
                match at == leader && Instant::now() >= chosen {
                    true => Ok(()),
                    false => Err(WireError::new(ErrorKind::Unavailable, "not the leader").into()),
                }
            });
            result.await.unwrap();
            assert!(chosen.elapsed() < Duration::from_millis(900), "{:?}", chosen.elapsed());
        }
    }

    /// The last one of the list leads, and all others say so; one of them is not asked at all.
    #[tokio::test]
    async fn who_is_named_as_the_leader_is_asked_next() {
        let list = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"];
        let masters = Masters::new(&ClientConfig::new(list)).unwrap();
        let asked = Mutex::new(Vec::new());
        let result = masters.repeat(Duration::from_secs(5), |at, _| {
            asked.lock().push(at);
            async move {
                match at {
                    3 => Ok(()),
                    _ => Err(WireError::new(ErrorKind::Unavailable, "not the leader").with_leader(list[3]).into()),
                }
            }
        });
        result.await.unwrap();
        assert_eq!(*asked.lock(), [0, 3]);
    }

    /// As somebody has it who was told of one master, and not of those that came later.
    #[tokio::test]
    async fn a_leader_that_the_list_does_not_name_is_followed() {
        let masters = Masters::new(&ClientConfig::new(["127.0.0.1:1"])).unwrap();
        let leads = AtomicUsize::new(2);
        let call = || {
            masters.repeat(Duration::from_secs(20), |at, _| {
                let (asked, leads) = (masters.at(at).address.clone(), leads.load(Ordering::Relaxed));
                async move {
                    let leader = format!("127.0.0.1:{leads}");
                    match asked == leader {
                        true => Ok(()),
                        // Those that led once are gone.
                        false if asked != "127.0.0.1:1" => Err(Status::unavailable("connection refused")),
                        false => {
                            Err(WireError::new(ErrorKind::Unavailable, "not the leader").with_leader(leader).into())
                        }
                    }
                }
            })
        };
        for leader in 2..30 {
            leads.store(leader, Ordering::Relaxed);
            call().await.unwrap();
            call().await.unwrap();
            assert!(masters.len() <= 1 + LEARNED_MAX, "{leader}");
        }
    }

    /// The one that is named is dead, and only one of the others knows.
    #[tokio::test]
    async fn a_dead_leader_that_is_named_does_not_keep_others_from_being_asked() {
        let list = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
        let masters = Masters::new(&ClientConfig::new(list)).unwrap();
        let begun = Instant::now();
        let result = masters.repeat(Duration::from_secs(5), |at, _| async move {
            match at {
                0 => Err(Status::unavailable("connection refused")),
                1 => Err(WireError::new(ErrorKind::Unavailable, "not the leader").with_leader(list[0]).into()),
                _ => Ok(()),
            }
        });
        result.await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[test]
    fn bad_addresses_are_named() {
        for bad in ["", "not an address", "http://", "host"] {
            let error = Masters::new(&ClientConfig::new([bad])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
