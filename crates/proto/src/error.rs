//! Errors over gRPC: a status whose details hold kind, message and hint.

use crate::v1::ErrorDetail;
use forebay_base::ErrorKind;
use prost::Message;
use tonic::{Code, Status};

/// An error as it crosses the wire, on either side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// What failed, with which value.
    pub message: String,
    /// What mends it; may be empty.
    pub hint: String,
}

impl WireError {
    /// An error without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> WireError {
        WireError { kind, message: message.into(), hint: String::new() }
    }

    /// Adds what mends it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> WireError {
        self.hint = hint.into();
        self
    }
}

/// The gRPC code of a kind; the details carry the exact kind.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::NotEmpty => Code::FailedPrecondition,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The kind of a status that another program made: tonic itself, a proxy.
fn kind(code: Code) -> ErrorKind {
    match code {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented | Code::FailedPrecondition => {
            ErrorKind::InvalidArgument
        }
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied,
        Code::Aborted => ErrorKind::Conflict,
        Code::Unavailable | Code::ResourceExhausted => ErrorKind::Unavailable,
        Code::DeadlineExceeded | Code::Cancelled => ErrorKind::DeadlineExceeded,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Internal,
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Status {
        let (code, message) = (code(error.kind), error.message.clone());
        Status::with_details(code, message, ErrorDetail::from(error).encode_to_vec().into())
    }
}

impl From<WireError> for ErrorDetail {
    fn from(error: WireError) -> ErrorDetail {
        ErrorDetail { kind: error.kind.code(), message: error.message, hint: error.hint }
    }
}

impl From<ErrorDetail> for WireError {
    fn from(detail: ErrorDetail) -> WireError {
        WireError { kind: ErrorKind::from_code(detail.kind), message: detail.message, hint: detail.hint }
    }
}

impl From<&Status> for WireError {
    fn from(status: &Status) -> WireError {
        match ErrorDetail::decode(status.details()) {
            Ok(detail) if detail.kind != 0 => detail.into(),
            _ => WireError::new(kind(status.code()), status.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_crosses_the_wire() {
        for kind in ErrorKind::ALL {
            let error = WireError::new(kind, "cannot read /a").with_hint("mount it");
            assert_eq!(WireError::from(&Status::from(error.clone())), error);
        }
    }

    #[test]
    fn foreign_statuses_have_a_kind() {
        let error = WireError::from(&Status::unavailable("connection refused"));
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "connection refused"));
    }
}
