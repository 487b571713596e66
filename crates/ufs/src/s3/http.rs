//! Requests to a store: signed, bounded in number and time, tried again with growing pauses.
//!
//! One call is one request sent up to [`TRIES_MAX`] times within the store's deadline. What may pass (cut connections, silence, 5xx, throttling) is tried
//! again after a pause drawn at random from a growing range; what may not is returned at once. A call says how often it was sent, because a write
//! whose answer was lost may have happened.

use super::answer::{CallError, Refusal};
use super::body::{self, Chunks};
use super::config::S3Config;
use super::credentials::{CredentialError, Credentials};
use super::{encode, tls, wire};
use crate::failure::{At, Failures};
use crate::metered;
use crate::{CredentialSource, HttpGrant, UfsError, UfsResult};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// How often one call is sent.
pub(super) const TRIES_MAX: u32 = 8;
/// The same by who reads with a right and may know another way.
const TRIES_GRANTED_MAX: u32 = 3;
/// The range of the first pause; each further one doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The range of the first pause when the store says that it is asked too much.
const PAUSE_THROTTLED: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A body is given a second for so many bytes, on top of the deadline.
const BODY_RATE_MIN: u64 = 256 << 10;
/// The longest XML answer: a page of 1,000 keys of 1,024 bytes, each byte written as `%XX`, with room for the rest.
const XML_LEN_MAX: usize = 16 << 20;

/// One request.
pub(super) struct Call<'a> {
    pub(super) at: At<'a>,
    /// For metrics.
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// A whole key of the bucket; `None` for the bucket itself.
    pub(super) key: Option<&'a str>,
    pub(super) query: Vec<(&'static str, Cow<'a, str>)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<Bytes>,
    pub(super) tries_max: u32,
    /// How much longer than others this request may take the store.
    pub(super) patience: Duration,
}

/// All names of requests.
const REQUEST_NAMES: [&str; 14] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
    "GetObject",
    "HeadObject",
    "ListMultipartUploads",
    "ListObjectsV2",
    "ListParts",
    "PutObject",
    "UploadPart",
    "UploadPartCopy",
];

impl<'a> Call<'a> {
    pub(super) fn new(at: At<'a>, name: &'static str, method: Method, key: Option<&'a str>) -> Call<'a> {
        debug_assert!(REQUEST_NAMES.contains(&name), "{name} is not among the names of requests");
        Call {
            at,
            name,
            method,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            tries_max: TRIES_MAX,
            patience: Duration::ZERO,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Call<'a> {
        self.query.push((name, value.into()));
        self
    }

    /// A header whose value was checked; one that cannot be sent is left to the store to miss.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Call<'a> {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn body(mut self, body: Vec<Bytes>) -> Call<'a> {
        self.patience += Duration::from_secs(body::length(&body) / BODY_RATE_MIN);
        self.body = body;
        self
    }

    pub(super) fn patience(mut self, patience: Duration) -> Call<'a> {
        self.patience += patience;
        self
    }

    pub(super) fn tries_max(mut self, tries_max: u32) -> Call<'a> {
        self.tries_max = tries_max;
        self
    }
}

/// An answer that is no error.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: ReplyBody,
    /// The call was sent more than once, so that an earlier attempt may have taken effect.
    pub(super) repeated: bool,
}

/// The bytes of an answer.
pub(super) enum ReplyBody {
    /// All of them.
    Whole(Bytes),
    /// To come, with the right to stream.
    Stream(reqwest::Response, OwnedSemaphorePermit),
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as XML.
    pub(super) fn xml<T: for<'de> serde::Deserialize<'de>>(&self, at: At<'_>) -> UfsResult<T> {
        let body: &[u8] = match &self.body {
            ReplyBody::Whole(body) => body,
            ReplyBody::Stream(..) => b"",
        };
        wire::parse(body).map_err(|why| at.fail(UfsError::Protocol, why, ""))
    }
}

/// A call that failed, and whether an earlier attempt of it may have taken effect.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: CallError,
    pub(super) repeated: bool,
}

