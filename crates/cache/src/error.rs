//! Why a page store does not open. Once open it has no errors: what it cannot do is a miss.

use forebay_base::ErrorKind;
use std::{io, path::PathBuf};

/// Why a page store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings cannot work.
    #[error("{0}")]
    Settings(String),
    /// Another process uses the directory.
    #[error("cache directory {0} is in use by another process: stop it, or give this one a directory of its own")]
    Locked(PathBuf),
    /// The directory was written by a newer version; it is left as it is.
    #[error(
        "cache directory {path} has format {found}, this build knows up to {known}: use the newer build, or delete the directory (it holds only cached data)"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The directory holds something that is not a cache; it is left as it is.
    #[error("directory {0} is not empty and is not a cache directory: give the cache a directory of its own")]
    Foreign(PathBuf),
    /// The file system of the directory cannot give back parts of a file.
    #[error(
        "cache directory {path} cannot be used: its file system punches no holes into files ({reason}); use ext4, XFS, Btrfs, F2FS or tmpfs"
    )]
    NoHoles {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        reason: String,
    },
    /// The background threads could not be started.
    #[error("cannot start the page store's threads")]
    Threads(#[source] io::Error),
}

impl OpenError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpenError::Settings(_) | OpenError::Foreign(_) | OpenError::NoHoles { .. } => ErrorKind::InvalidArgument,
            OpenError::Locked(_) => ErrorKind::AlreadyExists,
            OpenError::NewerFormat { .. } => ErrorKind::InvalidArgument,
            OpenError::Threads(_) => ErrorKind::Unavailable,
        }
    }
}
