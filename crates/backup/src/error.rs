//! What can go wrong, by what is done about it.

use forebay_base::ErrorKind;
use forebay_ufs::UfsError;
use std::io;
use std::path::PathBuf;

/// Why a backup was not made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store of the backups fails.
    #[error(transparent)]
    Store(#[from] UfsError),
    /// A local file cannot be read or written.
    #[error("cannot {what} {path:?}: {source}")]
    Local {
        /// The action.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A newer version wrote the backup.
    #[error("backup {id} has format {found}, this version reads up to {known}: use a newer version")]
    Newer {
        /// Which.
        id: String,
        /// Its format.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// What is stored is not what was stored.
    #[error("{what}")]
    Damaged {
        /// Which bytes, and what is wrong.
        what: String,
    },
    /// There is no such backup.
    #[error("{what}")]
    NotFound {
        /// What is missing.
        what: String,
    },
    /// More than one is meant, or none can be.
    #[error("{what}")]
    Unclear {
        /// What is, and what to write.
        what: String,
    },
    /// It was given up.
    #[error("the backup was given up: {why}")]
    GivenUp {
        /// Why.
        why: String,
    },
}

impl BackupError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            BackupError::Store(error) => error.kind(),
            BackupError::Local { .. } | BackupError::GivenUp { .. } => ErrorKind::Unavailable,
            BackupError::Newer { .. } | BackupError::Unclear { .. } => ErrorKind::InvalidArgument,
            BackupError::Damaged { .. } => ErrorKind::Corrupt,
            BackupError::NotFound { .. } => ErrorKind::NotFound,
        }
    }

    /// What mends it; may be empty.
    pub fn hint(&self) -> &str {
        match self {
            BackupError::Store(error) => error.hint(),
            BackupError::Damaged { .. } => {
                "use another backup; `forebay backup create --full` makes one that relies on nothing stored before"
            }
            BackupError::NotFound { .. } | BackupError::Unclear { .. } => {
                "see what there is with `forebay backup list --to URI`"
            }
            _ => "",
        }
    }

    pub(crate) fn local(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> BackupError {
        let path = path.into();
        move |source| BackupError::Local { what, path, source }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> BackupError {
        BackupError::Damaged { what: what.into() }
    }
}

/// A thread for blocking work that ended is as good as the end of the process.
pub(crate) fn ended(error: tokio::task::JoinError) -> BackupError {
    BackupError::GivenUp { why: format!("the work was stopped: {error}") }
}