impl Failed {
    pub(super) fn general(self, at: At<'_>) -> UfsError {
        self.error.general(at)
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.error.refusal()
    }
}

/// One attempt that failed.
struct Trouble {
    error: CallError,
    next: Next,
}

/// What to do after an attempt that failed.
enum Next {
    GiveUp,
    /// Forget the keys, then once more.
    NewKeys,
    Again,
    /// The store asks for a pause, or is asked too much.
    AgainAfter(Option<Duration>),
}

/// Sends requests to one store.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) config: S3Config,
    /// How often a read is sent without a byte more.
    pub(super) tries_max: u32,
    failures: Failures,
    client: reqwest::Client,
    access: Access,
    requests: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// By what right a store is asked.
#[derive(Debug)]
enum Access {
    /// With keys, that sign each request.
    Keys { credentials: Box<Credentials>, signer: RequestSigner },
    /// With a request for one object that somebody else has signed.
    Granted(HttpGrant),
}

impl Http {
    pub(super) fn new(config: S3Config, source: &CredentialSource) -> UfsResult<Http> {
        let client = tls::client(&config)?;
        show_metrics(&config.uri);
        Ok(Http {
            tries_max: TRIES_MAX,
            failures: Failures::new(&config.uri),
            access: Access::Keys {
                credentials: Box::new(Credentials::new(source, client.clone())),
                signer: RequestSigner::new("s3", &config.region),
            },
            client,
            requests: Arc::new(Semaphore::new(config.requests_max)),
            reads: Arc::new(Semaphore::new(config.reads_max)),
            config,
        })
    }

    /// For reads of one object by a request that is signed already; `reads` bounds them together with others.
    pub(super) fn granted(config: S3Config, grant: HttpGrant, client: reqwest::Client, reads: Arc<Semaphore>) -> Http {
        Http {
            tries_max: TRIES_GRANTED_MAX,
            failures: Failures::new(&config.uri),
            client,
            access: Access::Granted(grant),
            requests: Arc::new(Semaphore::new(config.requests_max)),
            reads,
            config,
        }
    }

    pub(super) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Sends a call and reads its whole answer.
    pub(super) async fn fetch(&self, call: Call<'_>) -> Result<Reply, Failed> {
        self.drive(&call, false).await
    }

    /// Sends a call; the body of its answer is still to come.
    pub(super) async fn stream(&self, call: Call<'_>) -> Result<Reply, Failed> {
        self.drive(&call, true).await
    }

