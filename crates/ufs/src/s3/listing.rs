//! One page of a directory: ListObjectsV2 with a delimiter.

use super::http::{Call, Http};
use super::wire::{Contents, ListObjects};
use super::{encode, meta, objects, time};
use crate::failure::At;
use crate::object_tree::{RawPage, Row};
use crate::{ListCursor, ObjectKind, ObjectMeta, UfsError, UfsResult};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;

/// Most rows that S3 gives in one page.
const PAGE_LEN_MAX: usize = 1000;
/// Requests at the same time for objects that a listing says too little of.
const HEADS_AT_ONCE: usize = 16;

/// Asks for the rows below `prefix` (a whole key, empty or with a slash at the end).
pub(super) async fn page(
    http: &Http,
    at: At<'_>,
    prefix: &str,
    from: Option<&ListCursor>,
    limit: usize,
) -> UfsResult<RawPage> {
    let limit = limit.clamp(1, PAGE_LEN_MAX);
    let call = Call::new(at, "ListObjectsV2", Method::GET, None)
        .query("list-type", "2")
        .query("delimiter", "/")
        .query("encoding-type", "url")
        .query("max-keys", limit.to_string())
        .query("prefix", prefix);
    let call = match from {
        Some(ListCursor { token: Some(token), .. }) => call.query("continuation-token", token.as_str()),
        Some(cursor) if !cursor.after.0.is_empty() => call.query("start-after", start_after(at, prefix, cursor)?),
        _ => call,
    };
    let reply = http.fetch(call).await.map_err(|failed| failed.general(at))?;
    let answer: ListObjects = reply.xml(at)?;
    if answer.is_truncated && answer.next_continuation_token.is_none() {
        return Err(at.fail(UfsError::Protocol, "the listing goes on, but does not say where", ""));
    }
    rows(http, at, prefix, answer).await
}

/// The key to go on behind. Behind a directory lies everything below it: the last character that a name can begin with stands for that.
fn start_after(at: At<'_>, prefix: &str, cursor: &ListCursor) -> UfsResult<String> {
    let place = std::str::from_utf8(&cursor.after.0)
        .map_err(|_| at.invalid("names in S3 are UTF-8, the place to go on from is not"))?;
    let last = if place.ends_with('/') { "\u{10ffff}" } else { "" };
    Ok(format!("{prefix}{place}{last}"))
}

async fn rows(http: &Http, at: At<'_>, prefix: &str, answer: ListObjects) -> UfsResult<RawPage> {
    let encoded = answer.encoding_type.as_deref() == Some("url");
    let name = |key: String| -> UfsResult<Bytes> {
        let key = match encoded {
            true => encode::decode(&key),
            false => Some(key),
        };
        // A store that lists keys outside of the prefix is broken, and would lead us astray.
        let name = key.as_ref().and_then(|key| key.strip_prefix(prefix));
        let name = name.map(|name| Bytes::copy_from_slice(name.as_bytes()));
        name.ok_or_else(|| at.fail(UfsError::Protocol, format!("the listing holds {key:?}"), ""))
    };
    let mut rows = Vec::with_capacity(answer.contents.len() + answer.common_prefixes.len());
    let mut unknown = Vec::new();
    for mut contents in answer.contents {
        let name = name(std::mem::take(&mut contents.key))?;
        match object(&contents) {
            Some(meta) => rows.push(Row::Object(name, meta)),
            None => unknown.push(name),
        }
    }
    for group in answer.common_prefixes {
        let name = name(group.prefix)?;
        rows.push(Row::Prefix(name.slice(..name.len().saturating_sub(1))));
    }
    let known: Vec<Option<Row>> = stream::iter(unknown.into_iter().map(|name| ask(http, at, prefix, name)))
        .buffered(HEADS_AT_ONCE)
        .try_collect()
        .await?;
    rows.extend(known.into_iter().flatten());
    Ok(RawPage { rows, more: answer.is_truncated, token: answer.next_continuation_token })
}

/// What a listing says of an object; `None` when it does not name its version.
fn object(contents: &Contents) -> Option<ObjectMeta> {
    if encode::unquoted(&contents.etag).is_empty() {
        return None;
    }
    let modified_ms = time::iso_ms(&contents.last_modified).unwrap_or(0);
    Some(ObjectMeta {
        kind: ObjectKind::File,
        length: contents.size,
        modified_ms,
        tag: meta::tag(&contents.etag, modified_ms, contents.size),
    })
}

/// Asks for an object by itself; `None` when it is gone by now.
async fn ask(http: &Http, at: At<'_>, prefix: &str, name: Bytes) -> UfsResult<Option<Row>> {
    let key = format!("{prefix}{}", String::from_utf8_lossy(&name));
    let found = objects::head(http, at, &key).await?;
    Ok(found.map(|meta| Row::Object(name, meta)))
}

/// Whether any key begins with `prefix`.
pub(super) async fn has_any(http: &Http, at: At<'_>, prefix: &str) -> UfsResult<bool> {
    has_any_within(http, at, prefix, super::http::TRIES_MAX).await
}

/// The same, with few attempts.
pub(super) async fn has_any_within(http: &Http, at: At<'_>, prefix: &str, tries: u32) -> UfsResult<bool> {
    let call = Call::new(at, "ListObjectsV2", Method::GET, None)
        .query("list-type", "2")
        .query("max-keys", "1")
        .query("prefix", prefix)
        .tries_max(tries);
    let reply = http.fetch(call).await.map_err(|failed| failed.general(at))?;
    let answer: ListObjects = reply.xml(at)?;
    Ok(!answer.contents.is_empty() || !answer.common_prefixes.is_empty())
}
