//! What can go wrong in a store.

use forebay_base::ErrorKind;
use std::path::PathBuf;

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What can go wrong in a store. None of these is the fault of the request that met it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file system refused (full, read-only, broken).
    #[error("metadata store {directory:?}: {what}")]
    Io {
        /// Where the store is.
        directory: PathBuf,
        /// What the system said.
        what: String,
    },
    /// Another process, or this one, has the store open.
    #[error("metadata store {0:?} is in use by another process: stop that one first")]
    InUse(PathBuf),
    /// A newer version of Forebay wrote this directory. Nothing in it was touched.
    #[error(
        "metadata store {directory:?} has format {found}, this version reads up to {supported}: use a newer version"
    )]
    NewerFormat {
        /// Where the store is.
        directory: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version can read.
        supported: u32,
    },
    /// Bytes on disk do not match their checksum or format.
    #[error("metadata store {directory:?} is damaged: {what}")]
    Corrupt {
        /// Where the store is.
        directory: PathBuf,
        /// What was found.
        what: String,
    },
}

impl StoreError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Io { .. } | StoreError::InUse(_) => ErrorKind::Unavailable,
            StoreError::NewerFormat { .. } => ErrorKind::InvalidArgument,
            StoreError::Corrupt { .. } => ErrorKind::Corrupt,
        }
    }
}
