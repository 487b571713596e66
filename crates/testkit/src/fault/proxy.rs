//! The proxy itself: accepts, applies rules, forwards, counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::counts::{Counts, Ends, Record, Seen, Totals};
use super::link::{Link, Pacer};
use super::relay::{Body, End, Error, Relay, counting};
use super::rules::{Fault, Hold, RuleId, Rules, When};
use super::socket::{ResetOnDrop, Socket};
use crate::s3::Access;

/// Waiting connections the kernel keeps for us.
const BACKLOG: u32 = 1024;

/// Shorter than any server's own, so that we never send on a connection that the server is closing.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// A proxy on a port of its own before one server. Ends when dropped, with all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Keeps the port ours while no listener is open: it is bound, and does not listen.
    _port: TcpSocket,
    listening: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Shared {
    /// `host:port` of the server.
    upstream: String,
    client: Client<HttpConnector, Body>,
    rules: Mutex<Rules>,
    link: Mutex<Link>,
    counts: Counts,
    to_client: Arc<Pacer>,
    to_server: Arc<Pacer>,
}

impl Proxy {
    /// Starts a proxy before the server at `endpoint` (`http://host:port`), on the runtime of the caller.
    pub async fn start(endpoint: &str) -> Result<Self> {
        let upstream =
            endpoint.strip_prefix("http://").with_context(|| format!("{endpoint} is not http://host:port"))?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            // A repeated request would be one that nobody sent.
            .retry_canceled_requests(false)
            .build_http();
        let port = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let proxy = Self {
            address: port.local_addr()?,
            shared: Arc::new(Shared {
                upstream: upstream.to_owned(),
                client,
                rules: Mutex::default(),
                link: Mutex::default(),
                counts: Counts::default(),
                to_client: Arc::default(),
                to_server: Arc::default(),
            }),
            _port: port,
            listening: Mutex::default(),
        };
        proxy.accept()?;
        Ok(proxy)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The server's credentials with our address.
    pub fn access(&self, server: &Access) -> Access {
        server.through(&self.endpoint())
    }

    /// Sets latency and bandwidth for the requests that come from now on.
    pub fn set_link(&self, link: Link) {
        *lock(&self.shared.link) = link;
    }

    /// From now on `fault` strikes the requests that `when` matches.
    pub fn inject(&self, when: When, fault: Fault) -> RuleId {
        lock(&self.shared.rules).add(when, fault)
    }

    /// Holds the requests that `when` matches until the [`Hold`] is released or dropped; then they go on.
    pub fn hold(&self, when: When) -> Hold {
        let (hold, gate) = Hold::new();
        self.inject(when, Fault::Hold(gate));
        hold
    }

    /// How many requests a rule has struck.
    pub fn struck(&self, rule: RuleId) -> u64 {
        lock(&self.shared.rules).struck(rule)
    }

    /// Takes a rule back.
    pub fn remove(&self, rule: RuleId) {
        lock(&self.shared.rules).remove(rule);
    }

    /// Takes all rules back; the link stays.
    pub fn clear(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Closes all connections and refuses new ones until [`Proxy::accept`].
    pub fn refuse(&self) {
        if let Some(task) = lock(&self.listening).take() {
            task.abort();
        }
    }

    /// Accepts connections, as at the start.
    pub fn accept(&self) -> Result<()> {
        let mut listening = lock(&self.listening);
        if listening.is_none() {
            let listener = bind(self.address)?.listen(BACKLOG).context("listening for the proxy")?;
            *listening = Some(tokio::spawn(serve(listener, Arc::clone(&self.shared))).abort_handle());
        }
        Ok(())
    }

    /// Sums over all requests since the start or [`Proxy::reset_counts`].
    pub fn totals(&self) -> Totals {
        self.shared.counts.totals()
    }

    /// Sums over the requests that match.
    pub fn totals_of(&self, matches: impl Fn(&Seen) -> bool) -> Totals {
        self.shared.counts.totals_of(matches)
    }

    /// The requests, oldest first (the last 200,000).
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.counts.seen()
    }

    /// Forgets what was counted.
    pub fn reset_counts(&self) {
        self.shared.counts.reset();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("making a socket")?;
    // The holder of the port and the listener share it.
    socket.set_reuseport(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("binding {address}"))?;
    Ok(socket)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, which ends all connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&shared)))),
                // Out of descriptors: the next connection may find one.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it small answers would wait for acknowledgements; then only speed suffers.
    let _ = stream.set_nodelay(true);
    let (socket, reset) = Socket::new(stream);
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        let reset = reset.clone();
        async move { shared.handle(request, reset).await }
    });
    // Its errors are the client's going away or the faults we injected.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

