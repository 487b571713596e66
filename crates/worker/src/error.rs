//! What can go wrong: at the start, and while a request is served.

use forebay_base::{ErrorKind, MountId};
use forebay_proto::error::WireError;
use forebay_proto::frame::{ErrorHead, FrameError};
use forebay_proto::ticket::TicketError;
use forebay_ufs::UfsError;
use std::io;
use std::path::PathBuf;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot work.
    #[error("{0}")]
    Settings(String),
    /// The page store does not open.
    #[error(transparent)]
    Cache(#[from] forebay_cache::OpenError),
    /// An address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The worker's directory cannot be used.
    #[error("cannot use {path}: {source}")]
    DataDir {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StartError::Settings(_) => ErrorKind::InvalidArgument,
            StartError::Cache(error) => error.kind(),
            StartError::Listen { .. } => ErrorKind::Unavailable,
            StartError::DataDir { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                io::ErrorKind::InvalidData => ErrorKind::Corrupt,
                _ => ErrorKind::Unavailable,
            },
        }
    }
}

/// Why a request fails. Cheap to clone: all who wait for one fetch get its error.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The ticket is not good.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The ticket is good, but not for this.
    #[error("the ticket does not allow to {0}")]
    NotAllowed(&'static str),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] UfsError),
    /// The ticket names a mount that the masters have not told us of.
    #[error("mount {0} is not known to this worker")]
    UnknownMount(MountId),
    /// What came over the wire is not what was sent.
    #[error("{0} arrived damaged: its checksum does not match")]
    DamagedInTransit(String),
    /// Nothing can make room for what is to be cached.
    #[error("the cache has no space for the range; it can be read, not kept")]
    NoSpace,
    /// We cannot just now.
    #[error("{0}")]
    Unavailable(String),
    /// Our own defect.
    #[error("{0}")]
    Internal(String),
}

impl RequestError {
    /// What a caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            RequestError::Ticket(_) | RequestError::NotAllowed(_) => ErrorKind::PermissionDenied,
            RequestError::Invalid(_) => ErrorKind::InvalidArgument,
            // The ticket said that the file is there: what the master knows is out of date.
            RequestError::Store(UfsError::NotFound(_)) => ErrorKind::Conflict,
            RequestError::Store(error) => error.kind(),
            RequestError::UnknownMount(_)
            | RequestError::DamagedInTransit(_)
            | RequestError::NoSpace
            | RequestError::Unavailable(_) => ErrorKind::Unavailable,
            RequestError::Internal(_) => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> &str {
        match self {
            RequestError::Ticket(_) => "open the file again; if it stays so, compare the clocks of masters and workers",
            RequestError::Store(error) => error.hint(),
            RequestError::UnknownMount(_) => "retry: the masters tell workers of new mounts soon",
            RequestError::DamagedInTransit(_) => "send it again",
            RequestError::NoSpace => {
                "raise the quotas of worker.tiers, look whether other data fills their disks (forebay status), or load less at the same time (--parallel)"
            }
            _ => "",
        }
    }

    /// The error as the data plane carries it.
    pub(crate) fn head(&self) -> ErrorHead {
        ErrorHead { kind: self.kind().code(), message: self.to_string(), hint: self.hint().to_owned() }
    }

    /// The error as the control plane carries it.
    pub(crate) fn wire(&self) -> WireError {
        WireError::new(self.kind(), self.to_string()).with_hint(self.hint())
    }
}

/// Why a data connection ends. Nobody can be told but the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The socket failed, or the peer has gone.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer does not speak our protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer took or sent nothing for too long.
    #[error("the peer has stalled for {0:?}")]
    Stalled(std::time::Duration),
    /// The peer takes or sends, but so slowly that it would hold memory for ever.
    #[error("the peer has not taken or sent {len} bytes in {time:?}")]
    Slow {
        /// Of the body.
        len: u64,
        /// What it was given.
        time: std::time::Duration,
    },
    /// The cached file under a frame that has begun failed; the rest of its body cannot be sent.
    #[error("cached bytes of {0} cannot be read")]
    Source(forebay_base::FileId),
}
