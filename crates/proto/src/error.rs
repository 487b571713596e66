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
    /// Asking again soon is no use, also where the kind says that it may work later.
    pub last_word: bool,
    /// `host:port` of the master to ask instead; empty where that is not what it is about, or not known.
    pub leader: String,
    /// Of a read: the last entry of the log that this answer can know of; 0 where it knows of none.
    pub index: u64,
}

impl WireError {
    /// An error without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> WireError {
        let (hint, leader) = (String::new(), String::new());
        WireError { kind, message: message.into(), hint, last_word: false, leader, index: 0 }
    }

    /// Adds what mends it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> WireError {
        self.hint = hint.into();
        self
    }

    /// Names the master to ask instead.
    pub fn with_leader(mut self, address: impl Into<String>) -> WireError {
        self.leader = address.into();
        self
    }

    /// Says up to where the log was known when this was answered to a read.
    pub fn at_index(mut self, index: u64) -> WireError {
        self.index = index;
        self
    }

    /// Tells the caller not to ask again by itself.
    pub fn as_last_word(mut self) -> WireError {
        self.last_word = true;
        self
    }
}

/// A worker's cache belongs to one cluster and the masters are another one: the same inodes are other files there, and clients would be served wrong bytes.
pub fn other_cluster(cache: &str, masters: &str) -> WireError {
    let message = format!("the worker's cache belongs to cluster {cache}, the masters are cluster {masters}");
    WireError::new(ErrorKind::Conflict, message)
        .with_hint("stop the worker, empty its data directory and the directories of its tiers, and start it again")
        .as_last_word()
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

/// The status of who has as much to do as it takes on: nothing has failed, and the same request is welcome a little later.
pub fn busy(message: impl Into<String>) -> Status {
    let error = WireError::new(ErrorKind::Unavailable, message);
    let message = error.message.clone();
    Status::with_details(Code::ResourceExhausted, message, ErrorDetail::from(error).encode_to_vec().into())
}

/// Whether a status was made by [`busy`]. Transports use its code too, without details.
pub fn is_busy(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && !status.details().is_empty()
}

impl From<WireError> for ErrorDetail {
    fn from(error: WireError) -> ErrorDetail {
        ErrorDetail {
            kind: error.kind.code(),
            message: error.message,
            hint: error.hint,
            last_word: error.last_word,
            leader: error.leader,
            index: error.index,
        }
    }
}

impl From<ErrorDetail> for WireError {
    fn from(detail: ErrorDetail) -> WireError {
        WireError {
            kind: ErrorKind::from_code(detail.kind),
            message: detail.message,
            hint: detail.hint,
            last_word: detail.last_word,
            leader: detail.leader,
            index: detail.index,
        }
    }
}

impl From<&Status> for WireError {
    fn from(status: &Status) -> WireError {
        match ErrorDetail::decode(status.details()) {
            Ok(detail) if detail.kind != 0 => detail.into(),
            _ if status.code() == Code::Unimplemented => {
                let message = "this is not supported by this cluster until it is upgraded: the release that was asked does not know the request, unless what was asked is no master's port";
                WireError::new(kind(status.code()), message)
            }
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
            for error in [error.clone(), error.clone().as_last_word(), error.with_leader("a:1").at_index(7)] {
                assert_eq!(WireError::from(&Status::from(error.clone())), error);
            }
        }
    }

    #[test]
    fn who_is_busy_is_neither_broken_nor_a_transport() {
        let status = busy("as many loads as it may have");
        assert!(is_busy(&status) && WireError::from(&status).kind == ErrorKind::Unavailable);
        assert!(!is_busy(&Status::resource_exhausted("message too large")));
        assert!(!is_busy(&WireError::new(ErrorKind::Unavailable, "stopping").into()));
    }

    #[test]
    fn foreign_statuses_have_a_kind() {
        let error = WireError::from(&Status::unavailable("connection refused"));
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "connection refused"));
    }
}
