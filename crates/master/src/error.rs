//! From the errors of the lower crates to the one on the wire; each in one function.

use forebay_base::{ErrorKind, PathError};
use forebay_consensus::ConsensusError;
use forebay_namespace::{ApplyError, Reason, Refusal};
use forebay_proto::error::WireError;
use forebay_ufs::UfsError;

/// The result of anything that a request may fail at.
pub(crate) type Result<T> = std::result::Result<T, WireError>;

/// Why a command was not done, with the cause where a handler acts on it.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) error: WireError,
    pub(crate) reason: Reason,
}

impl From<Refused> for WireError {
    fn from(refused: Refused) -> WireError {
        refused.error
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused {
            reason: refusal.reason(),
            error: WireError { kind: refusal.error_kind(), message: refusal.message, hint: refusal.hint },
        }
    }
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Refused {
        Refused { error, reason: Reason::Plain }
    }
}

/// The log's errors.
pub(crate) fn log_error(error: ConsensusError) -> WireError {
    let hint = match &error {
        ConsensusError::NotLeader { leader: Some(leader) } => format!("ask {}", leader.address),
        ConsensusError::NotLeader { leader: None } | ConsensusError::Unknown { .. } => {
            "send the same request again".to_owned()
        }
        ConsensusError::TooLarge { .. } => "make the request smaller".to_owned(),
        ConsensusError::Stopped { .. } => "start the master again; its log says why it stopped".to_owned(),
    };
    WireError::new(error.kind(), error.to_string()).with_hint(hint)
}

/// The state's errors.
pub(crate) fn state_error(error: ApplyError) -> WireError {
    let kind = match &error {
        ApplyError::Store(error) => error.kind(),
        ApplyError::UnreadableCommand(_) | ApplyError::NewerFormat { .. } => ErrorKind::Internal,
        ApplyError::Corrupt(_) => ErrorKind::Corrupt,
    };
    tracing::error!(%error, "the state cannot be read");
    WireError::new(kind, error.to_string())
}

/// A store's errors.
pub(crate) fn store_error(error: UfsError) -> WireError {
    WireError::new(error.kind(), error.to_string()).with_hint(error.hint())
}

/// A path that is none.
pub(crate) fn path_error(error: PathError) -> WireError {
    WireError::new(ErrorKind::InvalidArgument, error.to_string())
}

/// Nothing at a path.
pub(crate) fn not_found(path: &forebay_base::NsPath) -> WireError {
    WireError::new(ErrorKind::NotFound, format!("no file or directory {path}"))
}

/// The request itself is wrong.
pub(crate) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> WireError {
    WireError::new(ErrorKind::InvalidArgument, message).with_hint(hint)
}

/// A defect of ours.
pub(crate) fn internal(message: impl Into<String>) -> WireError {
    let message = message.into();
    tracing::error!(message, "defect");
    WireError::new(ErrorKind::Internal, message)
}
