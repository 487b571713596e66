//! A bucket that is not stored anywhere: its answers are made up as they are asked for. It holds `large/NAME` for very many names, in order.

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{Query, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};

const PREFIX: &str = "large/";

struct Shared {
    objects: u64,
    name: fn(u64) -> String,
    pages: AtomicU64,
    ended: AtomicBool,
}

pub(super) struct EndlessBucket {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for EndlessBucket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EndlessBucket {
    pub(super) async fn start(objects: u64, name: fn(u64) -> String) -> Result<EndlessBucket> {
        let shared = Arc::new(Shared { objects, name, pages: AtomicU64::new(0), ended: AtomicBool::new(false) });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Ok(EndlessBucket { address, shared, task })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Pages of names that were asked for.
    pub(super) fn pages(&self) -> u64 {
        self.shared.pages.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let key = request.uri().path().trim_start_matches("/bucket").trim_start_matches('/');
    match (request.method(), query.contains_key("list-type")) {
        (&Method::GET, true) => shared.list(&query).into_response(),
        (&Method::HEAD, _) if shared.number(key).is_some() => {
            [("etag", "\"e\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"), ("content-length", "0")]
                .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Shared {
    /// Which object a key names.
    fn number(&self, key: &str) -> Option<u64> {
        let number: u64 = key.strip_prefix(PREFIX)?.parse().ok()?;
        (number < self.objects && key == format!("{PREFIX}{}", (self.name)(number))).then_some(number)
    }

    /// ListObjectsV2, as far as names in one prefix need it.
    fn list(&self, query: &HashMap<String, String>) -> String {
        let get = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, limit) = (get("prefix"), get("max-keys").parse().unwrap_or(1000).min(1000));
        let after = if get("continuation-token").is_empty() { get("start-after") } else { get("continuation-token") };
        let mut body = "<ListBucketResult><Name>bucket</Name>".to_owned();
        let mut truncated = false;
        if prefix == PREFIX || prefix.starts_with(PREFIX) && self.number(prefix).is_some() {
            let first = match self.number(after) {
                Some(number) => number + 1,
                None => self.number(prefix).unwrap_or(0),
            };
            let last = self.number(prefix).map_or(self.objects, |number| number + 1).min(first + limit);
            for number in first..last {
                let key = (self.name)(number);
                write!(body, "<Contents><Key>{PREFIX}{key}</Key><Size>0</Size><ETag>\"e\"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>").unwrap();
            }
            truncated = prefix == PREFIX && last < self.objects;
            if truncated {
                write!(body, "<NextContinuationToken>{PREFIX}{}</NextContinuationToken>", (self.name)(last - 1))
                    .unwrap();
            }
            self.pages.fetch_add(u64::from(limit == 1000 && prefix == PREFIX), Ordering::Relaxed);
        } else if prefix.is_empty() && get("delimiter") == "/" && after < PREFIX {
            write!(body, "<CommonPrefixes><Prefix>{PREFIX}</Prefix></CommonPrefixes>").unwrap();
        }
        write!(body, "<IsTruncated>{truncated}</IsTruncated></ListBucketResult>").unwrap();
        body
    }
}
