//! From the errors of the lower crates to the one on the wire; each in one function.

use forebay_base::{ErrorKind, PathError};
use forebay_consensus::{ChangeError, ConsensusError};
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
            error: WireError::new(refusal.error_kind(), refusal.message).with_hint(refusal.hint),
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
        ConsensusError::Failed { .. } => "see the log of the master".to_owned(),
        ConsensusError::Stopped { .. } => "start the master again; its log says why it stopped".to_owned(),
    };
    let leader = match &error {
        ConsensusError::NotLeader { leader: Some(leader) } => leader.address.clone(),
        _ => String::new(),
    };
    WireError::new(error.kind(), error.to_string()).with_hint(hint).with_leader(leader)
}

/// The errors of changes of the masters.
pub(crate) fn change_error(error: ChangeError) -> WireError {
    let hint = match &error {
        ChangeError::NotLeader { leader: Some(leader) } => format!("ask {}", leader.address),
        ChangeError::NotLeader { leader: None } => "ask again when a leader is known".to_owned(),
        ChangeError::Refused { .. } => "see how the masters are with `forebay masters list`".to_owned(),
        ChangeError::Unreachable { .. } => "check the address, and that a master runs there".to_owned(),
        ChangeError::Unknown { .. } => "look at `forebay masters list` before asking again".to_owned(),
    };
    let leader = match &error {
        ChangeError::NotLeader { leader: Some(leader) } => leader.address.clone(),
        _ => String::new(),
    };
    let told = WireError::new(error.kind(), error.to_string()).with_hint(hint).with_leader(leader);
    match error {
        // Who asks decides whether it is worth another attempt.
        ChangeError::Unreachable { .. } => told.as_last_word(),
        _ => told,
    }
}

/// The state's errors.
pub(crate) fn state_error(error: ApplyError) -> WireError {
    let kind = match &error {
        ApplyError::Store(error) => error.kind(),
        ApplyError::UnreadableCommand(_) | ApplyError::NewerFormat { .. } | ApplyError::ClusterVersion { .. } => {
            ErrorKind::Internal
        }
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
