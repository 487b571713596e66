//! Objects sent in parts: multipart uploads by their ids.

use super::http::{Call, Http};
use super::objects::{self, Source, condition_error, written};
use super::wire::{Initiated, ListUploads, Made};
use super::{body, encode, time, wire};
use crate::failure::At;
use crate::{
    ObjectMeta, PendingUpload, PendingUploads, PutCondition, UfsError, UfsResult, UploadCursor, UploadId, UploadedPart,
};
use bytes::Bytes;
use forebay_base::VersionTag;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use md5::{Digest, Md5};
use std::time::Duration;

/// Between a part's ETag and its CRC32C in its tag.
const CRC32C: &str = ";crc32c=";
/// Parts of one copy that the store copies at the same time.
const COPIES_AT_ONCE: usize = 4;
/// A store copies at least so many bytes a second.
const COPY_RATE_MIN: u64 = 8 << 20;
/// Completing takes a store longer than other requests.
const COMPLETE_PATIENCE: Duration = Duration::from_secs(60);

/// Begins an upload whose parts carry their checksums, if the store takes them.
pub(super) async fn begin(http: &Http, at: At<'_>, key: &str) -> UfsResult<UploadId> {
    let call = Call::new(at, "CreateMultipartUpload", Method::POST, Some(key)).query("uploads", "");
    let call = match http.config.checksums {
        true => call.header("x-amz-checksum-algorithm", "CRC32C"),
        false => call,
    };
    send_begin(http, call).await
}

async fn send_begin(http: &Http, call: Call<'_>) -> UfsResult<UploadId> {
    let at = call.at;
    let reply = http.fetch(call).await.map_err(|failed| failed.general(at))?;
    let answer: Initiated = reply.xml(at)?;
    match answer.upload_id.as_str() {
        "" => Err(at.fail(UfsError::Protocol, "the store did not name the upload", "")),
        _ => Ok(UploadId(answer.upload_id)),
    }
}

/// Stores one part.
pub(super) async fn put_part(
    http: &Http,
    at: At<'_>,
    key: &str,
    upload: &UploadId,
    number: u32,
    chunks: Vec<Bytes>,
) -> UfsResult<UploadedPart> {
    let length = body::length(&chunks);
    let crc32c = http.config.checksums.then(|| body::crc32c(&chunks));
    let mut call = Call::new(at, "UploadPart", Method::PUT, Some(key))
        .query("partNumber", number.to_string())
        .query("uploadId", upload.0.as_str())
        .body(chunks);
    if let Some(crc32c) = &crc32c {
        call = call.header("x-amz-checksum-crc32c", crc32c);
    }
    let reply = http.fetch(call).await.map_err(|failed| failed.general(at))?;
    let etag = reply.header("etag").unwrap_or_default();
    uploaded(at, number, length, etag, crc32c.as_deref())
}

fn uploaded(at: At<'_>, number: u32, length: u64, etag: &str, crc32c: Option<&str>) -> UfsResult<UploadedPart> {
    let etag = encode::unquoted(etag);
    if etag.is_empty() {
        return Err(at.fail(UfsError::Protocol, "the store gave no ETag for a part", ""));
    }
    let tag = match crc32c {
        Some(crc32c) => VersionTag(format!("{etag}{CRC32C}{crc32c}")),
        None => VersionTag(etag.to_owned()),
    };
    Ok(UploadedPart { number, length, tag })
}

fn etag_of(part: &UploadedPart) -> (&str, Option<&str>) {
    match part.tag.0.split_once(CRC32C) {
        Some((etag, crc32c)) => (etag, Some(crc32c)),
        None => (&part.tag.0, None),
    }
}

/// The ETag that S3 gives an object made of parts: the MD5 of the parts' MD5s, and their number. `None` when the parts' ETags are
/// no MD5s (encrypted with keys of KMS).
fn expected_tag(parts: &[UploadedPart]) -> Option<VersionTag> {
    let mut hash = Md5::new();
    for part in parts {
        let (etag, _) = etag_of(part);
        if etag.len() != 32 {
            return None;
        }
        for at in (0..32).step_by(2) {
            hash.update([u8::from_str_radix(etag.get(at..at + 2)?, 16).ok()?]);
        }
    }
    Some(VersionTag(format!("{}-{}", objects::hex(&hash.finalize()), parts.len())))
}

