//! Single objects: HEAD, PUT, COPY.

use super::answer::Refusal;
use super::http::{Call, Http, Reply};
use super::{body, encode, meta, wire};
use crate::failure::At;
use crate::{Expected, ObjectKind, ObjectMeta, PutCondition, UfsError, UfsResult};
use bytes::Bytes;
use forebay_base::VersionTag;
use http::Method;
use md5::{Digest, Md5};
use std::fmt::Write;
use std::time::Duration;

/// A store copies at least so many bytes a second.
const COPY_RATE_MIN: u64 = 8 << 20;

/// The object of exactly this key.
pub(super) async fn head(http: &Http, at: At<'_>, key: &str) -> UfsResult<Option<ObjectMeta>> {
    match http.fetch(Call::new(at, "HeadObject", Method::HEAD, Some(key))).await {
        Ok(reply) => {
            let length = meta::content_length(&reply.headers)
                .ok_or_else(|| at.fail(UfsError::Protocol, "the answer to HEAD has no Content-Length", ""))?;
            Ok(Some(meta::from_headers(&reply.headers, length)))
        }
        Err(failed) if failed.refusal().is_some_and(Refusal::is_missing_key) => Ok(None),
        Err(failed) => Err(failed.general(at)),
    }
}

/// The headers of a condition. One that the store cannot be told is checked here, just before.
pub(super) async fn with_condition<'a>(
    http: &Http,
    call: Call<'a>,
    key: &str,
    condition: &PutCondition,
) -> UfsResult<Call<'a>> {
    match condition {
        PutCondition::None => Ok(call),
        PutCondition::IfAbsent if http.config.conditional_writes => Ok(call.header("if-none-match", "*")),
        PutCondition::IfTag(tag) if http.config.conditional_writes && meta::is_condition(tag) => {
            Ok(call.header("if-match", &encode::quoted(&tag.0)))
        }
        _ => {
            check_condition(http, call.at, key, condition).await?;
            Ok(call)
        }
    }
}

/// Compares a condition with what is there now.
pub(super) async fn check_condition(http: &Http, at: At<'_>, key: &str, condition: &PutCondition) -> UfsResult<()> {
    if *condition == PutCondition::None {
        return Ok(());
    }
    match (head(http, at, key).await?, condition) {
        (Some(_), PutCondition::IfAbsent) => Err(at.exists()),
        (Some(found), PutCondition::IfTag(tag)) if found.tag != *tag => {
            Err(at.changed(format!("its version is {}, not {tag}", found.tag)))
        }
        (None, PutCondition::IfTag(tag)) => Err(at.changed(format!("it is gone; its version was {tag}"))),
        _ => Ok(()),
    }
}

/// The error of a write whose condition did not hold; `None` when that is not why it failed.
pub(super) fn condition_error(at: At<'_>, refusal: &Refusal, condition: &PutCondition) -> Option<UfsError> {
    match condition {
        PutCondition::IfAbsent if refusal.is_failed_condition() => Some(at.exists()),
        PutCondition::IfTag(tag) if refusal.is_failed_condition() => {
            Some(at.changed(format!("its version is no longer {tag}")))
        }
        PutCondition::IfTag(tag) if refusal.is_missing_key() => {
            Some(at.changed(format!("it is gone; its version was {tag}")))
        }
        _ => None,
    }
}

/// Writes an object at once.
pub(super) async fn put(
    http: &Http,
    at: At<'_>,
    key: &str,
    chunks: Vec<Bytes>,
    condition: &PutCondition,
) -> UfsResult<ObjectMeta> {
    let length = body::length(&chunks);
    let mut call = Call::new(at, "PutObject", Method::PUT, Some(key));
    if http.config.checksums {
        call = call.header("x-amz-checksum-crc32c", &body::crc32c(&chunks));
    }
    let call = with_condition(http, call.body(chunks.clone()), key, condition).await?;
    match http.fetch(call).await {
        Ok(reply) => Ok(written(&reply, reply.header("etag").unwrap_or_default(), length)),
        Err(failed) => {
            let refused = failed.refusal().and_then(|refusal| condition_error(at, refusal, condition));
            match refused {
                // The first attempt may have taken effect, its answer lost, and so have made the condition false.
                Some(error) if failed.repeated => own_write(http, at, key, &chunks).await?.ok_or(error),
                Some(error) => Err(error),
                None => Err(failed.general(at)),
            }
        }
    }
}

/// The object, when its bytes are those that were to be written.
async fn own_write(http: &Http, at: At<'_>, key: &str, chunks: &[Bytes]) -> UfsResult<Option<ObjectMeta>> {
    let mut hash = Md5::new();
    chunks.iter().for_each(|chunk| hash.update(chunk));
    let ours = VersionTag(hex(&hash.finalize()));
    let found = head(http, at, key).await?;
    Ok(found.filter(|found| found.tag == ours && found.length == body::length(chunks)))
}

/// An object just made: its time is the answer's.
pub(super) fn written(reply: &Reply, etag: &str, length: u64) -> ObjectMeta {
    let modified_ms = meta::answered_ms(&reply.headers);
    ObjectMeta { kind: ObjectKind::File, length, modified_ms, tag: meta::tag(etag, modified_ms, length) }
}

/// What is copied.
pub(super) struct Source<'a> {
    pub(super) at: At<'a>,
    pub(super) key: &'a str,
    pub(super) expected: &'a Expected,
}

impl Source<'_> {
    /// The headers that name it and its version.
    pub(super) fn headers<'c>(&self, http: &Http, call: Call<'c>) -> Call<'c> {
        let path = format!("/{}/{}", http.config.bucket, encode::path(self.key));
        let call = call.header("x-amz-copy-source", &path);
        match meta::is_condition(&self.expected.tag) {
            true => call.header("x-amz-copy-source-if-match", &encode::quoted(&self.expected.tag.0)),
            false => call,
        }
    }

    /// The error when it is not there as expected; `None` when that is not why a copy failed.
    pub(super) fn error(&self, refusal: &Refusal) -> Option<UfsError> {
        if refusal.is_missing_key() {
            return Some(self.at.not_found());
        }
        refusal
            .is_failed_condition()
            .then(|| self.at.changed(format!("its version is no longer {}", self.expected.tag)))
    }

    /// Compares with what is there now: lengths cannot be a condition, and made tags neither.
    pub(super) async fn check(&self, http: &Http) -> UfsResult<()> {
        let found = head(http, self.at, self.key).await?.ok_or_else(|| self.at.not_found())?;
        match found.expected() == *self.expected {
            true => Ok(()),
            false => Err(self.at.changed(format!("its version is {}, not {}", found.tag, self.expected.tag))),
        }
    }
}

/// Copies an object in one request.
pub(super) async fn copy(
    http: &Http,
    source: &Source<'_>,
    at: At<'_>,
    key: &str,
    condition: &PutCondition,
) -> UfsResult<ObjectMeta> {
    source.check(http).await?;
    // Not every store heeds a condition on the target of a copy, so it is checked first in any case.
    check_condition(http, at, key, condition).await?;
    let length = source.expected.length;
    let call =
        Call::new(at, "CopyObject", Method::PUT, Some(key)).patience(Duration::from_secs(length / COPY_RATE_MIN));
    match http.fetch(source.headers(http, call)).await {
        Ok(reply) => {
            let made: wire::Made = reply.xml(at)?;
            Ok(written(&reply, &made.etag, length))
        }
        Err(failed) => {
            Err(failed.refusal().and_then(|refusal| source.error(refusal)).unwrap_or_else(|| failed.general(at)))
        }
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
