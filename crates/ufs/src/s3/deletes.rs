//! Deleting: many keys in one request where that is safe, else one by one, several at the same time.
//!
//! The version that may go is sent along (If-Match, or an ETag beside the key), which stores compare or ignore. Who ignores it has been asked
//! directly before, by HEAD or by the caller's listing.

use super::answer::Refusal;
use super::http::{Call, Failed, Http};
use super::{encode, meta, objects, wire};
use crate::failure::At;
use crate::{DeleteCondition, UfsError, UfsResult};
use bytes::Bytes;
use forebay_base::VersionTag;
use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use md5::{Digest, Md5};

/// Requests at the same time for the keys of one batch that go one by one.
const AT_ONCE: usize = 16;

/// A key that is to go.
pub(super) struct Doomed<'a> {
    pub(super) at: At<'a>,
    pub(super) key: String,
    pub(super) condition: &'a DeleteCondition,
}

impl Doomed<'_> {
    /// The version that may go, when the store can be told.
    fn etag(&self) -> Option<&VersionTag> {
        match self.condition {
            DeleteCondition::None => None,
            DeleteCondition::IfTag(tag) | DeleteCondition::IfListed(tag) => {
                Some(tag).filter(|tag| meta::is_condition(tag))
            }
        }
    }

    fn changed(&self) -> UfsError {
        self.at.changed("it is another version than the one to delete")
    }

    /// The key and its ETag for XML, unless readers on the other side may change the key.
    fn written(&self, with_etag: bool) -> Option<wire::Deletion> {
        let key = (self.key.trim() == self.key).then(|| encode::xml(&self.key)).flatten()?;
        let etag = self.etag().filter(|_| with_etag).and_then(|tag| encode::xml(&encode::quoted(&tag.0)));
        Some(wire::Deletion { key, etag })
    }
}

/// Deletes up to 1,000 keys; the answers in their order.
pub(super) async fn run(http: &Http, targets: &[Doomed<'_>]) -> Vec<UfsResult<()>> {
    let asks_first = targets.iter().any(|target| matches!(target.condition, DeleteCondition::IfTag(_)));
    if targets.len() > 1 && !asks_first {
        for with_etags in [true, false] {
            let written: Option<Vec<_>> = targets.iter().map(|target| target.written(with_etags)).collect();
            let Some(written) = written else { break };
            match batch(http, targets, &written).await {
                Ok(results) => return results,
                // Some do not know ETags beside keys.
                Err(failed) if with_etags && is_misunderstood(&failed) => {}
                Err(failed) if is_unsupported(&failed) => break,
                Err(failed) => {
                    return targets.iter().map(|target| Err(failed.error.clone().general(target.at))).collect();
                }
            }
        }
    }
    let singles = targets.iter().map(|target| one(http, target));
    stream::iter(singles.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
}

fn is_unsupported(failed: &Failed) -> bool {
    failed.refusal().is_some_and(|refusal| matches!(refusal.status.as_u16(), 405 | 501))
}

fn is_misunderstood(failed: &Failed) -> bool {
    failed.refusal().is_some_and(|refusal| refusal.is("MalformedXML") || refusal.status == StatusCode::NOT_IMPLEMENTED)
}

/// Deletes one key.
async fn one(http: &Http, target: &Doomed<'_>) -> UfsResult<()> {
    let (at, key) = (target.at, target.key.as_str());
    if let DeleteCondition::IfTag(tag) = target.condition {
        match objects::head(http, at, key).await? {
            None => return Ok(()),
            Some(found) if found.tag != *tag => return Err(target.changed()),
            Some(_) => {}
        }
    }
    let call = Call::new(at, "DeleteObject", Method::DELETE, Some(key));
    let call = match target.etag() {
        Some(tag) => call.header("if-match", &encode::quoted(&tag.0)),
        None => call,
    };
    let Err(failed) = http.fetch(call).await else {
        return Ok(());
    };
    let refusal = failed.refusal();
    if refusal.is_some_and(Refusal::is_missing_key) {
        // Some stores say so when two clients delete at once; S3 does not.
        return Ok(());
    }
    if refusal.is_some_and(Refusal::is_failed_condition) {
        // An earlier attempt whose answer was lost may have taken effect.
        let found = objects::head(http, at, key).await?;
        return found.map_or(Ok(()), |_| Err(target.changed()));
    }
    if target.etag().is_some() && is_unsupported(&failed) {
        let plain = http.fetch(Call::new(at, "DeleteObject", Method::DELETE, Some(key))).await;
        return plain.map(|_| ()).map_err(|failed| failed.general(at));
    }
    Err(failed.general(at))
}

async fn batch(http: &Http, targets: &[Doomed<'_>], written: &[wire::Deletion]) -> Result<Vec<UfsResult<()>>, Failed> {
    use base64::Engine;
    let at = targets[0].at;
    let body = Bytes::from(wire::delete(written));
    let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(&body));
    let call = Call::new(at, "DeleteObjects", Method::POST, None)
        .query("delete", "")
        .header("content-md5", &md5)
        .header("content-type", "application/xml")
        .body(vec![body]);
    let reply = http.fetch(call).await?;
    let answer: wire::Deletions = match reply.xml(at) {
        Ok(answer) => answer,
        Err(error) => {
            return Ok(targets.iter().map(|_| Err(error.clone())).collect());
        }
    };
    let result = |target: &Doomed<'_>| {
        if let Some(error) = answer.error.iter().find(|error| error.key == target.key) {
            return refused(target, error);
        }
        match answer.deleted.iter().any(|deleted| deleted.key == target.key) {
            true => Ok(()),
            false => Err(target.at.fail(UfsError::Protocol, "the store does not say whether it is deleted", "")),
        }
    };
    Ok(targets.iter().map(result).collect())
}

fn refused(target: &Doomed<'_>, error: &wire::DeleteError) -> UfsResult<()> {
    let status = match error.code.as_str() {
        "NoSuchKey" => return Ok(()),
        "PreconditionFailed" => return Err(target.changed()),
        "AccessDenied" => StatusCode::FORBIDDEN,
        "InternalError" | "SlowDown" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let refusal = Refusal { status, code: error.code.clone(), message: error.message.clone(), region: None };
    Err(refusal.general(target.at))
}
