//! Why a request to one worker failed. Each variant is something else to do.

use crate::error::Error;
use crate::workers::health::Cost;
use forebay_base::{ErrorKind, HumanDuration};
use forebay_proto::error::WireError;
use forebay_proto::frame::{ErrorHead, FrameError};
use std::time::Duration;

/// Why a request to one worker failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No connection, or it broke, or the peer does not speak our frames: ask another worker.
    #[error("{0}")]
    Broken(String),
    /// Nothing came for too long: ask another worker.
    #[error("silent for {}", HumanDuration(*.0))]
    Silent(Duration),
    /// As many connections as are allowed are in use by ourselves: ask another worker, this one has not failed.
    #[error("no connection became free within {}", HumanDuration(*.0))]
    Crowded(Duration),
    /// Bytes come, but next to none: ask another worker.
    #[error("only {bytes} bytes in {}", HumanDuration(*time))]
    Trickle {
        /// That arrived.
        bytes: u64,
        /// Within which.
        time: Duration,
    },
    /// Bytes do not match their checksum: ask the same worker to check its own, then another one.
    #[error("checksum of bytes at {offset} is {found:08x}, expected {expected:08x}")]
    BadChecksum {
        /// Where in the file the piece starts.
        offset: u64,
        /// As computed.
        found: u32,
        /// As sent.
        expected: u32,
    },
    /// The worker answered with an error.
    #[error("{0}")]
    Refused(WireError),
}

impl Fault {
    /// The peer closed the connection.
    pub(crate) fn closed() -> Fault {
        Fault::Broken("connection closed by the worker".to_owned())
    }

    /// What the worker said.
    pub(crate) fn refused(head: ErrorHead) -> Fault {
        Fault::Refused(WireError::new(head.error_kind(), head.message).with_hint(head.hint))
    }

    /// What it cost who asked.
    pub(crate) fn cost(&self) -> Cost {
        match self {
            Fault::Silent(_) | Fault::Trickle { .. } => Cost::Time,
            Fault::Broken(_) | Fault::Crowded(_) | Fault::BadChecksum { .. } | Fault::Refused(_) => Cost::Little,
        }
    }

    /// Whether the same request may work later, at the same worker or another one. What its store refuses, access for one, stays refused.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Fault::Refused(error) => matches!(error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded),
            _ => true,
        }
    }

    /// Whether this, which there was no time left for, says less than what a worker has said `before`: of the store, say.
    pub(crate) fn says_less_than(&self, before: Option<&Fault>) -> bool {
        matches!(before, Some(Fault::Refused(_))) && !matches!(self, Fault::Refused(_))
    }

    /// The fault as an error of the call, when no worker is left to ask.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Fault::Refused(error) => error.into(),
            Fault::BadChecksum { .. } => {
                Error::new(ErrorKind::Corrupt, self.to_string()).with_hint("check the worker's disk and memory")
            }
            Fault::Broken(_) | Fault::Silent(_) | Fault::Crowded(_) | Fault::Trickle { .. } => {
                Error::new(ErrorKind::Unavailable, self.to_string())
            }
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        Fault::Broken(error.to_string())
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Fault {
        Fault::Broken(error.to_string())
    }
}
