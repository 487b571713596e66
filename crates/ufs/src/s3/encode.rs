//! How keys and values are written in URLs, headers and XML.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// What SigV4 calls the unreserved characters stays; all others are encoded.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

/// A key as the path of a URL.
pub(super) fn path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// A query from names and values.
pub(super) fn query(pairs: &[(&str, Cow<'_, str>)]) -> String {
    let encoded: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, VALUE))).collect();
    encoded.join("&")
}

/// A key out of a listing with `encoding-type=url`: a space is `+` there.
pub(super) fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

/// Text inside an XML element. `None` when XML 1.0 has no way to write it.
pub(super) fn xml(text: &str) -> Option<String> {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => return None,
            other => escaped.push(other),
        }
    }
    Some(escaped)
}

/// A tag as the headers want it.
pub(super) fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// A tag without its quotes; a weak one keeps its mark, so that it equals no strong one.
pub(super) fn unquoted(etag: &str) -> &str {
    let etag = etag.trim();
    etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_there_and_back() {
        for key in ["a b+c%/é?#", "日本/😀", "tab\tnl\n", "~-._!'()*"] {
            assert_eq!(decode(&path(key)).as_deref(), Some(key));
        }
        assert_eq!(decode("a+b%2Bc").as_deref(), Some("a b+c"));
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn tags_lose_their_quotes() {
        assert_eq!(unquoted("\"abc-2\""), "abc-2");
        assert_eq!(unquoted("abc"), "abc");
        assert_eq!(unquoted("W/\"abc\""), "W/\"abc\"");
        assert_eq!(unquoted("\""), "\"");
    }

    #[test]
    fn xml_refuses_what_it_cannot_say() {
        assert_eq!(xml("a<b>&\"é").as_deref(), Some("a&lt;b&gt;&amp;&quot;é"));
        assert_eq!(xml("a\u{1}"), None);
    }
}