    async fn drive(&self, call: &Call<'_>, streamed: bool) -> Result<Reply, Failed> {
        let deadline = Instant::now() + self.config.deadline + call.patience;
        let mut tries = 0;
        let mut new_keys = false;
        loop {
            tries += 1;
            let repeated = tries > 1;
            let attempt = timeout_at(deadline, self.attempt(call, streamed)).await;
            let trouble = match attempt {
                Ok(Ok(mut reply)) => {
                    reply.repeated = repeated;
                    return Ok(reply);
                }
                Ok(Err(trouble)) => trouble,
                Err(_) => {
                    let error = call.at.fail(
                        UfsError::DeadlineExceeded,
                        format!("no answer within {:?}", self.config.deadline),
                        "try again later, or raise the option deadline",
                    );
                    return Err(Failed { error: CallError::Other(error), repeated: true });
                }
            };
            let failed = Failed { error: trouble.error, repeated };
            let pause = match trouble.next {
                Next::GiveUp => return Err(failed),
                Next::NewKeys if new_keys => return Err(failed),
                Next::NewKeys => match &self.access {
                    Access::Keys { credentials, .. } => {
                        new_keys = true;
                        credentials.forget().await;
                        Duration::ZERO
                    }
                    Access::Granted(_) => return Err(failed),
                },
                Next::Again => pause(PAUSE_FIRST, tries),
                Next::AgainAfter(asked) => asked.unwrap_or_else(|| pause(PAUSE_THROTTLED, tries)),
            };
            if tries >= call.tries_max || Instant::now() + pause >= deadline {
                return Err(failed);
            }
            metrics::counter!(metered::RETRIES, "store" => self.config.uri.clone(), "request" => call.name)
                .increment(1);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call<'_>, streamed: bool) -> Result<Reply, Trouble> {
        let turns = if streamed { &self.reads } else { &self.requests };
        let permit = Arc::clone(turns)
            .acquire_owned()
            .await
            .map_err(|_| self.trouble(call, UfsError::Unavailable, "the store is closed", "", Next::GiveUp))?;
        let request = self.request(call).await?;
        let silence_max = self.config.stall_timeout + call.patience;
        let response = match timeout(silence_max, self.client.execute(request)).await {
            Ok(answered) => answered.map_err(|error| self.transport(call, error))?,
            Err(_) => return Err(self.silent(call)),
        };
        let status = response.status();
        self.count(call, status.as_str());
        let headers = response.headers().clone();
        if status.is_success() && streamed {
            return Ok(Reply { status, headers, body: ReplyBody::Stream(response, permit), repeated: false });
        }
        let body = self.whole(call, response).await?;
        if status.is_success() && !wire::is_error(&body) {
            return Ok(Reply { status, headers, body: ReplyBody::Whole(body), repeated: false });
        }
        // An error that comes with 200 is one of the server's (S3: "Copying objects", "CompleteMultipartUpload").
        let status = if status.is_success() { StatusCode::INTERNAL_SERVER_ERROR } else { status };
        Err(after_refusal(Refusal::read(status, &headers, &body), &headers))
    }

    /// Builds and signs the request.
    async fn request(&self, call: &Call<'_>) -> Result<reqwest::Request, Trouble> {
        let mut url = match &self.access {
            Access::Keys { .. } => self.config.url(call.key),
            Access::Granted(grant) => grant.url.clone(),
        };
        if !call.query.is_empty() {
            url.push('?');
            url.push_str(&encode::query(&call.query));
        }
        let built = http::Request::builder().method(call.method.clone()).uri(&url).body(());
        let (mut parts, ()) = built
            .map_err(|why| self.trouble(call, UfsError::Invalid, &why.to_string(), "", Next::GiveUp))?
            .into_parts();
        parts.headers = call.headers.clone();
        if call.method == Method::PUT || call.method == Method::POST {
            parts.headers.insert(http::header::CONTENT_LENGTH, body::length(&call.body).into());
        }
        self.authorize(call, &mut parts).await?;
        let body = reqwest::Body::wrap(Chunks::new(&call.body));
        let request = http::Request::from_parts(parts, body);
        reqwest::Request::try_from(request).map_err(|why| {
            let why = tls::describe(&why.without_url());
            self.trouble(call, UfsError::Invalid, &why, "check the endpoint", Next::GiveUp)
        })
    }

    /// Adds what shows the store that the request is allowed.
    async fn authorize(&self, call: &Call<'_>, parts: &mut http::request::Parts) -> Result<(), Trouble> {
        match &self.access {
            Access::Keys { signer, .. } => {
                let refused = |why: &str, hint: &str, next| self.trouble(call, UfsError::Denied, why, hint, next);
                let keys = self.keys().await.map_err(|none| refused(&none.why, &none.hint, Next::Again))?;
                let Some(keys) = keys else { return Ok(()) };
                let signed = signer.sign_request(&Context::new(), parts, Some(&keys), None).await;
                signed.map_err(|why| refused(&why.to_string(), "check the credentials", Next::GiveUp))
            }
            Access::Granted(grant) => {
                for (name, value) in &grant.headers {
                    let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
                    let (name, value) = header.ok_or_else(|| {
                        let detail = "the right to read it holds a header that cannot be sent";
                        self.trouble(call, UfsError::Invalid, detail, "", Next::GiveUp)
                    })?;
                    parts.headers.insert(name, value);
                }
                Ok(())
            }
        }
    }

    /// The keys that sign; none where requests are not signed.
    pub(super) async fn keys(&self) -> Result<Option<Credential>, CredentialError> {
        match &self.access {
            Access::Keys { credentials, .. } => credentials.get().await,
            Access::Granted(_) => Ok(None),
        }
    }

    /// Signs a request in its query, for somebody else to send within `lifetime`.
    pub(super) async fn presign(
        &self,
        parts: &mut http::request::Parts,
        keys: &Credential,
        lifetime: Duration,
    ) -> reqsign_core::Result<()> {
        match &self.access {
            Access::Keys { signer, .. } => {
                signer.sign_request(&Context::new(), parts, Some(keys), Some(lifetime)).await
            }
            Access::Granted(_) => Err(reqsign_core::Error::config_invalid("who has a right cannot give it")),
        }
    }

    async fn whole(&self, call: &Call<'_>, mut response: reqwest::Response) -> Result<Bytes, Trouble> {
        let mut body = BytesMut::new();
        loop {
            let chunk = match timeout(self.config.stall_timeout, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| self.transport(call, error))?,
                Err(_) => return Err(self.silent(call)),
            };
            let Some(chunk) = chunk else {
                return Ok(body.freeze());
            };
            if body.len() + chunk.len() > XML_LEN_MAX {
                let detail = "the answer is too long";
                return Err(self.trouble(call, UfsError::Protocol, detail, "", Next::GiveUp));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn trouble(
        &self,
        call: &Call<'_>,
        variant: crate::failure::Variant,
        detail: &str,
        hint: &str,
        next: Next,
    ) -> Trouble {
        Trouble { error: CallError::Other(call.at.fail(variant, detail, hint)), next }
    }

    fn transport(&self, call: &Call<'_>, error: reqwest::Error) -> Trouble {
        self.count(call, "none");
        // The URL may be a signed one, which is a secret.
        let error = tls::transport_error(call.at, &error.without_url(), &self.config.endpoint);
        Trouble { error: CallError::Other(error), next: Next::Again }
    }

    fn silent(&self, call: &Call<'_>) -> Trouble {
        self.count(call, "none");
        let detail = format!("the store was silent for {:?}", self.config.stall_timeout);
        self.trouble(call, UfsError::Unavailable, &detail, "try again later", Next::Again)
    }

    fn count(&self, call: &Call<'_>, status: &str) {
        metrics::counter!(metered::HTTP_REQUESTS,
            "store" => self.config.uri.clone(), "request" => call.name, "status" => status.to_owned())
        .increment(1);
    }
}

/// Has metrics shown from the start, at zero, that must not be missed when they begin to count.
fn show_metrics(store: &str) {
    metrics::counter!(metered::RESUMED_READS, "store" => store.to_owned()).increment(0);
    for name in REQUEST_NAMES {
        metrics::counter!(metered::RETRIES, "store" => store.to_owned(), "request" => name).increment(0);
    }
}

fn after_refusal(refusal: Refusal, headers: &HeaderMap) -> Trouble {
    let next = if refusal.is_about_keys() {
        Next::NewKeys
    } else if !refusal.is_passing() {
        Next::GiveUp
    } else if matches!(refusal.status.as_u16(), 429 | 503) {
        Next::AgainAfter(asked_pause(headers))
    } else {
        Next::Again
    };
    Trouble { error: CallError::Refused(refusal), next }
}

/// The pause that the store asks for in seconds, up to our longest.
fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

/// A pause drawn from a range that doubles with each try: callers that failed together do not come back together.
pub(super) fn pause(first: Duration, tries: u32) -> Duration {
    let range = first.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(PAUSE_MAX);
    range.mul_f64(0.2 + 0.8 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for tries in 1..40 {
            let range = PAUSE_FIRST.saturating_mul(1 << (tries - 1).min(10)).min(PAUSE_MAX);
            let drawn = pause(PAUSE_FIRST, tries);
            assert!(drawn <= range && drawn >= range.mul_f64(0.19), "{tries}: {drawn:?}");
        }
    }
}