/// Makes the object out of its parts. A repeated call finds the upload gone and the object there with the tag that its parts give, and succeeds.
pub(super) async fn complete(
    http: &Http,
    at: At<'_>,
    key: &str,
    upload: &UploadId,
    parts: &[UploadedPart],
    condition: &PutCondition,
) -> UfsResult<ObjectMeta> {
    let length = parts.iter().map(|part| part.length).sum();
    let listed: Vec<(u32, &str, Option<&str>)> = parts
        .iter()
        .map(|part| {
            let (etag, crc32c) = etag_of(part);
            (part.number, etag, crc32c)
        })
        .collect();
    let call = Call::new(at, "CompleteMultipartUpload", Method::POST, Some(key))
        .query("uploadId", upload.0.as_str())
        .header("content-type", "application/xml")
        .patience(COMPLETE_PATIENCE)
        .body(vec![Bytes::from(wire::complete(&listed))]);
    let call = match objects::with_condition(http, call, key, condition).await {
        Ok(call) => call,
        Err(error) => return completed_before(http, at, key, upload, parts, error).await,
    };
    match http.fetch(call).await {
        Ok(reply) => {
            let made: Made = reply.xml(at)?;
            Ok(written(&reply, &made.etag, length))
        }
        Err(failed) => {
            // No answer at all: asking more questions would take as long again.
            let Some(refusal) = failed.refusal() else {
                return Err(failed.general(at));
            };
            let error = condition_error(at, refusal, condition).unwrap_or_else(|| refusal.general(at));
            completed_before(http, at, key, upload, parts, error).await
        }
    }
}

/// The object, when this upload has made it already; else the error. It has when the upload is gone and the object is the one that
/// its parts give: while the upload is there, an object of the same bytes is somebody else's.
async fn completed_before(
    http: &Http,
    at: At<'_>,
    key: &str,
    upload: &UploadId,
    parts: &[UploadedPart],
    error: UfsError,
) -> UfsResult<ObjectMeta> {
    let Some(expected) = expected_tag(parts) else {
        return Err(error);
    };
    let found = objects::head(http, at, key).await?.filter(|found| found.tag == expected);
    match found {
        Some(found) if is_gone(http, at, key, upload).await? => Ok(found),
        _ => Err(error),
    }
}

async fn is_gone(http: &Http, at: At<'_>, key: &str, upload: &UploadId) -> UfsResult<bool> {
    let call =
        Call::new(at, "ListParts", Method::GET, Some(key)).query("uploadId", upload.0.as_str()).query("max-parts", "1");
    match http.fetch(call).await {
        Ok(_) => Ok(false),
        Err(failed) => match failed.refusal() {
            Some(refusal) if refusal.status == http::StatusCode::NOT_FOUND => Ok(true),
            _ => Err(failed.general(at)),
        },
    }
}

/// Drops an upload.
pub(super) async fn abort(http: &Http, at: At<'_>, key: &str, upload: &UploadId) -> UfsResult<()> {
    let call = Call::new(at, "AbortMultipartUpload", Method::DELETE, Some(key)).query("uploadId", upload.0.as_str());
    match http.fetch(call).await {
        Ok(_) => Ok(()),
        Err(failed) => match failed.refusal() {
            Some(refusal) if refusal.is("NoSuchUpload") || refusal.is_missing_key() => Ok(()),
            _ => Err(failed.general(at)),
        },
    }
}

/// One page of the uploads below a whole prefix.
pub(super) async fn list(
    http: &Http,
    at: At<'_>,
    root: &str,
    prefix: &str,
    from: Option<&UploadCursor>,
    limit: usize,
) -> UfsResult<PendingUploads> {
    let mut call = Call::new(at, "ListMultipartUploads", Method::GET, None)
        .query("uploads", "")
        .query("encoding-type", "url")
        .query("max-uploads", limit.clamp(1, 1000).to_string())
        .query("prefix", prefix);
    if let Some(from) = from {
        call = call
            .query("key-marker", String::from_utf8_lossy(&from.key).into_owned())
            .query("upload-id-marker", from.upload.clone());
    }
    let reply = http.fetch(call).await.map_err(|failed| failed.general(at))?;
    let answer: ListUploads = reply.xml(at)?;
    let encoded = answer.encoding_type.as_deref() == Some("url");
    let decode = |key: &str| match encoded {
        true => encode::decode(key),
        false => Some(key.to_owned()),
    };
    let mut uploads = Vec::with_capacity(answer.upload.len());
    for upload in &answer.upload {
        let key = decode(&upload.key);
        let Some(key) = key.as_deref().and_then(|key| key.strip_prefix(root)) else {
            continue;
        };
        uploads.push(PendingUpload {
            key: Bytes::copy_from_slice(key.as_bytes()),
            upload: UploadId(upload.upload_id.clone()),
            begun_ms: time::iso_ms(&upload.initiated).unwrap_or(0),
        });
    }
    let next = next_cursor(at, &answer, decode)?;
    Ok(PendingUploads { uploads, next })
}