impl Shared {
    async fn handle(&self, request: Request<Incoming>, reset: ResetOnDrop) -> Result<Response<Body>, Error> {
        let record = Arc::new(Record::new(&request));
        self.counts.begin(Arc::clone(&record));
        let _ends = Ends(Arc::clone(&record));
        let link = *lock(&self.link);
        let fault = lock(&self.rules).strike(request.method(), request.uri());
        sleep(link.latency).await;
        match fault {
            Some(Fault::Reset) => break_off(&reset),
            Some(Fault::BlackHole) => std::future::pending().await,
            Some(Fault::Status(status, code)) => self.refuse_with(&record, request, status, code).await,
            Some(Fault::ErrorInOk(code)) => self.refuse_with(&record, request, 200, code).await,
            Some(Fault::Delay(delay)) => {
                sleep(delay).await;
                self.pass(&record, request, link, None).await
            }
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                self.pass(&record, request, link, None).await
            }
            Some(Fault::LoseAnswer) => {
                self.pass(&record, request, link, None).await?.into_body().collect().await?;
                break_off(&reset)
            }
            Some(Fault::CutBody(at)) => self.pass(&record, request, link, Some(End::Cut(at, reset))).await,
            Some(Fault::TrickleBody(at)) => self.pass(&record, request, link, Some(End::Trickle(at))).await,
            Some(Fault::StallBody(at)) => self.pass(&record, request, link, Some(End::Stall(at))).await,
            Some(Fault::TruncateBody(at)) => {
                let mut response = self.pass(&record, request, link, Some(End::Truncate(at))).await?;
                claim_length(&mut response, at);
                Ok(response)
            }
            Some(Fault::WrongEtag(etag)) => {
                let mut response = self.pass(&record, request, link, None).await?;
                response.headers_mut().insert(header::ETAG, HeaderValue::from_static(etag));
                Ok(response)
            }
            None => self.pass(&record, request, link, None).await,
        }
    }

    /// Sends the request on and the answer back.
    async fn pass(
        &self,
        record: &Arc<Record>,
        request: Request<Incoming>,
        link: Link,
        end: Option<End>,
    ) -> Result<Response<Body>, Error> {
        let (mut parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        parts.uri = Uri::try_from(format!("http://{}{target}", self.upstream))?;
        // We have answered it ourselves: hyper tells the client to continue when we read the body.
        parts.headers.remove(header::EXPECT);
        let body = if body.is_end_stream() {
            Full::default().map_err(|never| match never {}).boxed_unsync()
        } else {
            let count = counting(Arc::clone(record), |record| &record.received);
            self.relay(body, &self.to_server, link, None, count)
        };
        let response = self.client.request(Request::from_parts(parts, body)).await?;
        record.answered(&response);
        let count = counting(Arc::clone(record), |record| &record.sent);
        Ok(response.map(|body| self.relay(body, &self.to_client, link, end, count)))
    }

    fn relay(
        &self,
        body: Incoming,
        pacer: &Arc<Pacer>,
        link: Link,
        end: Option<End>,
        count: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Body {
        Relay { body, pacer: Arc::clone(pacer), bytes_per_second: link.bytes_per_second, end, count }.into_body()
    }

    /// Answers with an S3 error in the store's place, after the client has sent its body.
    async fn refuse_with(
        &self,
        record: &Record,
        request: Request<Incoming>,
        status: u16,
        code: &str,
    ) -> Result<Response<Body>, Error> {
        request.into_body().collect().await?;
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
             <Message>injected by the test</Message><RequestId>fault</RequestId></Error>"
        );
        let response = Response::builder()
            .status(StatusCode::from_u16(status)?)
            .header(header::CONTENT_TYPE, "application/xml")
            .body(Full::new(Bytes::from(xml)).map_err(|never| match never {}).boxed_unsync())?;
        record.answered(&response);
        Ok(response)
    }
}

/// Makes hyper drop the socket, which then resets the connection.
fn break_off(reset: &ResetOnDrop) -> Result<Response<Body>, Error> {
    reset.ask();
    bail!("the connection is reset here by a fault")
}

fn claim_length(response: &mut Response<Body>, length: u64) {
    let real = response.headers().get(header::CONTENT_LENGTH);
    let real = real.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(u64::MAX);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length.min(real)));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
