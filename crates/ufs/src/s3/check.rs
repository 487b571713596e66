//! Whether a store answers and lets us work, with an error that says which of the steps failed.

use super::answer::Refusal;
use super::http::{Call, Http};
use super::{body, listing};
use crate::failure::At;
use crate::{Access, UfsError, UfsResult};
use bytes::Bytes;
use http::Method;

/// Somebody waits for the answer: one more try is enough.
const TRIES: u32 = 2;
/// What the probe's body says to who finds it.
const PROBE: &[u8] = b"written by forebay to see whether it may; remove it";

/// Lists, and with write access also writes, writes on a condition, and deletes.
pub(super) async fn run(http: &Http, access: Access) -> UfsResult<()> {
    let at = http.failures().at("list", b"");
    listing::has_any_within(http, at, &http.config.prefix, TRIES)
        .await
        .map_err(|error| explain(error, "the credentials may not list the bucket (s3:ListBucket)"))?;
    if access == Access::Read {
        return Ok(());
    }
    let name = format!(".forebay-probe-{:016x}", rand::random::<u64>());
    let key = format!("{}{name}", http.config.prefix);
    let at = http.failures().at("write", name.as_bytes());
    put(http, at, &key, false).await.map_err(|error| {
        explain(error, "the credentials may not write (s3:PutObject); or mount it with --read-only")
    })?;
    let condition = check_condition(http, at, &key).await;
    let at = http.failures().at("delete", name.as_bytes());
    let call = Call::new(at, "DeleteObject", Method::DELETE, Some(&key)).tries_max(TRIES);
    let deleted = http.fetch(call).await.map_err(|failed| {
        explain(failed.general(at), "the credentials may not delete (s3:DeleteObject); or mount it with --read-only")
    });
    condition?;
    deleted.map(|_| ())
}

async fn put(http: &Http, at: At<'_>, key: &str, only_if_absent: bool) -> UfsResult<Option<Refusal>> {
    let chunks = vec![Bytes::from_static(PROBE)];
    let mut call = Call::new(at, "PutObject", Method::PUT, Some(key)).tries_max(TRIES);
    if http.config.checksums {
        call = call.header("x-amz-checksum-crc32c", &body::crc32c(&chunks));
    }
    if only_if_absent {
        call = call.header("if-none-match", "*");
    }
    match http.fetch(call.body(chunks)).await {
        Ok(_) => Ok(None),
        Err(failed) => match failed.refusal() {
            Some(refusal) if only_if_absent => Ok(Some(refusal.clone())),
            _ => Err(failed.general(at)),
        },
    }
}

/// The probe is there: creating it again must be refused, or two writers would both believe that they made a file.
async fn check_condition(http: &Http, at: At<'_>, key: &str) -> UfsResult<()> {
    if !http.config.conditional_writes {
        return Ok(());
    }
    match put(http, at, key, true).await? {
        Some(refusal) if refusal.is_failed_condition() => Ok(()),
        _ => Err(at.fail(
            UfsError::Unsupported,
            "the store does not heed If-None-Match",
            "set the option conditional_writes=false: conditions are then checked just before writing",
        )),
    }
}

/// Adds what the credentials miss to a refusal.
fn explain(error: UfsError, missing: &str) -> UfsError {
    match error {
        UfsError::Denied(mut failure) if failure.detail.starts_with("access denied") => {
            failure.hint = missing.to_owned();
            UfsError::Denied(failure)
        }
        other => other,
    }
}
