//! The few kinds of error that a caller can act on. Every crate's own error maps to one of these.

use std::fmt;

/// What a caller can do about an error. Kept small on purpose: a new kind must change what callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing asked for does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// The request itself is wrong: repeating it cannot help.
    InvalidArgument,
    /// The caller may not do this.
    PermissionDenied,
    /// A directory where a file was needed.
    IsADirectory,
    /// A file where a directory was needed.
    NotADirectory,
    /// The directory has entries.
    NotEmpty,
    /// Somebody changed the thing in the meantime: read it again, then retry.
    Conflict,
    /// Something is down, slow or full for now: the same request may work later.
    Unavailable,
    /// The deadline passed; whether the request took effect is not known.
    DeadlineExceeded,
    /// Stored bytes do not match their checksum or format.
    Corrupt,
    /// A defect of Forebay.
    Internal,
}

impl ErrorKind {
    /// Every kind, in declaration order.
    pub const ALL: [ErrorKind; 12] = [
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::InvalidArgument,
        ErrorKind::PermissionDenied,
        ErrorKind::IsADirectory,
        ErrorKind::NotADirectory,
        ErrorKind::NotEmpty,
        ErrorKind::Conflict,
        ErrorKind::Unavailable,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Corrupt,
        ErrorKind::Internal,
    ];

    /// The stable number of the kind in wire messages and stored replies.
    pub const fn code(self) -> u32 {
        match self {
            ErrorKind::NotFound => 1,
            ErrorKind::AlreadyExists => 2,
            ErrorKind::InvalidArgument => 3,
            ErrorKind::PermissionDenied => 4,
            ErrorKind::IsADirectory => 5,
            ErrorKind::NotADirectory => 6,
            ErrorKind::NotEmpty => 7,
            ErrorKind::Conflict => 8,
            ErrorKind::Unavailable => 9,
            ErrorKind::DeadlineExceeded => 10,
            ErrorKind::Corrupt => 11,
            ErrorKind::Internal => 12,
        }
    }

    /// The kind of a wire number; an unknown one (from a newer peer) is [`ErrorKind::Internal`].
    pub fn from_code(code: u32) -> ErrorKind {
        Self::ALL.into_iter().find(|kind| kind.code() == code).unwrap_or(ErrorKind::Internal)
    }

    /// The name of the kind as scripts see it, e.g. `not_found`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not_found",
            ErrorKind::AlreadyExists => "already_exists",
            ErrorKind::InvalidArgument => "invalid_argument",
            ErrorKind::PermissionDenied => "permission_denied",
            ErrorKind::IsADirectory => "is_a_directory",
            ErrorKind::NotADirectory => "not_a_directory",
            ErrorKind::NotEmpty => "not_empty",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::DeadlineExceeded => "deadline_exceeded",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_return() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), kind);
        }
        assert_eq!(ErrorKind::from_code(9999), ErrorKind::Internal);
    }
}
