//! What can go wrong, by what the caller does about it.

use std::io;
use std::path::PathBuf;

use forebay_base::ErrorKind;

use crate::settings::{Member, MemberId};

/// Why a proposal or a read barrier failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Another member leads, or none that is known. Nothing was changed; ask that one.
    #[error("not the leader; the leader is {}", leader.as_ref().map_or("not known yet", |l| l.address.as_str()))]
    NotLeader {
        /// The leader, when known.
        leader: Option<Member>,
    },
    /// Whether the command takes effect is not known: propose it again with the same request id.
    #[error("the outcome is not known: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The command is longer than the log takes. Nothing was changed.
    #[error("a command of {length} bytes is over the limit of {limit} bytes; split it")]
    TooLarge {
        /// Bytes of the command.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The disk or the state machine refused; the member goes on.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// This member has stopped: it was shut down, or its log or state machine failed and the process must end.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl ConsensusError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ConsensusError::NotLeader { .. } => ErrorKind::Unavailable,
            ConsensusError::Unknown { .. } => ErrorKind::Unavailable,
            ConsensusError::TooLarge { .. } => ErrorKind::InvalidArgument,
            ConsensusError::Failed { .. } | ConsensusError::Stopped { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why a change of the group's members was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another member leads, or none that is known. Ask that one.
    #[error("not the leader; the leader is {}", leader.as_ref().map_or("not known yet", |l| l.address.as_str()))]
    NotLeader {
        /// The leader, when known.
        leader: Option<Member>,
    },
    /// It would do harm, or cannot be done now. The group is as before.
    #[error("the group stays as it is: {reason}")]
    Refused {
        /// Why, and what mends it.
        reason: String,
    },
    /// The one that is to be taken in does not answer. The group is as before.
    #[error("the group stays as it is: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// Whether it was made is not known: look at the members, and ask again.
    #[error("the outcome is not known: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

impl ChangeError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ChangeError::NotLeader { .. } => ErrorKind::Unavailable,
            ChangeError::Refused { .. } => ErrorKind::Conflict,
            ChangeError::Unreachable { .. } | ChangeError::Unknown { .. } => ErrorKind::Unavailable,
        }
    }
}

/// What mends a log whose own files are of no use any more.
const LOST: &str = "one of several masters is rebuilt from the others (`forebay masters rebuild`), never from an older copy of its own files; \
     the only master is started over an empty data directory from its last backup (`--restore-from`)";

/// Why a member cannot start on a directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("{} is in use by another process; stop that one first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer release wrote the directory.
    #[error("{} has log format {found}, this release knows up to {known}; start the newer release", dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The directory belongs to another member.
    #[error("{} belongs to member {found}, not to member {wanted}; check the data directory", dir.display())]
    WrongMember {
        /// The directory.
        dir: PathBuf,
        /// Who wrote it.
        found: MemberId,
        /// Who wants to open it.
        wanted: MemberId,
    },
    /// Stored bytes are damaged where a crash cannot have damaged them.
    #[error("{} is damaged at offset {offset}: {reason}; {LOST}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Files of the log are gone that a crash cannot have taken: what they held may have been acknowledged.
    #[error("log is missing or incomplete in {}: {reason}; put back what was taken away, if it is what was there last; else {LOST}", dir.display())]
    LogMissing {
        /// The directory.
        dir: PathBuf,
        /// How that is known.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation, a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The log engine or the state machine refused to start.
    #[error("cannot start: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
}

impl OpenError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpenError::Locked { .. } => ErrorKind::Unavailable,
            OpenError::NewerFormat { .. } => ErrorKind::InvalidArgument,
            OpenError::WrongMember { .. } => ErrorKind::InvalidArgument,
            OpenError::Corrupt { .. } | OpenError::LogMissing { .. } => ErrorKind::Corrupt,
            OpenError::Io { .. } => ErrorKind::Unavailable,
            OpenError::Start { .. } => ErrorKind::Internal,
        }
    }
}
