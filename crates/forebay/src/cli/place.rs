//! Where a command reads or writes: the tree, or the local file system.
//!
//! `/lake/x` is a path of the tree. `file:/tmp/x`, `file:x` and every path that does not start with `/` (`./x`, `x`) are local.

use anyhow::Context;
use forebay_base::NsPath;
use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A place that a command was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A path, or a glob pattern, of the tree: not normalised yet, any bytes.
    Tree(Vec<u8>),
    /// A file or directory of this machine.
    Local(PathBuf),
}

impl Place {
    /// Reads what the user typed.
    pub(crate) fn parse(text: &OsStr) -> Place {
        let bytes = text.as_bytes();
        if let Some(local) = bytes.strip_prefix(b"file:") {
            // RFC 8089 writes file:///tmp/x; the empty host goes.
            let local = if local.starts_with(b"///") { &local[2..] } else { local };
            return Place::Local(Path::new(OsStr::from_bytes(local)).to_path_buf());
        }
        if bytes.starts_with(b"/") { Place::Tree(bytes.to_vec()) } else { Place::Local(PathBuf::from(text)) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tree(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Place::Local(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// A path of the tree from an argument.
pub(crate) fn tree_path(text: &OsStr) -> anyhow::Result<NsPath> {
    match Place::parse(text) {
        Place::Tree(bytes) => Ok(NsPath::parse(&bytes)?),
        Place::Local(path) => Err(forebay_base::PathError::NotAbsolute(path.display().to_string()))
            .context("this command takes paths of the tree, such as /lake/x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Place) {
        assert_eq!(Place::parse(OsStr::new(text)), expected, "{text}");
    }

    #[test]
    fn tells_tree_from_local() {
        check("/lake/x", Place::Tree(b"/lake/x".to_vec()));
        check("x", Place::Local("x".into()));
        check("./x", Place::Local("./x".into()));
        check("file:/tmp/x", Place::Local("/tmp/x".into()));
        check("file:///tmp/x", Place::Local("/tmp/x".into()));
        check("file:x", Place::Local("x".into()));
    }
}
