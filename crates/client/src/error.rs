//! The one error of this crate.

use forebay_base::{ErrorKind, HumanDuration, PathError};
use forebay_proto::error::WireError;
use forebay_ufs::UfsError;
use std::{fmt, sync::Arc, time::Duration};

/// What calls of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. Programs look at [`kind`](Error::kind); people read the message and the hint.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: String::new(), source: None }
    }

    /// Adds what mends it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = hint.into();
        self
    }

    /// Adds what caused it.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Arc::new(source));
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed, with which value.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What mends it; empty when nothing is known.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// The same error, and what else was tried in vain.
    pub(crate) fn and(mut self, what: &str, other: &Error) -> Error {
        self.message = format!("{}; {what}: {}", self.message, other.message);
        self.hint = match (self.hint.as_str(), other.hint.as_str()) {
            ("", hint) | (hint, "") => hint.to_owned(),
            (hint, more) => format!("{hint}; or {more}"),
        };
        self
    }

    /// The same error of what was tried for so long.
    pub fn within(mut self, deadline: Duration) -> Error {
        self.message = format!("not within {}: {}", HumanDuration(deadline), self.message);
        self
    }

    /// The same error said from further away: `context: message`.
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Error {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Error {
        Error { kind: error.kind, message: error.message, hint: error.hint, source: None }
    }
}

impl From<UfsError> for Error {
    fn from(error: UfsError) -> Error {
        Error::new(error.kind(), error.to_string()).with_hint(error.hint()).with_source(error)
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Error {
        Error::new(ErrorKind::InvalidArgument, error.to_string())
    }
}

impl From<Error> for std::io::Error {
    /// For the adapters to `AsyncRead` and `AsyncWrite`; the [`Error`] is its source.
    fn from(error: Error) -> std::io::Error {
        std::io::Error::new(io_kind(error.kind), error)
    }
}

fn io_kind(kind: ErrorKind) -> std::io::ErrorKind {
    use std::io::ErrorKind as Io;
    match kind {
        ErrorKind::NotFound => Io::NotFound,
        ErrorKind::AlreadyExists => Io::AlreadyExists,
        ErrorKind::InvalidArgument => Io::InvalidInput,
        ErrorKind::PermissionDenied => Io::PermissionDenied,
        ErrorKind::IsADirectory => Io::IsADirectory,
        ErrorKind::NotADirectory => Io::NotADirectory,
        ErrorKind::NotEmpty => Io::DirectoryNotEmpty,
        ErrorKind::Conflict => Io::StaleNetworkFileHandle,
        ErrorKind::Unavailable => Io::HostUnreachable,
        ErrorKind::DeadlineExceeded => Io::TimedOut,
        ErrorKind::Corrupt => Io::InvalidData,
        ErrorKind::Internal => Io::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_that_came_over_the_wire() {
        let error = Error::from(WireError::new(ErrorKind::NotFound, "no /a").with_hint("mount it"));
        assert_eq!((error.kind(), error.message(), error.hint()), (ErrorKind::NotFound, "no /a", "mount it"));
        let io = std::io::Error::from(error.context("cannot read"));
        assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
        assert_eq!(io.to_string(), "cannot read: no /a");
    }
}
