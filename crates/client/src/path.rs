//! What may be given as a path.

use forebay_base::{NsPath, PathError};

/// A path in the tree: text, bytes (names need not be UTF-8) or an [`NsPath`]. Must be absolute.
pub trait ToPath {
    /// Checks and normalises.
    fn to_path(&self) -> Result<NsPath, PathError>;
}

impl ToPath for NsPath {
    fn to_path(&self) -> Result<NsPath, PathError> {
        Ok(self.clone())
    }
}

impl ToPath for str {
    fn to_path(&self) -> Result<NsPath, PathError> {
        NsPath::parse(self.as_bytes())
    }
}

impl ToPath for String {
    fn to_path(&self) -> Result<NsPath, PathError> {
        NsPath::parse(self.as_bytes())
    }
}

impl ToPath for [u8] {
    fn to_path(&self) -> Result<NsPath, PathError> {
        NsPath::parse(self)
    }
}

impl<T: ToPath + ?Sized> ToPath for &T {
    fn to_path(&self) -> Result<NsPath, PathError> {
        (**self).to_path()
    }
}
