//! What answers say of an object.

use super::{encode, time};
use crate::{ObjectKind, ObjectMeta};
use forebay_base::VersionTag;
use http::HeaderMap;

/// What tags begin with that we made ourselves, for stores that give none. No ETag does.
const MADE: char = '~';

/// The tag of an object: its ETag, or one made of time and length. Times have whole seconds in headers and more in listings.
pub(super) fn tag(etag: &str, modified_ms: u64, length: u64) -> VersionTag {
    match encode::unquoted(etag) {
        "" => VersionTag(format!("{MADE}{}-{length}", modified_ms / 1000)),
        etag => VersionTag(etag.to_owned()),
    }
}

/// Whether the store knows the tag, so that it can be the condition of a request: not if we made it, and not if it is weak (RFC 9110, 13.1.1).
pub(super) fn is_condition(tag: &VersionTag) -> bool {
    !tag.0.starts_with(MADE) && !tag.0.starts_with("W/") && !tag.is_unknown()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// When the answer was made by the store's clock: the best that is known of an object just written.
pub(super) fn answered_ms(headers: &HeaderMap) -> u64 {
    time::http_ms(text(headers, "date")).unwrap_or(0)
}

/// The object that the headers of HEAD or GET describe, its length given.
pub(super) fn from_headers(headers: &HeaderMap, length: u64) -> ObjectMeta {
    let modified_ms = time::http_ms(text(headers, "last-modified")).unwrap_or(0);
    ObjectMeta { kind: ObjectKind::File, length, modified_ms, tag: tag(text(headers, "etag"), modified_ms, length) }
}

/// The `Content-Length` of an answer.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-length").parse().ok()
}

/// `Content-Range: bytes 5-9/20` as start, end (exclusive) and whole length.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let range = text(headers, "content-range").strip_prefix("bytes ")?;
    let (range, length) = range.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_made_where_the_store_gives_none() {
        assert_eq!(tag("\"abc\"", 5, 6).0, "abc");
        assert_eq!(tag("", 5999, 6).0, "~5-6");
        assert_eq!(tag("\"\"", 5000, 6).0, "~5-6");
        assert!(is_condition(&VersionTag("abc-2".into())));
        assert!(!is_condition(&VersionTag("~5-6".into())));
        assert!(!is_condition(&VersionTag("W/\"abc\"".into())));
    }

    #[test]
    fn ranges_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert("content-range", "bytes 5-9/20".parse().expect("value"));
        assert_eq!(content_range(&headers), Some((5, 10, 20)));
        headers.insert("content-range", "bytes */20".parse().expect("value"));
        assert_eq!(content_range(&headers), None);
    }
}
