//! What can go wrong at a store, by what the caller does about it.

use forebay_base::ErrorKind;
use std::fmt;

/// The result of a store's call.
pub type UfsResult<T> = Result<T, UfsError>;

/// Why a store's call failed. Cheap to clone, so that many who wait for one fetch can all have it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UfsError {
    /// Nothing of that key.
    #[error("{0}")]
    NotFound(Box<Failure>),
    /// The bucket, or the root directory, is missing: nothing is known about any key. A file system that is not mounted looks like this, so
    /// it is never taken for an empty store.
    #[error("{0}")]
    RootMissing(Box<Failure>),
    /// [`crate::PutCondition::IfAbsent`] did not hold, or a file is where a directory should be.
    #[error("{0}")]
    AlreadyExists(Box<Failure>),
    /// The object is not the version asked for: ask for its metadata again.
    #[error("{0}")]
    VersionChanged(Box<Failure>),
    /// The upload is unknown to the store, and the object is not its result.
    #[error("{0}")]
    UploadGone(Box<Failure>),
    /// The request itself is wrong: key, range, option, size of a part.
    #[error("{0}")]
    Invalid(Box<Failure>),
    /// This store has no such operation.
    #[error("{0}")]
    Unsupported(Box<Failure>),
    /// No or wrong credentials, or they do not allow this.
    #[error("{0}")]
    Denied(Box<Failure>),
    /// A directory where a file is needed.
    #[error("{0}")]
    IsADirectory(Box<Failure>),
    /// A file where a directory is needed.
    #[error("{0}")]
    NotADirectory(Box<Failure>),
    /// The directory has entries.
    #[error("{0}")]
    NotEmpty(Box<Failure>),
    /// Down, slow, throttling or full for now; tried several times already.
    #[error("{0}")]
    Unavailable(Box<Failure>),
    /// The store's deadline passed; whether a write took effect is not known.
    #[error("{0}")]
    DeadlineExceeded(Box<Failure>),
    /// The store answered what its protocol does not allow.
    #[error("{0}")]
    Protocol(Box<Failure>),
}

/// Where and what failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was tried, as in "cannot read".
    pub operation: &'static str,
    /// The store's URI.
    pub store: String,
    /// The key, as text; empty when the failure is not about one key.
    pub key: String,
    /// Why, in the store's words where it has some.
    pub detail: String,
    /// What mends it; may be empty.
    pub hint: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.operation, self.store)?;
        if !self.key.is_empty() {
            let slash = if self.store.ends_with('/') { "" } else { "/" };
            write!(f, "{slash}{}", self.key)?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl UfsError {
    /// Where and what failed.
    pub fn failure(&self) -> &Failure {
        match self {
            UfsError::NotFound(failure)
            | UfsError::RootMissing(failure)
            | UfsError::AlreadyExists(failure)
            | UfsError::VersionChanged(failure)
            | UfsError::UploadGone(failure)
            | UfsError::Invalid(failure)
            | UfsError::Unsupported(failure)
            | UfsError::Denied(failure)
            | UfsError::IsADirectory(failure)
            | UfsError::NotADirectory(failure)
            | UfsError::NotEmpty(failure)
            | UfsError::Unavailable(failure)
            | UfsError::DeadlineExceeded(failure)
            | UfsError::Protocol(failure) => failure,
        }
    }

    /// What mends it; may be empty.
    pub fn hint(&self) -> &str {
        &self.failure().hint
    }

    /// What a caller of Forebay can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            UfsError::NotFound(_) => ErrorKind::NotFound,
            UfsError::AlreadyExists(_) => ErrorKind::AlreadyExists,
            UfsError::VersionChanged(_) | UfsError::UploadGone(_) => ErrorKind::Conflict,
            UfsError::Invalid(_) | UfsError::Unsupported(_) => ErrorKind::InvalidArgument,
            UfsError::Denied(_) => ErrorKind::PermissionDenied,
            UfsError::IsADirectory(_) => ErrorKind::IsADirectory,
            UfsError::NotADirectory(_) => ErrorKind::NotADirectory,
            UfsError::NotEmpty(_) => ErrorKind::NotEmpty,
            UfsError::RootMissing(_) | UfsError::Unavailable(_) => ErrorKind::Unavailable,
            UfsError::DeadlineExceeded(_) => ErrorKind::DeadlineExceeded,
            UfsError::Protocol(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, UfsError::Unavailable(_) | UfsError::DeadlineExceeded(_))
    }
}
