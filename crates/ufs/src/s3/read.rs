//! Reading a range of one version, with every answer checked, and resumed from the byte reached when it breaks.

use super::answer::Refusal;
use super::http::{Call, Http, Reply, ReplyBody, pause};
use super::{encode, meta};
use crate::failure::At;
use crate::{ByteStream, Expected, UfsError, UfsResult};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, StatusCode};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// An answer that brings fewer bytes a second, waited for over a stall time-out, is left for another: an answer holds a place among the reads, and a
/// store that trickles must not hold it for ever. So little that 128 reads fit into a line of 8 Mbit/s.
const RATE_MIN: u64 = 8 << 10;

/// A range that is being read.
struct Reading {
    http: Arc<Http>,
    /// As the caller names it.
    key: Vec<u8>,
    /// As the bucket names it.
    object: String,
    expected: Expected,
    position: u64,
    end: u64,
    body: Option<ReplyBody>,
    /// Attempts since the last byte came.
    fruitless: u32,
    pace: Pace,
}

/// How fast the bytes come, by the time that they are waited for.
#[derive(Default)]
struct Pace {
    waited: Duration,
    got: u64,
    /// Stretches below the least rate, one after the other.
    slow: u32,
}

impl Pace {
    /// Counts a wait and what it brought; whether it has been too slow for a whole stretch.
    fn is_slow(&mut self, waited: Duration, got: usize, stretch: Duration) -> bool {
        self.waited += waited;
        self.got += got as u64;
        if self.waited < stretch {
            return false;
        }
        let slow = self.got < (self.waited.as_secs_f64() * RATE_MIN as f64) as u64;
        let times = if slow { self.slow + 1 } else { 0 };
        *self = Pace { slow: times, ..Pace::default() };
        slow
    }
}

/// Begins to read: an object that is missing or has changed is told here.
pub(super) async fn open(
    http: Arc<Http>,
    key: &[u8],
    object: String,
    range: Range<u64>,
    expected: &Expected,
) -> UfsResult<ByteStream> {
    let mut reading = Reading {
        http,
        key: key.to_vec(),
        object,
        expected: expected.clone(),
        position: range.start,
        end: range.end,
        body: None,
        fruitless: 0,
        pace: Pace::default(),
    };
    if range.is_empty() {
        reading.check_version().await?;
    } else {
        reading.body = Some(reading.request().await?);
    }
    let stream = futures::stream::try_unfold(reading, |mut reading| async move {
        let chunk = reading.next().await?;
        Ok(chunk.map(|chunk| (chunk, reading)))
    });
    Ok(stream.boxed())
}

