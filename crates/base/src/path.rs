//! Paths of the namespace: absolute, normalised, any bytes but `/` and NUL.

use bytes::Bytes;
use std::fmt;

/// The longest name of one entry, in bytes (POSIX `NAME_MAX` on Linux).
pub const NAME_LEN_MAX: usize = 255;
/// The longest path, in bytes (POSIX `PATH_MAX` on Linux, less its terminating NUL).
pub const PATH_LEN_MAX: usize = 4095;

/// Why bytes are no path or name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with `/`.
    #[error("path {0:?} is not absolute: it must start with /")]
    NotAbsolute(String),
    /// A name is empty, `.` or `..`, or holds `/` or NUL.
    #[error("{0:?} cannot be a name: it may not be empty, '.' or '..', nor hold '/' or a NUL byte")]
    BadName(String),
    /// A name is longer than [`NAME_LEN_MAX`].
    #[error("name of {len} bytes is too long: at most 255 bytes are allowed ({start:?}…)")]
    NameTooLong {
        /// Its length in bytes.
        len: usize,
        /// How it starts.
        start: String,
    },
    /// A path is longer than [`PATH_LEN_MAX`].
    #[error("path of {len} bytes is too long: at most 4095 bytes are allowed")]
    PathTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned()
}

/// The name of one entry in its directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Bytes);

impl Name {
    /// Checks and takes the bytes of a name.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Name, PathError> {
        let bytes = bytes.into();
        check_name(&bytes)?;
        Ok(Name(bytes))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the name, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.len() > NAME_LEN_MAX {
        return Err(PathError::NameTooLong { len: name.len(), start: lossy(name) });
    }
    match name {
        b"" | b"." | b".." => Err(PathError::BadName(lossy(name))),
        _ if name.iter().any(|b| matches!(b, b'/' | 0)) => Err(PathError::BadName(lossy(name))),
        _ => Ok(()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// An absolute path in normal form: `/`, or `/` before each name and none at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NsPath(Bytes);

impl NsPath {
    /// The root directory.
    pub fn root() -> NsPath {
        NsPath(Bytes::from_static(b"/"))
    }

    /// Checks and normalises: repeated and trailing slashes go, names are checked. `.` and `..` are
    /// refused, since a server cannot know what the caller's links meant.
    pub fn parse(bytes: &[u8]) -> Result<NsPath, PathError> {
        if bytes.first() != Some(&b'/') {
            return Err(PathError::NotAbsolute(lossy(bytes)));
        }
        let mut normal = Vec::with_capacity(bytes.len());
        for name in bytes.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            check_name(name)?;
            normal.push(b'/');
            normal.extend_from_slice(name);
        }
        if normal.len() > PATH_LEN_MAX {
            return Err(PathError::PathTooLong { len: normal.len() });
        }
        if normal.is_empty() {
            normal.push(b'/');
        }
        Ok(NsPath(normal.into()))
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the path, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The names from the root down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = Name> + '_ {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty()).map(|name| Name(self.0.slice_ref(name)))
    }

    /// The number of names; 0 for the root.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.iter().filter(|b| **b == b'/').count() }
    }

    /// The last name; none for the root.
    pub fn file_name(&self) -> Option<Name> {
        self.names().next_back()
    }

    /// The directory that holds this path; none for the root.
    pub fn parent(&self) -> Option<NsPath> {
        let slash = self.0.iter().rposition(|b| *b == b'/').filter(|_| !self.is_root())?;
        Some(if slash == 0 { NsPath::root() } else { NsPath(self.0.slice(..slash)) })
    }

    /// This path and one more name.
    pub fn join(&self, name: &Name) -> Result<NsPath, PathError> {
        let len = if self.is_root() { 0 } else { self.0.len() } + 1 + name.0.len();
        if len > PATH_LEN_MAX {
            return Err(PathError::PathTooLong { len });
        }
        let mut joined = Vec::with_capacity(len);
        if !self.is_root() {
            joined.extend_from_slice(&self.0);
        }
        joined.push(b'/');
        joined.extend_from_slice(&name.0);
        Ok(NsPath(joined.into()))
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &NsPath) -> bool {
        self.below(ancestor).is_some()
    }

    /// What follows `ancestor`, without a leading slash: empty for `ancestor` itself, none when
    /// this path is not below it.
    pub fn below(&self, ancestor: &NsPath) -> Option<&[u8]> {
        if ancestor.is_root() {
            return Some(&self.0[1..]);
        }
        match self.0.strip_prefix(ancestor.as_bytes())? {
            [] => Some(b""),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    /// The path and its ancestors, from the root down to the path itself.
    pub fn ancestors_and_self(&self) -> impl Iterator<Item = NsPath> + '_ {
        let ends = (1..self.0.len()).filter(|i| self.0[*i] == b'/').chain((!self.is_root()).then_some(self.0.len()));
        std::iter::once(NsPath::root()).chain(ends.map(|end| NsPath(self.0.slice(..end))))
    }
}

impl std::str::FromStr for NsPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        NsPath::parse(text.as_bytes())
    }
}

impl fmt::Display for NsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for NsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> NsPath {
        text.parse().unwrap()
    }

    #[test]
    fn normalises() {
        for (text, normal) in [("/", "/"), ("//", "/"), ("/a/", "/a"), ("//a///b", "/a/b"), ("/a b/ü", "/a b/ü")] {
            assert_eq!(path(text).to_string(), normal);
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        for bytes in [&b""[..], b"a", b"./a", b"/a/./b", b"/a/..", b"/a\0b"] {
            assert!(NsPath::parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(NsPath::parse(format!("/{}", "x".repeat(256)).as_bytes()).is_err());
        assert!(NsPath::parse("/x".repeat(2048).as_bytes()).is_err());
        assert!(NsPath::parse("/x".repeat(2047).as_bytes()).is_ok());
    }

    #[test]
    fn takes_any_bytes_in_names() {
        let odd = NsPath::parse(b"/\xff\xfe/%2F").unwrap();
        assert_eq!(
            odd.names().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>(),
            [b"\xff\xfe".to_vec(), b"%2F".to_vec()]
        );
    }

    #[test]
    fn walks_up_and_down() {
        let deep = path("/a/b/c");
        assert_eq!(deep.depth(), 3);
        assert_eq!(deep.parent(), Some(path("/a/b")));
        assert_eq!(path("/a").parent(), Some(NsPath::root()));
        assert_eq!(NsPath::root().parent(), None);
        assert_eq!(NsPath::root().depth(), 0);
        assert_eq!(deep.parent().unwrap().join(&deep.file_name().unwrap()).unwrap(), deep);
        let all: Vec<_> = deep.ancestors_and_self().map(|p| p.to_string()).collect();
        assert_eq!(all, ["/", "/a", "/a/b", "/a/b/c"]);
        assert_eq!(NsPath::root().ancestors_and_self().count(), 1);
    }

    #[test]
    fn knows_what_lies_below() {
        assert_eq!(path("/a/b").below(&path("/a")), Some(&b"b"[..]));
        assert_eq!(path("/a").below(&path("/a")), Some(&b""[..]));
        assert_eq!(path("/ab").below(&path("/a")), None);
        assert_eq!(path("/ab").below(&NsPath::root()), Some(&b"ab"[..]));
    }
}
