//! Backups of the masters' state: what one consists of, and how it is sent to a store, listed, checked, and fetched again.
//!
//! A backup is a copy of the state's files as of one entry of the log ([`Manifest`] names them by their SHA-256) below a directory of a store
//! ([`Target`]). Files that the target has already are not sent again. The manifest comes last, so what has one is whole (but see below); what has none is
//! swept by a later backup. docs/formats/backup.md has the bytes.
//!
//! The hard problem is a master that led until just now and does not know it yet: it may send or sweep while the next one does. So each asks whether it
//! still leads before it changes anything ([`Still`]); young files are never swept; who sweeps looks for new manifests just before each delete; and who
//! has put a manifest looks once more whether its files are there, while it has the copy that can replace them.
//!
//! That leaves two moments in which a sweep by another master can take files of a backup that stays listed: when the one that put its manifest ends before it
//! has looked once more (by a crash, since its lead is over, which ends it where it is, or with a store that does not let it take the manifest back), and when a
//! delete is under way for longer than the other one takes to put its manifest and look. Both need two that believe that they lead, and files that are old and
//! of no backup but the new one. [`verify()`] finds such a backup, and [`fetch()`] refuses it.
//!
//! Memory: who sends has one part of a file, and the names of all files that the target has of the cluster; who fetches, a chunk of each of the few files
//! that are on their way. Who sweeps has the names of the target's files and, apart from those, the names of the files of all its backups, each once. The
//! list has all manifests of all clusters. Sixteen manifests are read at a time; one has some 130 bytes for each file, and at most 64 MiB. A directory has at
//! most a million entries.

mod catalog;
mod error;
mod fetch;
mod manifest;
mod send;
mod sweep;
mod target;
mod verify;

pub use catalog::{Listed, Rank, find, list};
pub use error::BackupError;
pub use fetch::fetch;
pub use manifest::{BackupFile, BackupId, Manifest};
pub use send::{OnProgress, Progress, Sending, Sent};
pub use sweep::{Still, Swept, sweep};
pub use target::Target;
pub use verify::{Verified, check_position, verify};

/// The result of anything about backups.
pub type Result<T> = std::result::Result<T, BackupError>;