impl Reading {
    fn at(&self) -> At<'_> {
        self.http.failures().at("read", &self.key)
    }

    /// No byte is wanted, but still of this version only.
    async fn check_version(&self) -> UfsResult<()> {
        let at = self.at();
        let call = Call::new(at, "HeadObject", Method::HEAD, Some(&self.object));
        let reply = self.http.fetch(call).await.map_err(|failed| self.refused(failed.error))?;
        let length = meta::content_length(&reply.headers).unwrap_or(0);
        self.compare(&reply, length)
    }

    /// Asks for what is left.
    async fn request(&self) -> UfsResult<ReplyBody> {
        let at = self.at();
        let range = format!("bytes={}-{}", self.position, self.end - 1);
        let call = Call::new(at, "GetObject", Method::GET, Some(&self.object)).tries_max(self.http.tries_max);
        let mut call = call.header("range", &range);
        if meta::is_condition(&self.expected.tag) {
            call = call.header("if-match", &encode::quoted(&self.expected.tag.0));
        }
        let reply = self.http.stream(call).await.map_err(|failed| self.refused(failed.error))?;
        let length = match (reply.status, meta::content_range(&reply.headers)) {
            (StatusCode::PARTIAL_CONTENT, Some((start, end, length))) => {
                // A shorter object shortens the range: that is told below as another version.
                if start != self.position || (end != self.end && length == self.expected.length) {
                    let detail = format!("the store sent bytes {start}..{end} for {}..{}", self.position, self.end);
                    return Err(at.fail(UfsError::Protocol, detail, ""));
                }
                length
            }
            // The whole object instead of the range: as good when it was asked for whole.
            (StatusCode::OK, _) if self.position == 0 => meta::content_length(&reply.headers).unwrap_or(self.end),
            (status, _) => {
                let detail = format!("the store answered a ranged read with {status}");
                return Err(at.fail(UfsError::Protocol, detail, ""));
            }
        };
        self.compare(&reply, length)?;
        Ok(reply.body)
    }

    /// The answer's own words decide: not every store heeds conditions.
    fn compare(&self, reply: &Reply, length: u64) -> UfsResult<()> {
        let found = meta::from_headers(&reply.headers, length).expected();
        if found == self.expected {
            return Ok(());
        }
        Err(self.at().changed(format!(
            "its version is {} of {} bytes, not {} of {} bytes",
            found.tag, found.length, self.expected.tag, self.expected.length
        )))
    }

    fn refused(&self, error: super::answer::CallError) -> UfsError {
        let at = self.at();
        match error.refusal() {
            Some(refusal) if refusal.is_missing_key() => at.not_found(),
            Some(refusal) if is_other_version(refusal) => {
                at.changed(format!("its version is no longer {}", self.expected.tag))
            }
            _ => error.general(at),
        }
    }

    /// The next chunk; `None` after the last byte.
    async fn next(&mut self) -> UfsResult<Option<Bytes>> {
        while self.position < self.end {
            let body = match self.body.take() {
                Some(body) => body,
                None => self.request().await?,
            };
            let ReplyBody::Stream(mut response, permit) = body else {
                return Err(self.at().fail(UfsError::Protocol, "the answer has no body", ""));
            };
            let stall = self.http.config.stall_timeout;
            let begun = Instant::now();
            let broken = match tokio::time::timeout(stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    if self.pace.is_slow(begun.elapsed(), chunk.len(), stall) {
                        // These bytes are good; the next ones are asked for anew.
                        self.give_up_slow()?;
                        return self.accept(chunk).map(Some);
                    }
                    self.body = Some(ReplyBody::Stream(response, permit));
                    if chunk.is_empty() {
                        continue;
                    }
                    self.fruitless = 0;
                    return self.accept(chunk).map(Some);
                }
                Ok(Ok(None)) => "the body ended early".to_owned(),
                Ok(Err(error)) => super::tls::describe(&error.without_url()),
                Err(_) => format!("the store was silent for {stall:?}"),
            };
            drop((response, permit));
            self.resume(broken).await?;
        }
        Ok(None)
    }

    /// Notes that an answer is left for being slow; an error when the ones before it were as well.
    fn give_up_slow(&self) -> UfsResult<()> {
        let tries_max = self.http.tries_max;
        if self.pace.slow >= tries_max {
            let detail = format!(
                "the store sends less than {RATE_MIN} bytes a second, {tries_max} times at byte {}",
                self.position
            );
            return Err(self.at().fail(UfsError::Unavailable, detail, "look at the line to the store"));
        }
        tracing::debug!(key = %String::from_utf8_lossy(&self.key), position = self.position, "leaving a slow answer");
        metrics::counter!(crate::metered::RESUMED_READS, "store" => self.http.config.uri.clone()).increment(1);
        Ok(())
    }

    fn accept(&mut self, mut chunk: Bytes) -> UfsResult<Bytes> {
        let left = self.end - self.position;
        if chunk.len() as u64 > left {
            // Only a store that sent the whole object for a part of it does so.
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.position += chunk.len() as u64;
        Ok(chunk)
    }

    /// Waits before the next attempt, or gives up.
    async fn resume(&mut self, broken: String) -> UfsResult<()> {
        self.fruitless += 1;
        let tries_max = self.http.tries_max;
        if self.fruitless >= tries_max {
            let detail = format!("{broken}, {tries_max} times at byte {}", self.position);
            return Err(self.at().fail(UfsError::Unavailable, detail, "try again later"));
        }
        tracing::debug!(key = %String::from_utf8_lossy(&self.key), position = self.position, broken, "resuming a read");
        metrics::counter!(crate::metered::RESUMED_READS, "store" => self.http.config.uri.clone()).increment(1);
        tokio::time::sleep(pause(PAUSE_FIRST, self.fruitless)).await;
        Ok(())
    }
}

fn is_other_version(refusal: &Refusal) -> bool {
    refusal.is_failed_condition() || refusal.status == StatusCode::RANGE_NOT_SATISFIABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_what_is_slow_for_a_whole_stretch() {
        let (second, stretch) = (Duration::from_secs(1), Duration::from_secs(10));
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert!(!pace.is_slow(second, RATE_MIN as usize, stretch), "just fast enough");
            assert!(!pace.is_slow(Duration::ZERO, 0, stretch), "time that nobody waits does not count");
        }
        let slow = (0..40).filter(|_| pace.is_slow(second, RATE_MIN as usize - 1, stretch)).count();
        assert_eq!((slow, pace.slow), (4, 4));
        for _ in 0..9 {
            assert!(!pace.is_slow(second, 0, stretch));
        }
        assert!(!pace.is_slow(second, 10 * RATE_MIN as usize, stretch), "a pause that is made up for");
        assert_eq!(pace.slow, 0);
    }
}