/// Where the listing goes on. Without a place it would begin anew for ever.
fn next_cursor(
    at: At<'_>,
    answer: &ListUploads,
    decode: impl Fn(&str) -> Option<String>,
) -> UfsResult<Option<UploadCursor>> {
    if !answer.is_truncated {
        return Ok(None);
    }
    let key = answer.next_key_marker.as_deref().and_then(decode).filter(|key| !key.is_empty());
    let key =
        key.ok_or_else(|| at.fail(UfsError::Protocol, "the listing of uploads goes on, but does not say where", ""))?;
    Ok(Some(UploadCursor { key: key.into_bytes(), upload: answer.next_upload_id_marker.clone().unwrap_or_default() }))
}

/// Copies an object in parts, several at a time; nothing is left of a copy that fails.
pub(super) async fn copy(
    http: &Http,
    source: &Source<'_>,
    at: At<'_>,
    key: &str,
    condition: &PutCondition,
) -> UfsResult<ObjectMeta> {
    source.check(http).await?;
    // Copied parts have no checksums that all stores tell (MinIO does not).
    let call = Call::new(at, "CreateMultipartUpload", Method::POST, Some(key)).query("uploads", "");
    let upload = send_begin(http, call).await?;
    let copied = copy_parts(http, source, at, key, &upload).await;
    let made = match copied {
        Ok(parts) => complete(http, at, key, &upload, &parts, condition).await,
        Err(error) => Err(error),
    };
    if made.is_err() {
        // The first error is the one to tell; an upload that stays is found by listing them.
        abort(http, at, key, &upload).await.ok();
    }
    made
}

async fn copy_parts(
    http: &Http,
    source: &Source<'_>,
    at: At<'_>,
    key: &str,
    upload: &UploadId,
) -> UfsResult<Vec<UploadedPart>> {
    let (length, part_len) = (source.expected.length, http.config.copy_part_len);
    let parts = (0..length.div_ceil(part_len)).map(|index| {
        let start = index * part_len;
        copy_part(http, source, at, key, upload, index, start..length.min(start + part_len))
    });
    stream::iter(parts.collect::<Vec<_>>()).buffered(COPIES_AT_ONCE).try_collect().await
}

async fn copy_part(
    http: &Http,
    source: &Source<'_>,
    at: At<'_>,
    key: &str,
    upload: &UploadId,
    index: u64,
    range: std::ops::Range<u64>,
) -> UfsResult<UploadedPart> {
    let number = u32::try_from(index + 1).map_err(|_| at.invalid("the object has too many parts"))?;
    let length = range.end - range.start;
    let call = Call::new(at, "UploadPartCopy", Method::PUT, Some(key))
        .query("partNumber", number.to_string())
        .query("uploadId", upload.0.as_str())
        .header("x-amz-copy-source-range", &format!("bytes={}-{}", range.start, range.end - 1))
        .patience(Duration::from_secs(length / COPY_RATE_MIN));
    match http.fetch(source.headers(http, call)).await {
        Ok(reply) => {
            let made: Made = reply.xml(at)?;
            uploaded(at, number, length, &made.etag, None)
        }
        Err(failed) => Err(failed
            .refusal()
            .filter(|refusal| !refusal.is("NoSuchUpload"))
            .and_then(|refusal| source.error(refusal))
            .unwrap_or_else(|| failed.general(at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failures;

    #[test]
    fn a_listing_that_goes_on_says_where() {
        let failures = Failures::new("s3://bucket");
        let next = |is_truncated, marker: Option<&str>| {
            let next_key_marker = marker.map(str::to_owned);
            let answer = ListUploads { is_truncated, next_key_marker, ..ListUploads::default() };
            next_cursor(failures.at("list", b""), &answer, |key| Some(key.to_owned()))
        };
        assert_eq!(next(false, None).expect("the end"), None);
        assert_eq!(next(true, Some("a/b")).expect("a place").expect("more").key, b"a/b");
        for nowhere in [None, Some("")] {
            assert!(matches!(next(true, nowhere), Err(UfsError::Protocol { .. })));
        }
    }

    fn part(number: u32, tag: &str) -> UploadedPart {
        UploadedPart { number, length: 1, tag: VersionTag(tag.to_owned()) }
    }

    #[test]
    fn the_tag_of_parts_is_known_beforehand() {
        // The MD5s of "a" and of "b", and the MD5 of both digests.
        let a = "0cc175b9c0f1b6a831c399e269772661;crc32c=wdBDMA==";
        let b = "92eb5ffee6ae2fec3ad71c777531578f";
        let tag = expected_tag(&[part(1, a), part(2, b)]).expect("a tag");
        assert_eq!(tag.0, "96e024ba2074fe77e8e965ba43a704be-2");
        assert_eq!(expected_tag(&[part(1, "opaque")]), None);
        assert_eq!(etag_of(&part(1, a)), ("0cc175b9c0f1b6a831c399e269772661", Some("wdBDMA==")));
    }
}
