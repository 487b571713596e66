//! What went through: each request with the bytes it asked for and the bytes it got.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Request, header};

/// The log keeps this many requests; the totals count all of them.
const LOG_ENTRIES_MAX: usize = 200_000;

/// One request that went through, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query as the client sent them.
    pub target: String,
    /// The Range header.
    pub range: Option<String>,
    /// The status that the client got; 0 while there is none.
    pub status: u16,
    /// Bytes of the object that a successful GET asked for: its range, or the whole.
    pub asked: u64,
    /// Bytes of the body that went to the client so far.
    pub sent: u64,
    /// Bytes of the body that came from the client so far.
    pub received: u64,
    /// Nothing of it goes to the store any more: it was answered, or broken off.
    pub ended: bool,
}

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many requests.
    pub requests: u64,
    /// See [`Seen::asked`].
    pub asked: u64,
    /// See [`Seen::sent`].
    pub sent: u64,
    /// See [`Seen::received`].
    pub received: u64,
}

impl Totals {
    fn add(&mut self, record: &Record) {
        self.requests += 1;
        self.asked += record.asked.load(Ordering::Relaxed);
        self.sent += record.sent.load(Ordering::Relaxed);
        self.received += record.received.load(Ordering::Relaxed);
    }
}

/// A request while it is under way.
#[derive(Debug)]
pub(super) struct Record {
    method: Method,
    target: String,
    range: Option<String>,
    status: AtomicU16,
    asked: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    ended: AtomicBool,
}

/// Notes the end of a request when it is dropped.
#[derive(Debug)]
pub(super) struct Ends(pub(super) Arc<Record>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

impl Record {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            range: range.map(str::to_owned),
            status: AtomicU16::new(0),
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    /// Notes the status, and what a successful GET asked for.
    pub(super) fn answered<B>(&self, response: &http::Response<B>) {
        self.status.store(response.status().as_u16(), Ordering::Relaxed);
        if self.method == Method::GET && response.status().is_success() {
            self.asked.store(asked(self.range.as_deref(), response.headers()), Ordering::Relaxed);
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            method: self.method.clone(),
            target: self.target.clone(),
            range: self.range.clone(),
            status: self.status.load(Ordering::Relaxed),
            asked: self.asked.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Acquire),
        }
    }
}

/// The length of the range, cut at the object's end as `Content-Range` tells it; without a range the whole answer.
fn asked(range: Option<&str>, answer: &HeaderMap) -> u64 {
    let text = |name| answer.get(name).and_then(|value| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(0);
    let object = text(header::CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
    let bounds = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    match (bounds, object) {
        (Some((first, last)), Some(object)) => match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) => (last.saturating_add(1)).min(object).saturating_sub(first),
            (Ok(first), Err(_)) => object.saturating_sub(first),
            (Err(_), Ok(suffix)) => suffix.min(object),
            (Err(_), Err(_)) => length,
        },
        _ => length,
    }
}

/// All records since the start or the last reset.
#[derive(Debug, Default)]
pub(super) struct Counts {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    records: VecDeque<Arc<Record>>,
    /// Of those that were dropped from the front.
    dropped: Totals,
}

impl Counts {
    pub(super) fn begin(&self, record: Arc<Record>) {
        let mut log = self.lock();
        if log.records.len() == LOG_ENTRIES_MAX
            && let Some(oldest) = log.records.pop_front()
        {
            log.dropped.add(&oldest);
        }
        log.records.push_back(record);
    }

    pub(super) fn totals(&self) -> Totals {
        let log = self.lock();
        let mut totals = log.dropped;
        log.records.iter().for_each(|record| totals.add(record));
        totals
    }

    pub(super) fn totals_of(&self, matches: impl Fn(&Seen) -> bool) -> Totals {
        let mut totals = Totals::default();
        self.lock().records.iter().filter(|record| matches(&record.seen())).for_each(|record| totals.add(record));
        totals
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.lock().records.iter().map(|record| record.seen()).collect()
    }

    pub(super) fn reset(&self) {
        *self.lock() = Log::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_asked() {
        let check = |range: Option<&str>, content_range: Option<&str>, length: &str, expected: u64| {
            let mut answer = HeaderMap::new();
            answer.insert(header::CONTENT_LENGTH, length.parse().unwrap());
            if let Some(content_range) = content_range {
                answer.insert(header::CONTENT_RANGE, content_range.parse().unwrap());
            }
            assert_eq!(asked(range, &answer), expected, "{range:?} {content_range:?}");
        };
        check(None, None, "1000", 1000);
        check(Some("bytes=0-99"), Some("bytes 0-99/1000"), "100", 100);
        check(Some("bytes=900-1999"), Some("bytes 900-999/1000"), "100", 100);
        check(Some("bytes=900-"), Some("bytes 900-999/1000"), "100", 100);
        check(Some("bytes=-50"), Some("bytes 950-999/1000"), "50", 50);
        check(Some("bytes=-5000"), Some("bytes 0-999/1000"), "1000", 1000);
        // A server that ignores the range sends everything.
        check(Some("bytes=0-99"), None, "1000", 1000);
    }
}
