//! Ranges of keys.

use bytes::Bytes;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Backward,
}

/// The keys from `start` (inclusive) to `end` (exclusive). May be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: None }
    }

    /// From `start` to before `end`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let start = prefix.into();
        let end = prefix_end(&start);
        KeyRange { start, end }
    }

    /// Only those keys of this range that are greater than `key`: how a scan goes on after its last key.
    pub fn after(self, key: &[u8]) -> KeyRange {
        let mut next = Vec::with_capacity(key.len() + 1);
        next.extend_from_slice(key);
        next.push(0);
        self.from(&next)
    }

    /// Only those keys of this range that are `key` or greater.
    pub fn from(self, key: &[u8]) -> KeyRange {
        let start = if key > &self.start[..] { Bytes::copy_from_slice(key) } else { self.start };
        KeyRange { start, end: self.end }
    }

    /// Only those keys of this range that are less than `key`.
    pub fn before(self, key: &[u8]) -> KeyRange {
        let end = match self.end {
            Some(end) if &end[..] <= key => end,
            _ => Bytes::copy_from_slice(key),
        };
        KeyRange { start: self.start, end: Some(end) }
    }

    /// The first key that may be in the range.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key past the range; none when it is open.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// The smallest key greater than all that start with `prefix`; none when there is no such key.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> KeyRange {
        KeyRange::new(start.to_owned(), end.to_owned())
    }

    #[test]
    fn prefix_holds_what_starts_with_it() {
        let of_a = KeyRange::prefix(&b"a"[..]);
        for (key, inside) in [(&b"a"[..], true), (b"a\xff\xff", true), (b"b", false), (b"", false)] {
            assert_eq!(of_a.contains(key), inside, "{key:?}");
        }
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).end(), None);
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]).end(), Some(&b"b"[..]));
        assert_eq!(KeyRange::prefix(&b""[..]), KeyRange::all());
    }

    #[test]
    fn narrows_and_never_widens() {
        assert_eq!(range("b", "d").after(b"a"), range("b", "d"));
        assert_eq!(range("b", "d").after(b"c"), range("c\0", "d"));
        assert_eq!(range("b", "d").from(b"c"), range("c", "d"));
        assert_eq!(range("b", "d").before(b"c"), range("b", "c"));
        assert_eq!(range("b", "d").before(b"e"), range("b", "d"));
        assert!(range("b", "d").after(b"d").is_empty());
        assert!(!KeyRange::all().is_empty());
    }
}
