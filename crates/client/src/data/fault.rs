//! Why a request to one worker failed. Each variant is something else to do.

use crate::error::Error;
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
        Fault::Refused(WireError { kind: head.error_kind(), message: head.message, hint: head.hint })
    }

    /// The fault as an error of the call, when no worker is left to ask.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Fault::Refused(error) => error.into(),
            Fault::BadChecksum { .. } => {
                Error::new(ErrorKind::Corrupt, self.to_string()).with_hint("check the worker's disk and memory")
            }
            Fault::Broken(_) | Fault::Silent(_) => Error::new(ErrorKind::Unavailable, self.to_string()),
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
