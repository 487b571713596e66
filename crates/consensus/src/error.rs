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
            ConsensusError::Stopped { .. } => ErrorKind::Unavailable,
        }
    }
}

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
    #[error("{} is damaged at offset {offset}: {reason}; rebuild this member from the others or from a backup", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
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
            OpenError::Corrupt { .. } => ErrorKind::Corrupt,
            OpenError::Io { .. } => ErrorKind::Unavailable,
            OpenError::Start { .. } => ErrorKind::Internal,
        }
    }
}
