//! Makes errors: every store keeps one of these and asks it.

use crate::{Failure, UfsError};
use std::sync::Arc;

/// The store's side of an error's text.
#[derive(Clone, Debug)]
pub(crate) struct Failures {
    store: Arc<str>,
}

/// One call that may fail: what is tried, on which key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    failures: &'a Failures,
    operation: &'static str,
    key: &'a [u8],
}

impl Failures {
    pub(crate) fn new(uri: &str) -> Failures {
        Failures { store: uri.into() }
    }

    pub(crate) fn uri(&self) -> &str {
        &self.store
    }

    pub(crate) fn at<'a>(&'a self, operation: &'static str, key: &'a [u8]) -> At<'a> {
        At { failures: self, operation, key }
    }
}

/// Builds one variant.
pub(crate) type Variant = fn(Box<Failure>) -> UfsError;

impl<'a> At<'a> {
    pub(crate) fn key(&self) -> &'a [u8] {
        self.key
    }

    /// An error with what mends it.
    pub(crate) fn fail(&self, variant: Variant, detail: impl Into<String>, hint: impl Into<String>) -> UfsError {
        variant(Box::new(Failure {
            operation: self.operation,
            store: self.failures.store.to_string(),
            key: String::from_utf8_lossy(self.key).into_owned(),
            detail: detail.into(),
            hint: hint.into(),
        }))
    }

    pub(crate) fn not_found(&self) -> UfsError {
        self.fail(UfsError::NotFound, "no such object", "")
    }

    pub(crate) fn exists(&self) -> UfsError {
        self.fail(UfsError::AlreadyExists, "it exists already", "")
    }

    pub(crate) fn changed(&self, detail: impl Into<String>) -> UfsError {
        self.fail(UfsError::VersionChanged, detail, "ask for its metadata again")
    }

    pub(crate) fn upload_gone(&self) -> UfsError {
        self.fail(
            UfsError::UploadGone,
            "the store does not know the upload, and the object is not its result",
            "write the file again",
        )
    }

    pub(crate) fn invalid(&self, detail: impl Into<String>) -> UfsError {
        self.fail(UfsError::Invalid, detail, "")
    }

    /// The key, checked.
    pub(crate) fn check_key(&self) -> Result<(), UfsError> {
        crate::key::check(self.key).map_err(|why| self.invalid(why))
    }

    /// The key of a file, checked: the root is none.
    pub(crate) fn check_file_key(&self) -> Result<(), UfsError> {
        if self.key.is_empty() {
            return Err(self.fail(UfsError::IsADirectory, "the root is a directory", ""));
        }
        self.check_key()
    }

    /// Checks a range against the object's length.
    pub(crate) fn check_range(&self, range: &std::ops::Range<u64>, length: u64) -> Result<(), UfsError> {
        if range.start <= range.end && range.end <= length {
            return Ok(());
        }
        Err(self
            .invalid(format!("range {}..{} does not lie in the {length} bytes of the object", range.start, range.end)))
    }

    /// Checks that parts are numbered upwards and there is at least one.
    pub(crate) fn check_parts(&self, parts: &[crate::UploadedPart]) -> Result<(), UfsError> {
        if parts.is_empty() {
            return Err(self.invalid("an upload needs at least one part"));
        }
        if parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
            return Err(self.invalid("the parts of an upload must be in ascending order"));
        }
        Ok(())
    }
}
